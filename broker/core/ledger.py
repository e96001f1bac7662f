"""The IDENTIFY ledger: which rate-limit key may be used when, and how many are left.

Discord's documentation, Gateway, "Rate limiting" and "Session start limit": one IDENTIFY for
each key (``shard % max_concurrency``) in 5 s, counted here from the sending, and a budget of
session starts; going over it makes Discord reset the bot's token.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MARGIN_S: Final = 0.1
"""On top of the window: the way of an IDENTIFY to Discord is not always equally long."""
USE_WITHIN_S: Final = 30.0
RECENT_S: Final = 2.0
"""An IDENTIFY sent so shortly before Discord's answer may not be counted in it."""


@dataclass(slots=True)
class Permit:
    """The right to IDENTIFY one shard, once. Unused it lapses, and counts as sent then."""

    number: int
    shard: int
    node: str
    epoch: int
    granted_at: float
    lapses_at: float


@dataclass(slots=True)
class Ledger:
    """One outstanding permit for each key. ``remaining`` None: not known in this boot."""

    window_s: float
    max_concurrency: int = 1
    total: int = 0
    remaining: int | None = None
    reset_at: float = 0.0
    next_number: int = 1
    floor_at: float = 0.0
    free_at: dict[int, float] = field(default_factory=dict)
    permits: dict[int, Permit] = field(default_factory=dict)
    sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=1024))

    def key(self, shard: int) -> int:
        """The rate-limit key of a shard."""
        return shard % self.max_concurrency

    def ready_at(self, key: int) -> float:
        """From when a key may be used: its permit lapses, or its window ends."""
        permit = self.permits.get(key)
        if permit is not None:
            return permit.lapses_at + self.window_s + MARGIN_S
        return self.free_at.get(key, self.floor_at)

    def grant(self, shard: int, node: str, epoch: int, now: float) -> Permit | None:
        """A permit, where the key is free and the budget allows it."""
        key = self.key(shard)
        if not self.remaining or key in self.permits or self.ready_at(key) > now:
            return None
        self.remaining -= 1
        permit = Permit(self.next_number, shard, node, epoch, now, now + USE_WITHIN_S)
        self.permits[key] = permit
        self.next_number += 1
        return permit

    def regrant(self, shard: int, node: str, epoch: int, now: float) -> Permit | None:
        """The permit that this process holds for the shard already, with new time."""
        permit = self.permits.get(self.key(shard))
        if permit is None or (permit.shard, permit.node, permit.epoch) != (shard, node, epoch):
            return None
        permit.lapses_at = now + USE_WITHIN_S
        return permit

    def sent(self, number: int, shard: int, at: float, now: float) -> None:
        """An IDENTIFY left at ``at``, as its node says; never before its permit's grant."""
        key = self.key(shard)
        permit = self.permits.get(key)
        if permit is not None and permit.number == number:
            at = max(at, permit.granted_at)
            del self.permits[key]
        else:
            # A permit that has lapsed or whose broker died: the sending counts all the same.
            at = now
        self._used(key, at)

    def give_back(self, number: int, shard: int) -> bool:
        """A permit that was not used: its key is free at once, its start not spent."""
        key = self.key(shard)
        permit = self.permits.get(key)
        if permit is None or permit.number != number:
            return False
        del self.permits[key]
        if self.remaining is not None:
            self.remaining += 1
        return True

    def lapse(self, now: float) -> list[Permit]:
        """Ends the permits whose time is over; each counts as sent at its lapse."""
        lapsed = [permit for permit in self.permits.values() if permit.lapses_at <= now]
        for permit in lapsed:
            self._end(permit, permit.lapses_at)
        return lapsed

    def died(self, node: str, epoch: int, now: float) -> bool:
        """A process is dead: it may have used its permits until this moment."""
        held = [p for p in self.permits.values() if (p.node, p.epoch) == (node, epoch)]
        for permit in held:
            self._end(permit, now)
        return bool(held)

    def learn(
        self, *, total: int, remaining: int, reset_at: float, max_concurrency: int, asked_at: float
    ) -> None:
        """Discord's own count, less what it may not have counted yet."""
        if max_concurrency != self.max_concurrency:
            self._rekey(max_concurrency)
        recent = sum(at > asked_at - RECENT_S for at in self.sent_at)
        self.total = total
        self.remaining = max(0, remaining - len(self.permits) - recent)
        self.reset_at = reset_at

    def _end(self, permit: Permit, at: float) -> None:
        key = self.key(permit.shard)
        del self.permits[key]
        self._used(key, at)

    def _used(self, key: int, at: float) -> None:
        self.sent_at.append(at)
        free_at = at + self.window_s + MARGIN_S
        self.free_at[key] = max(free_at, self.free_at.get(key, self.floor_at))

    def _rekey(self, max_concurrency: int) -> None:
        """Other keys: which was used last under the new number is not known, so all were."""
        held = list(self.permits.values())
        self.floor_at = max([self.floor_at, *self.free_at.values()])
        self.free_at = {}
        self.permits = {}
        self.max_concurrency = max_concurrency
        for permit in held:
            key = self.key(permit.shard)
            other = self.permits.get(key)
            if other is None:
                self.permits[key] = permit
            else:
                other.lapses_at = max(other.lapses_at, permit.lapses_at)
