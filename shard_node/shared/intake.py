"""Changes of the state as they come in: each told once, and those that were missed made good.

The broker numbers what it tells a process. Where a number is missing, what comes after it is
held until it is known what it was. What a node missed it reads from the log, from the last lsn
of which it knows that it was told everything. Where the log does not go back so far, or does not
say what became of the rows (a person was forgotten, a backup was restored), it looks at every row
of the tables: a copy in memory is then compared with them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from shard_node.shared.changes import parts_of
from shard_node.state.deltas import ROWS, delta_of, name_of
from shard_node.state.erasing import ForgetUser
from shard_node.state.keys import Part, Table, key_of, parse_key
from shard_node.state.log import Payload
from shard_node.state.rows import head
from shard_node.state.undo import Restore
from shard_node.wire.categories import StateUpdate

if TYPE_CHECKING:
    from shard_node.shared.backend import Logged
    from shard_node.shared.replica import Replica
    from shard_node.wire.state import StateAt

TOLD_KEPT: Final = 4096
"""Records of which is known what was told last of them."""
HELD_MAX: Final = 65_536
"""Changes that come while those before them are still read."""
MISSED_MAX: Final = 100_000
"""Rows that changed meanwhile; where there are more, all are looked at."""
PAGE: Final = 500
_FORGETTING: Final = ForgetUser.__name__
"""An operation that leaves neither an undo nor traces of the rows that went."""


class Source(Protocol):
    """Where it is read what was missed. All raise ShardNodeError."""

    async def where(self) -> StateAt:
        """Where the log stands."""

    async def read_log(self, after: int, limit: int) -> Logged:
        """Records after an lsn."""

    async def rows(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        """Rows, and as of which lsn."""

    def all_there(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """All rows."""

    def missed(self) -> None:
        """``catch_up`` is to be called, unless it runs."""


class Intake:
    """One process's. ``tell`` gets every change; ``listens`` says whether anybody cares."""

    def __init__(self, state: Source, tell: Callable[[StateUpdate], None]) -> None:
        self.replica: Replica | None = None
        self.listens = False
        self.known = False
        """Whether ``lsn`` says anything: not before the first word of the broker's."""
        self.lsn = 0
        """Everything up to here was told."""
        self.number = 0
        """Of the last change that came, as the broker counts them."""
        self.gaps = 0
        """How often something was seen to be missing."""
        self._state, self._tell = state, tell
        self._told: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._held: list[StateUpdate] | None = None
        self._again = False
        self._reached = 0
        self._era = ""
        """The broker's state's at the last catching up."""

    def listen(self, listens: bool) -> None:
        """Somebody cares from now on, or nobody any more."""
        if listens and not self.listens and self.replica is None:
            self.known, self.lsn = False, 0  # what was before is none of its business
        self.listens = listens

    def registered(self, number: int, era: str = "") -> None:
        """A broker is there, whose next change has a higher number. ``catch_up`` is to follow;
        what comes before it has is held, since it is newer than what was missed."""
        self.number = number
        if self.replica is not None and self._era not in ("", era):
            self.replica.lsn = 0  # it stands nowhere in this log yet
        self._hold()

    def again(self) -> None:
        """``catch_up`` is to do what it does once more, also where it runs."""
        self._hold()

    def heard(self, update: StateUpdate, number: int = 0) -> None:
        """A change came. Without a number (0) it is not known whether one before it is missing."""
        self._follow(number, 1)
        if self._held is not None:
            if not self.known:
                self.known, self.lsn = True, update.lsn - 1
            self._put_by(update)
            return
        self._pass_on(update)
        if number and update.lsn > self.lsn:  # they come in the order of the log
            self.known, self.lsn = True, update.lsn - 1

    def reached(self, lsn: int, number: int = 0) -> None:
        """Every change up to ``lsn`` was told; the last had this number."""
        self._follow(number, 0)
        if self._held is not None:
            self._reached = max(self._reached, lsn)
            return
        self.known, self.lsn = True, max(self.lsn, lsn)
        if self.replica is not None:
            self.replica.reached(lsn)

    def told(self, number: int) -> None:
        """A change of this number was told a while ago."""
        self._follow(number, 0)

    def _follow(self, number: int, step: int) -> None:
        missing = number > self.number + step
        self.number = max(self.number, number)
        if missing and (self.listens or self.replica is not None):
            self.gaps += 1
            self._hold()
            self._state.missed()

    def _hold(self) -> None:
        self._again = True
        self._reached = 0
        if self._held is None:
            self._held = []

    def _put_by(self, update: StateUpdate) -> None:
        assert self._held is not None
        if len(self._held) < HELD_MAX:
            self._held.append(update)
        else:
            self._hold()

    async def catch_up(self) -> None:
        """Tell what was missed; what comes meanwhile is told after it, once. Raises
        ShardNodeError: then it is to be called again."""
        self._hold()
        while self._again:  # set where something is missing of what came meanwhile as well
            self._again = False
            at = await self._state.where()
            if self.replica is None or self.replica.loaded:
                copy = self.replica
            else:
                copy = None  # it has nothing yet that rows could be compared with
                self.replica.take(await self.replica.load())
            if self.known and (self.listens or self.replica is not None):
                await self._make_good(at, copy)
            if self.replica is not None:
                await self.replica.mend()
            self.known, self.lsn, self._era = True, at.lsn, at.era
            self._held = [update for update in self._held or () if update.lsn > at.lsn]
        held, self._held = self._held or (), None
        for update in held:
            self._pass_on(update)
        self.lsn = max(self.lsn, self._reached)
        while len(self._told) > TOLD_KEPT:
            self._told.popitem(last=False)
        if self.replica is not None:
            self.replica.reached(self.lsn)

    async def _make_good(self, at: StateAt, copy: Replica | None) -> None:
        after = self.lsn
        if at.lsn < after or self._era not in ("", at.era):  # another log
            self._told.clear()
            self.lsn = 0
            await self._look_at_all(0, copy)
        elif after + 1 < at.first:
            await self._look_at_all(after, copy)
        else:
            await self._missed(after, at.lsn, copy)

    def _pass_on(self, update: StateUpdate, upto: int = 0) -> None:
        """Tell a change, unless it was; ``upto``: nothing later up to there is to be told."""
        name, upto = (update.table, update.key), upto or update.lsn
        if self.lsn >= upto > 0 or self._told.get(name, 0) >= upto > 0:
            return
        self._keep(name, upto)
        if self.replica is not None:
            self.replica.changed(update)
        self._tell(update)

    def _keep(self, name: tuple[str, str], upto: int) -> None:
        """All about this record was told, up to there."""
        self._told[name] = max(upto, self._told.get(name, 0))
        self._told.move_to_end(name)
        if len(self._told) > (TOLD_KEPT if self._held is None else MISSED_MAX):
            self._told.popitem(last=False)

    async def _missed(self, after: int, upto: int, copy: Replica | None) -> None:
        first, before = after, dict[bytes, bytes | None]()
        while after < upto:
            page = await self._state.read_log(after, PAGE)
            if page.first > after + 1:  # trimmed meanwhile
                await self._look_at_all(first, copy)
                return
            for entry in page.entries:
                payload = entry.payload()
                forgot = copy is not None and _FORGETTING in entry.kinds
                if payload is None or forgot or len(before) > MISSED_MAX:
                    await self._look_at_all(first, copy)
                    return
                for key, row in _touched(payload):
                    if key not in before and not self._was_told(key, entry.lsn):
                        before[key] = row
            if page.read_to <= after:
                break
            after = page.read_to
        keys = list(before)
        for key, (row, as_of) in zip(keys, await self._state.rows(keys), strict=True):
            self._found(key, before[key], row, as_of)

    def _was_told(self, key: bytes, lsn: int) -> bool:
        """Also of a row that nobody is told of."""
        if Table(key[1]) not in ROWS:
            return True
        table, parts = parse_key(key)
        return self._told.get((table.name.lower(), name_of(parts)), 0) >= lsn

    async def _look_at_all(self, after: int, copy: Replica | None) -> None:
        if copy is None:
            await self._sweep(after)
        else:
            await self._compare(copy)

    async def _compare(self, copy: Replica) -> None:
        """Tell of every row that is another one than in the copy, which gets all rows anew."""
        view = await copy.load()
        before = copy.other(view)
        rows = await self._state.rows(list(before))
        copy.take(view)
        for (key, was), (row, as_of) in zip(before.items(), rows, strict=True):
            self._found(key, was, row, as_of)

    async def _sweep(self, after: int) -> None:
        """Tell of every row that changed after ``after``, as if it were new, and of deleted
        ones as far as their traces are kept."""
        async for key, row in self._state.all_there():
            table = Table(key[1])
            if table is not Table.GONE and table not in ROWS:
                continue
            lsn = head(row)[1]
            if lsn <= after:
                continue
            if table in ROWS:
                self._found(key, None, row, lsn)
                continue
            _, (first, kind, *more) = parse_key(key)
            if isinstance(kind, int):
                self._found(key_of(Table(kind), first, *more), row, None, lsn)

    def _found(self, key: bytes, before: bytes | None, row: bytes | None, as_of: int) -> None:
        """A row that was missed, as it was and, at the lsn ``as_of``, is."""
        if self.replica is not None:
            self.replica.put(key, row, as_of)
        table, parts = parse_key(key)
        name = (table.name.lower(), name_of(parts))
        delta = None if row is None else delta_of(key, before, row)
        if row is None and before is not None:
            # What is left of it says no more than that it was there.
            gone = StateUpdate(name[0], key[0], name[1], {}, head(before)[0], 0, as_of)
            self._pass_on(gone, as_of)
        elif row is not None and delta is not None:
            update = StateUpdate(
                name[0], key[0], name[1], delta.changed, delta.old_version, delta.new_version,
                head(row)[1], "", delta.removed,
            )  # fmt: skip
            self._pass_on(update, as_of)
        else:  # it came and went, or is as it was
            self._keep(name, as_of)


def key_of_update(update: StateUpdate) -> bytes:
    """The key of the row that changed. Raises ValueError, KeyError, BadName."""
    table = Table[update.table.upper()]
    return key_of(table, *parts_of(table, update.key))


def _touched(payload: Payload) -> Iterator[tuple[bytes, bytes | None]]:
    """Rows that a transaction changed, as they were; accounts as if they had not been (the log
    has amounts, not balances)."""
    for undo in payload.undo:
        account: Part | None = getattr(undo, "account", None)
        if isinstance(undo, Restore):
            yield undo.key, undo.before
        elif account is not None:
            yield key_of(Table.ACCOUNT, account), None
