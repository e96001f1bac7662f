"""Changes of the state as they come in: each told once, and those that were missed made good.

What a node missed it reads from the log, from the last lsn of which it knows that it was told
everything. Where the log does not go back so far, it looks at every row of the tables.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from shard_node.shared.changes import parts_of
from shard_node.state.deltas import ROWS, delta_of, name_of
from shard_node.state.keys import Part, Table, key_of, parse_key
from shard_node.state.log import Payload
from shard_node.state.rows import head
from shard_node.state.undo import Restore
from shard_node.wire.categories import StateUpdate

if TYPE_CHECKING:
    from shard_node.shared.fleet import FleetState
    from shard_node.shared.replica import Replica

TOLD_KEPT: Final = 4096
"""Records of which is known what was told last of them."""
HELD_MAX: Final = 65_536
"""Changes that come while those before them are still read."""
MISSED_MAX: Final = 100_000
"""Rows that changed meanwhile; where there are more, all are looked at."""
PAGE: Final = 500


class Intake:
    """One process's. ``tell`` gets every change; ``listens`` says whether anybody cares."""

    def __init__(self, state: FleetState, tell: Callable[[StateUpdate], None]) -> None:
        self.replica: Replica | None = None
        self.listens = False
        self.lsn = 0
        """Everything up to here was told; 0: nobody listened yet."""
        self._state, self._tell = state, tell
        self._told: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._held: list[StateUpdate] | None = None
        self._reached = 0

    def heard(self, update: StateUpdate) -> None:
        """A change came."""
        if self._held is None:
            self._pass_on(update)
        elif len(self._held) < HELD_MAX:
            self._held.append(update)

    def reached(self, lsn: int) -> None:
        """Every change up to ``lsn`` has come."""
        self._reached = max(self._reached, lsn)
        if self._held is None:
            self.lsn = max(self.lsn, lsn)
            if self.replica is not None:
                self.replica.reached(lsn)

    async def catch_up(self) -> None:
        """Tell what was missed; what comes meanwhile is told after it. Raises ShardNodeError."""
        held = self._held = [] if self._held is None else self._held
        self._reached = 0
        at = await self._state.where()
        after = self.lsn
        if self.replica is not None and not self.replica.loaded:
            await self.replica.load()
        elif after and (self.listens or self.replica is not None):
            if at.lsn < after:  # another log: a backup was restored
                after = 0
                self._told.clear()
            if after + 1 < at.first or not after:
                await self._sweep(after)
            else:
                await self._missed(after, at.lsn)
        self.lsn, self._held = max(at.lsn, self._reached), None
        for update in held:
            self._pass_on(update)
        if len(held) >= HELD_MAX:
            await self.catch_up()
        elif self.replica is not None:
            self.replica.reached(self.lsn)

    def _pass_on(self, update: StateUpdate) -> None:
        name = (update.table, update.key)
        if self._told.get(name, 0) >= update.lsn > 0:
            return
        self._told[name] = update.lsn
        self._told.move_to_end(name)
        if len(self._told) > TOLD_KEPT:
            self._told.popitem(last=False)
        if self.replica is not None:
            self.replica.changed(update)
        self._tell(update)

    async def _missed(self, after: int, upto: int) -> None:
        before: dict[bytes, bytes | None] = {}
        while after < upto:
            page = await self._state.read_log(after, PAGE)
            for entry in page.entries:
                payload = entry.payload()
                if payload is None or len(before) > MISSED_MAX:
                    await self._sweep(self.lsn)
                    return
                for key, row in _touched(payload):
                    before.setdefault(key, row)
            if page.read_to <= after:
                break
            after = page.read_to
        keys = [key for key in before if Table(key[1]) in ROWS]
        for key, row in zip(keys, await self._state.fetch(keys), strict=True):
            self._found(key, before[key], row, upto)

    async def _sweep(self, after: int) -> None:
        """Tell of every row that changed after ``after``, as if it were new, and of deleted
        ones as far as their traces are kept."""
        async for key, row in self._state.all_there():
            table = Table(key[1])
            if table is Table.GONE:
                _, (first, kind, *more) = parse_key(key)
                if head(row)[1] > after and isinstance(kind, int):
                    self._found(key_of(Table(kind), first, *more), row, None, head(row)[1])
            elif table in ROWS and head(row)[1] > after:
                self._found(key, None, row, after)

    def _found(self, key: bytes, before: bytes | None, row: bytes | None, lsn: int) -> None:
        if self.replica is not None:
            self.replica.put(key, row)
        table = Table(key[1])
        if row is None:  # what is left of it says no more than that it was there
            name = name_of(parse_key(key)[1])
            version = 0 if before is None else head(before)[0]
            self._pass_on(StateUpdate(table.name.lower(), key[0], name, {}, version, 0, lsn))
            return
        delta = delta_of(key, before, row)
        if delta is not None:
            update = StateUpdate(
                table.name.lower(), key[0], name_of(delta.parts), delta.changed,
                delta.old_version, delta.new_version, head(row)[1], "", delta.removed,
            )  # fmt: skip
            self._pass_on(update)


def key_of_update(update: StateUpdate) -> bytes:
    """The key of the row that changed. Raises ValueError, KeyError, BadName."""
    table = Table[update.table.upper()]
    return key_of(table, *parts_of(table, update.key))


def _touched(payload: Payload) -> Iterator[tuple[bytes, bytes | None]]:
    """Rows that a transaction changed, as they were; accounts as if they had not been."""
    for undo in payload.undo:
        account: Part | None = getattr(undo, "account", None)
        if isinstance(undo, Restore):
            yield undo.key, undo.before
        elif account is not None:
            yield key_of(Table.ACCOUNT, account), None
