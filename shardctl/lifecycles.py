"""When a node is given up: ``[lifecycle]`` of the settings, and what ``fleet.json`` says of it to
the broker (broker/core/limits.py) and to the nodes.

    [lifecycle]
    hang_s = 15     # silent, or its event loop blocked, for so long: killed, started again
    lag_s = 1       # an event loop that lags more: "degraded" in `status`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shardctl.launch import HANG_S

HANG_MIN_S: Final = 2.0
"""Nodes beat once a second, and a busy machine is late."""
HANG_MAX_S: Final = 3600.0
LAG_S: Final = 1.0
LAG_MIN_S: Final = 0.1


def problem(table: Mapping[str, Any]) -> str:
    """What is wrong with the two of them together; empty where nothing is."""
    hang_s, lag_s = table.get("hang_s", HANG_S), table.get("lag_s", LAG_S)
    if lag_s < hang_s:
        return ""
    return f"lag_s = {lag_s:g} must be less than hang_s = {hang_s:g}"
