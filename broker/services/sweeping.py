"""Looks for rows that tell only of records that are gone from the log, and has them swept.

That is done behind a trimming, in pieces, while all else goes on. What is found is removed by
transactions of the broker's own (``shard_node.state.sweeping``). What they do not get to, as too
much waits for the disk or the broker ends, is found behind the next backup.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from itertools import islice, product
from typing import Final

from broker.core.effects import Effects, Emit, Log
from broker.core.events import Asked
from broker.core.inflight import Ref
from broker.core.stateport import SharedState
from shard_node.state.errors import StateError
from shard_node.state.files import UNREADABLE
from shard_node.state.keys import PARTITIONS, Part, Table, key_of
from shard_node.state.machine import encode_tx
from shard_node.state.sweeping import TABLES, Sweep, goes, name_of
from shard_node.state.tx import SALT_BYTES, Tx, new_op_id
from shard_node.wire import topics
from shard_node.wire.identity import Peer
from shard_node.wire.lanes import Lane
from shard_node.wire.state import StateDo

PIECE: Final = 256
"""Rows that are looked at in a turn: about half a millisecond."""
PIECE_S: Final = 0.005
BEGINNING: Final = 8
"""To begin with a table of a partition costs as much as so many rows."""
SWEPT: Final = 64
"""Rows in one transaction: about a millisecond."""
_BROKER: Final = Peer("broker", "broker", 0)


class Sweeper:
    """One look through the tables at a time. ``due`` is when the next piece is looked at."""

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self.due: float | None = None
        self._first = self._count = 0
        self._places: list[tuple[int, Table]] = []
        self._after = b""
        self._found: list[tuple[Part, ...]] = []

    def begin(self, now: float) -> None:
        """The log begins where it does now; a look that is under way ends."""
        self._first, self._count = self._shared.port.first_lsn(), 0
        self._after = b""
        self._found.clear()
        if self._first > 1:
            self._places = list(product(range(PARTITIONS), TABLES))
            self.due = now

    def look(self, now: float) -> Effects:
        """The next piece, and what is removed of what was found."""
        left = PIECE
        effects: Effects = []
        while self._places and left > 0 and len(self._found) < SWEPT:
            left -= self._look_at(*self._places[-1], left, effects)
        self.due = now + PIECE_S
        if self._shared.forgetting_soon:
            return effects  # it is not known yet which rows are that person's
        if len(self._found) >= SWEPT or (self._found and not self._places):
            rows, self._found = self._there(self._found[:SWEPT]), self._found[SWEPT:]
            self._count += len(rows)
            effects += [self._sweep(rows, now)] if rows else []
        if not (self._places or self._found):
            self.due = None
            if self._count:
                text = f"swept {self._count} rows that told only of records before {self._first}"
                effects.append(Log("INFO", text))
        return effects

    def _look_at(self, partition: int, table: Table, limit: int, effects: Effects) -> int:
        """Some rows of a table; what it cost. What is damaged stays, and `check` tells of it."""
        view = self._shared.settled.view  # what it does not show yet is none of the old
        try:
            rows = list(islice(view.scan(bytes((partition, table)), self._after), limit))
            self._found += [name_of(key) for key, row in rows if goes(key, row, self._first)]
        except (StateError, *UNREADABLE) as error:
            text = f"rows of partition {partition} are not swept: {error}"
            effects.append(Log("ERROR", text))
            rows = []
        if len(rows) == limit:
            self._after = rows[-1][0]
            return limit
        self._after = b""
        self._places.pop()
        return len(rows) + BEGINNING

    def _there(self, names: list[tuple[Part, ...]]) -> list[tuple[Part, ...]]:
        """Those that may go still. A look takes a while, and the file is behind what is durable:
        of a person who was forgotten meanwhile no later record must tell."""
        view, found = self._shared.port.view, list[tuple[Part, ...]]()
        for name in names:
            key = key_of(Table(int(name[0])), *name[1:])
            with suppress(StateError, *UNREADABLE):
                row = view.get(key)
                if row is not None and goes(key, row, self._first):
                    found.append(name)
        return found

    def _sweep(self, rows: list[tuple[Part, ...]], now: float) -> Emit:
        """Nobody waits for the answer."""
        shared = self._shared
        place, at_ms = shared.port.place(), shared.clock.at_ms(now)
        said = f"sweep {self._first} {self._count} {place.lsn} {at_ms}".encode()
        drawn = blake2b(said + place.digest, key=shared.secret).digest()
        op = Sweep(self._first - 1, tuple(rows))
        tx = Tx(new_op_id(at_ms, drawn), drawn[-SALT_BYTES:], (op,))
        ref = Ref(0, b"", _BROKER, topics.STATE_DO, Lane.LOW, 0, now)
        return Emit(Asked(ref, topics.STATE_DO, StateDo((encode_tx(tx),))))
