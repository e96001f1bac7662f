"""How often a peer beats and asks to be let in, and when a silent broker is away. Pure."""

from __future__ import annotations

from typing import Final

from shard_node.wire.limits import BROKER_SILENT_S, HEARTBEAT_INTERVAL_S, HEARTBEAT_LOST_S

REGISTER_FIRST_S: Final = 0.2
"""The first wait, then twice as long: what is sent into a breaking connection is lost."""
REGISTER_TIMEOUT_S: Final = 2.0
SILENT_BEATS: Final = 2.5
"""Of a slow pace: the broker's answers come no more often than it is asked."""


class Pace:
    """``interval_s`` is the time between heartbeats, as the broker said last."""

    __slots__ = ("_register_s", "interval_s")

    def __init__(self) -> None:
        self.interval_s = HEARTBEAT_INTERVAL_S
        self._register_s = REGISTER_FIRST_S

    def told(self, interval_s: float) -> None:
        """The broker says how often to beat."""
        self.interval_s = min(max(HEARTBEAT_INTERVAL_S, interval_s), HEARTBEAT_LOST_S / 2)

    def silent_at(self, heard_at: float) -> float:
        """When a broker that was heard then is away."""
        return heard_at + max(BROKER_SILENT_S, SILENT_BEATS * self.interval_s)

    def register_again_s(self) -> float:
        """How long this attempt waits for its answer; the next one longer."""
        wait_s = self._register_s
        self._register_s = min(2 * wait_s, REGISTER_TIMEOUT_S)
        return wait_s

    def registered(self) -> None:
        """The broker let it in."""
        self._register_s = REGISTER_FIRST_S
