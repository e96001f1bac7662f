"""A person who was forgotten is erased from the log as well: from the payloads of its records.

The rows go with the transaction; the log is long, so it is looked through in pieces while all
else goes on. How far it came is kept, so that a crash does not end it.
"""

from __future__ import annotations

import contextlib
from typing import Final

from broker.core.effects import Effects, Erase
from broker.core.events import Event, Forgotten, StateCommitted
from broker.core.fleet import Fleet
from broker.core.stateport import ERASED, Forgetting
from shard_node.state.erasing import names
from shard_node.state.errors import StateError
from shard_node.state.files import UNREADABLE
from shard_node.state.traces import to_erase
from store.records import Durable

PIECE: Final = 100
"""Records that are looked at in a turn: about a millisecond."""
PIECE_S: Final = 0.005
RETRY_S: Final = 1.0
SAVED_RECORDS: Final = 10_000
"""Records after which it is kept how far it came, where none had to be erased."""


class Forgettings:
    """Persons, one after another. ``shared.forgetting`` holds who is left, the oldest first."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._shared = fleet.shared
        self._due: float | None = None
        self._after: Forgetting | None = None
        """What the first one comes to with the commit that is under way."""
        self._saved_at = 0

    def on(self, event: Event, now: float) -> Effects:
        left = self._shared.forgetting
        match event:
            case Forgotten(user=user, lsn=lsn):
                self._shared.forgetting_soon.remove(Forgetting(user, lsn, 0))
                left.append(Forgetting(user, lsn, 0))
                self._shared.buckets.forget(lambda key: names(key, user))
            case StateCommitted(token=token, code=code):
                if token == ERASED and self._after is not None:
                    self._kept(now, failed=bool(code))
                return []
        if self._due is None and left and self._after is None:
            self._due = now
        if self._due is None or now < self._due or self._after is not None or not left:
            return []
        return self._look(now)

    def next_deadline(self) -> float | None:
        """When the next piece is looked at."""
        return self._due

    def _look(self, now: float) -> Effects:
        first, port = self._shared.forgetting[0], self._shared.port
        self._due = now + PIECE_S
        after = max(first.looked_to, port.first_lsn() - 1)
        limit = min(PIECE, first.up_to - after)
        found = self._found(after, max(limit, 0), first.user)
        reached = after + max(limit, 0)
        new = first._replace(looked_to=reached)
        if not found and reached < first.up_to and reached < self._saved_at + SAVED_RECORDS:
            self._shared.forgetting[0] = new
            return []
        self._after, self._due = new, None
        # The note lies beside those of commits that are under way, and is kept after them.
        rest = [*self._shared.forgetting[1:], *self._shared.forgetting_soon]
        return [Erase(found, tuple(rest if reached >= first.up_to else [new, *rest]))]

    def _found(self, after: int, limit: int, user: int) -> tuple[int, ...]:
        """Which of these records tell of him. One that is damaged is read by nobody, and told of
        by `check`."""
        port, lsns = self._shared.port, list[int]()
        try:
            return tuple(to_erase(port.entries(after, limit), user))
        except (StateError, *UNREADABLE):
            for lsn in range(after + 1, after + limit + 1):
                with contextlib.suppress(StateError, *UNREADABLE):
                    entry = port.entry(lsn)
                    lsns += [] if entry is None else to_erase([entry], user)
        return tuple(lsns)

    def _kept(self, now: float, *, failed: bool) -> None:
        new, self._after = self._after, None
        assert new is not None
        self._due = now + (RETRY_S if failed else PIECE_S)
        if failed:
            return
        self._saved_at = new.looked_to
        if new.looked_to >= new.up_to:
            self._saved_at = 0
            del self._shared.forgetting[0]
            self._due = now if self._shared.forgetting else None
        else:
            self._shared.forgetting[0] = new
