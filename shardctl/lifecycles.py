"""How long the processes of nodes may take, and whether shards move by themselves: ``[lifecycle]``
and ``[balance]`` of the settings, and what ``fleet.json`` says of them to the broker
(broker/core/limits.py, broker/core/balance.py) and to the nodes.

    [lifecycle]
    hang_s = 15         # silent, or its event loop blocked, for so long: killed, started again
    lag_s = 1           # an event loop that lags more: "degraded" in `status`
    ready_s = 60        # a new process that is not ready by then leaves the old one in place
    release_s = 5       # the old process gives a shard up within this
    linger = "15m"      # the old process answers its buttons for so long; "never": it ends
    resume_max = "10m"  # older sessions are not resumed
    survivors = "auto"  # nodes that live take the shards of one that is not back soon
    deaf = true         # shards that hear nothing are found, and connected again
    [balance]
    auto = false        # move shards from busy nodes to idle ones without being asked
    every = "10m"       # at most so often
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shardctl.keeping import NEVER, UNITS_MS, length_ms
from shardctl.launch import HANG_S

HANG_MIN_S: Final = 2.0
"""Nodes beat once a second, and a busy machine is late."""
HANG_MAX_S: Final = 3600.0
LAG_S: Final = 1.0
LAG_MIN_S: Final = 0.1
READY_MIN_S: Final = 1.0
READY_MAX_S: Final = 3600.0
RELEASE_MIN_S: Final = 0.5
RELEASE_MAX_S: Final = 60.0
LINGER_MAX_MS: Final = UNITS_MS["h"]
SURVIVORS: Final = ("auto", "always", "never")
RESUME_MAX_MS: Final = UNITS_MS["h"]
BALANCE_MIN_MS: Final = UNITS_MS["m"]
_LENGTHS: Final = {"linger": "linger_s", "resume_max": "resume_max_s"}


def problem(table: Mapping[str, Any]) -> str:
    """What is wrong with hang_s and lag_s together; empty where nothing is."""
    hang_s, lag_s = table.get("hang_s", HANG_S), table.get("lag_s", LAG_S)
    if lag_s < hang_s:
        return ""
    return f"lag_s = {lag_s:g} must be less than hang_s = {hang_s:g}"


def is_linger(value: Any) -> bool:
    """Whether ``linger`` may be this."""
    return value == NEVER or 0 < length_ms(value) <= LINGER_MAX_MS


def is_resume_max(value: Any) -> bool:
    """Whether ``resume_max`` may be this."""
    return value == NEVER or 0 < length_ms(value) <= RESUME_MAX_MS


def is_every(value: Any) -> bool:
    """Whether ``every`` of ``[balance]`` may be this."""
    return length_ms(value) >= BALANCE_MIN_MS


def recorded(table: Mapping[str, Any]) -> dict[str, Any]:
    """``[lifecycle]`` as the launch record has it: lengths in seconds, only what is set."""
    return {
        _LENGTHS.get(key, key): _plain(value) if key in _LENGTHS else value
        for key, value in table.items()
    }


def recorded_balance(table: Mapping[str, Any]) -> dict[str, Any]:
    """``[balance]`` as the launch record has it."""
    found = dict(table)
    if "every" in found:
        found["every_s"] = _plain(found.pop("every"))
    return found


def _plain(value: Any) -> Any:
    return length_ms(value) / 1000 if isinstance(value, str) else value
