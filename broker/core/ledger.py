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
    """One outstanding permit for each key. ``remaining`` None: not known in this boot.

    ``told_concurrency`` is Discord's last word on ``max_concurrency``. Another number means
    other keys, and permits that did not share a key may share one then; so it is taken over
    once no permit is outstanding, and none is granted until it is.
    """

    window_s: float
    max_concurrency: int = 1
    told_concurrency: int = 0
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
        if self._changes:
            lapses = [permit.lapses_at for permit in self.permits.values()]
            return max(lapses) + self.window_s + MARGIN_S
        permit = self.permits.get(key)
        if permit is not None:
            return permit.lapses_at + self.window_s + MARGIN_S
        return self.free_at.get(key, self.floor_at)

    def grant(self, shard: int, node: str, epoch: int, now: float) -> Permit | None:
        """A permit, where the key is free and the budget allows it."""
        key = self.key(shard)
        if self._changes or not self.remaining or key in self.permits:
            return None
        if self.ready_at(key) > now:
            return None
        self.remaining -= 1
        permit = Permit(self.next_number, shard, node, epoch, now, now + USE_WITHIN_S)
        self.permits[key] = permit
        self.next_number += 1
        return permit

    def held(self, shard: int, node: str, epoch: int) -> Permit | None:
        """The permit that this process holds for the shard already."""
        permit = self.permits.get(self.key(shard))
        if permit is None or (permit.shard, permit.node, permit.epoch) != (shard, node, epoch):
            return None
        return permit

    def doubt(self, permit: Permit, now: float) -> None:
        """Nobody knows whether a permit was used: it may have been until this moment."""
        self._end(permit, now)

    def sent(self, number: int, shard: int, at: float, now: float) -> None:
        """An IDENTIFY left at ``at``, as its node says; never before its permit's grant."""
        key = self.key(shard)
        permit = self.permits.get(key)
        if permit is not None and permit.number == number:
            self._end(permit, max(at, permit.granted_at))
        else:
            # A permit that has lapsed or whose broker died: the sending counts all the same.
            self._used(key, now)

    def give_back(self, number: int, shard: int) -> bool:
        """A permit that was not used: its key is free at once, its start not spent."""
        key = self.key(shard)
        permit = self.permits.get(key)
        if permit is None or permit.number != number:
            return False
        del self.permits[key]
        if self.remaining is not None:
            self.remaining += 1
        self._settle_keys()
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
        self.told_concurrency = max_concurrency
        self._settle_keys()
        recent = sum(at > asked_at - RECENT_S for at in self.sent_at)
        self.total = total
        self.remaining = max(0, remaining - len(self.permits) - recent)
        self.reset_at = reset_at

    def _end(self, permit: Permit, at: float) -> None:
        key = self.key(permit.shard)
        del self.permits[key]
        self._used(key, at)
        self._settle_keys()

    def _used(self, key: int, at: float) -> None:
        self.sent_at.append(at)
        free_at = at + self.window_s + MARGIN_S
        self.free_at[key] = max(free_at, self.free_at.get(key, self.floor_at))

    @property
    def _changes(self) -> bool:
        """Whether other keys hold as soon as no permit is outstanding."""
        return self.told_concurrency not in (0, self.max_concurrency)

    def _settle_keys(self) -> None:
        """Other keys: which was used last under the new number is not known, so all were."""
        if not self._changes or self.permits:
            return
        self.floor_at = max([self.floor_at, *self.free_at.values()])
        self.free_at = {}
        self.max_concurrency = self.told_concurrency
