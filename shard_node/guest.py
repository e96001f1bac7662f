"""Which events of a guild that another process's shard feeds are new here. Pure.

The feeder says each batch again until it is acknowledged, and names what it said before: so
nothing is handled twice, and nothing is passed over.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

from shard_node.wire.migration import GuildAt

SESSIONS_REMEMBERED: Final = 8
"""Sessions of the shard that are over; what comes of one is late."""


class Fate(enum.Enum):
    """What becomes of an event."""

    NEW = 0
    SEEN = 1
    """It was handled, here or by whoever had the guild before."""
    GAP = 2
    """Something before it has not come."""


class Guest:
    """One guild's events. ``at``: up to where somebody has handled them."""

    def __init__(self, at: GuildAt) -> None:
        self.session, self.seq = at.session, at.seq
        self._over: deque[str] = deque(maxlen=SESSIONS_REMEMBERED)

    @property
    def at(self) -> GuildAt:
        """Up to here."""
        return GuildAt(self.session, self.seq)

    def decide(self, session: str, after: int, seq: int) -> Fate:
        """An event came; ``after`` is the one that the feeder said before it in this session, 0
        for its first. What is NEW counts as handled from here on."""
        if session != self.session:
            return self._other(session, after, seq)
        if seq <= self.seq:
            return Fate.SEEN
        if after > self.seq:
            return Fate.GAP
        self.seq = seq
        return Fate.NEW

    def _other(self, session: str, after: int, seq: int) -> Fate:
        if session in self._over:
            return Fate.SEEN
        if after:
            return Fate.GAP
        if self.session:
            self._over.append(self.session)
        self.session, self.seq = session, seq
        return Fate.NEW
