"""What a node remembers of those that say something to it, so that nothing is handled twice.
Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from shard_node.wire.lanes import Lane

SPAN_MAX: Final = 65_536
"""Numbers of one sender and lane between the lowest without a receipt and the newest."""

Outcome = tuple[str, str] | None
"""None: handled. Else the code and the words of the error."""


class Numbers:
    """What one sender said in one lane: number to None (runs still) or how it ended."""

    __slots__ = ("floor", "newest", "seen")

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Outcome] | None] = {}
        self.floor = 0
        self.newest = 0

    def trim(self, low: int) -> None:
        """Forget what the sender waits for no longer."""
        low = max(low, self.newest - SPAN_MAX)
        if low <= self.floor:
            return
        self.floor = low
        old = []
        for number in self.seen:  # in the order they came: nearly sorted
            if number >= low and len(self.seen) <= SPAN_MAX:
                break
            if number < low:
                old.append(number)
        for number in old:
            del self.seen[number]


class Sender:
    """One process that says something. ``requests`` are correlations seen lately, ``newest``
    the same in the order they came."""

    __slots__ = ("lanes", "newest", "requests")

    def __init__(self) -> None:
        self.lanes = tuple(Numbers() for _ in Lane)
        self.requests: set[int] = set()
        self.newest: deque[int] = deque()


class Guest:
    """A sender that may have ended unheard: no node, or not its newest process. ``heard``: it
    spoke since the last look; ``ttl_ms`` is the longest that it gave a message."""

    __slots__ = ("heard", "quiet_at", "ttl_ms")

    def __init__(self) -> None:
        self.heard, self.quiet_at, self.ttl_ms = True, 0.0, 0
