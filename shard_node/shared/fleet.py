"""The fleet's state as a member of it sees it: written through the broker, read from its file
or, where that cannot be, from a copy in memory; and its changes, each told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shard_node.errors import RequestFailed, ShardNodeError
from shard_node.shared.backend import ASK_TIMEOUT_S, Logged, Tx
from shard_node.shared.clock import LogClock
from shard_node.shared.intake import Intake
from shard_node.shared.replica import Replica
from shard_node.shared.submit import Asks, Submitter, known
from shard_node.state.errors import TooLarge
from shard_node.state.keys import PARTITIONS, Table
from shard_node.state.log import read_entry
from shard_node.state.tx import Tx as Submitted
from shard_node.wire.categories import StateUpdate
from shard_node.wire.limits import STATE_KEYS_MAX
from shard_node.wire.state import (
    StateAt,
    StateLog,
    StateLogged,
    StateMark,
    StateRead,
    StateRows,
    StateScan,
    StateScanned,
)
from shard_node.wire.topics import (
    STATE_COMMITTED,
    STATE_LOG,
    STATE_MARK,
    STATE_READ,
    STATE_SCAN,
    STATE_UPDATE,
)

if TYPE_CHECKING:
    from shard_node.shared.own import OwnRows
    from shard_node.shared.reader import Reader

_log = logging.getLogger(__name__)

CATCH_UP_RETRY_S: Final = 1.0
BEHIND_S: Final = 0.2
"""A change that a heartbeat tells of and that has not come after so long was missed."""
COPY_TIMEOUT_S: Final = 2.0
"""How long a write waits for the copy in memory to show it."""

_updates: Final = msgspec.msgpack.Decoder(StateUpdate)
_ats: Final = msgspec.msgpack.Decoder(StateAt)


class FleetState:
    """A Backend on the broker. ``folder`` is that of the state's file, None where this process
    has none; ``tell`` gets every change once; ``subscribe`` adds topics to those of the process."""

    def __init__(
        self,
        asks: Asks,
        name: str,
        folder: Path | None,
        tell: Callable[[StateUpdate], None],
        subscribe: Callable[[tuple[str, ...]], None],
    ) -> None:
        self.name = name
        self.clock = LogClock()
        self._asks, self._folder, self._subscribe = asks, folder, subscribe
        self._submitter = Submitter(asks)
        self._reader: Reader | None = None
        self._own: OwnRows | None = None
        self._replica: Replica | None = None
        self._intake = Intake(self, tell)
        self._task: asyncio.Task[None] | None = None
        self._behind: asyncio.TimerHandle | None = None
        self._era = ""

    # --- the Backend

    @property
    def up(self) -> bool:
        """Whether a broker answers now."""
        return self._asks.broker_up

    async def commit(self, tx: Submitted, *, timeout_s: float, quick: bool = False) -> Tx:
        """Returns once it is durable, and what it wrote can be read here."""
        outcome = await self._submitter.submit(tx, timeout_s=timeout_s, quick=quick)
        lsn, rows, own = outcome.lsn, outcome.rows, self._own
        if rows is not None and own is not None and not own.full:
            own.add(lsn, rows)
            self.get = own.get  # type: ignore[method-assign]
        elif lsn and (self._reader is not None or self._replica is not None):
            await self._shown(lsn)
        return Tx(lsn, outcome.results)

    async def _shown(self, lsn: int) -> None:
        """What was written can be read here."""
        try:
            if self._reader is None:
                if self._replica is not None:
                    await self._replica.reach(lsn, COPY_TIMEOUT_S)
            elif self._reader.mark().lsn < lsn:
                await self.where(lsn, COPY_TIMEOUT_S)
        except ShardNodeError as error:  # it is committed all the same
            _log.warning("%s", error)

    def get(self, key: bytes) -> bytes | None:
        """A committed row. Raises StoreDamaged, BrokerUnavailable where nothing is here yet."""
        reader = self._reader
        return reader.get(key) if reader is not None else self._copy().get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Committed rows in order. Raises as ``get``."""
        source = self._own or self._copy()
        return source.scan(prefix, after)

    async def fetch(self, keys: Sequence[bytes]) -> tuple[bytes | None, ...]:
        """Rows as the broker has them now."""
        return tuple(row for row, _ in await self.rows(keys))

    async def rows(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        """The same, each with the lsn as of which it is."""
        rows: list[tuple[bytes | None, int]] = []
        count = STATE_KEYS_MAX
        while len(rows) < len(keys):
            body = StateRead(tuple(keys[len(rows) : len(rows) + count]))
            try:
                found: StateRows = await self._ask(STATE_READ, body, ASK_TIMEOUT_S)
            except TooLarge:  # a single row fits
                if len(body.keys) == 1:
                    raise
                count = max(1, len(body.keys) // 4)
                continue
            rows += [(row, found.lsn) for row in found.rows]
        return rows

    async def mark(self, wait_lsn: int = 0, *, timeout_s: float = ASK_TIMEOUT_S) -> StateAt:
        """Where the log stands, once it and the reads here have reached ``wait_lsn`` (0: what is
        durable now)."""
        found = await self.where(wait_lsn or -1, timeout_s)
        if self._reader is None:
            await self._copy().reach(wait_lsn, timeout_s)
        return found

    async def where(self, wait_lsn: int = 0, timeout_s: float = ASK_TIMEOUT_S) -> StateAt:
        """Where the broker's log stands, once it has reached ``wait_lsn``."""
        found: StateAt = await self._ask(STATE_MARK, StateMark(wait_lsn), timeout_s)
        self.clock.set(found.now_ms or max(found.at_ms, self.clock.at_ms()))
        return found

    async def read_log(
        self,
        after: int,
        limit: int,
        *,
        newest: bool = False,
        kinds: tuple[str, ...] = (),
        user: int = 0,
        account: str = "",
    ) -> Logged:
        """Records of the log."""
        body = StateLog(after, limit, newest, kinds, user, account)
        found: StateLogged = await self._ask(STATE_LOG, body, ASK_TIMEOUT_S)
        entries = tuple(map(read_entry, found.entries))
        return Logged(entries, found.read_to, found.first, found.last, found.more)

    async def fetch_all(self, prefix: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """Rows whose keys begin like this, as the broker has them now."""
        async for row in self._scanned(prefix, bytes):
            yield row

    async def all_there(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """All rows, as the broker has them; those of the ids of transactions are left out."""
        for partition in range(PARTITIONS):
            async for row in self._scanned(bytes((partition,)), _next_wanted):
                yield row

    async def _scanned(
        self, prefix: bytes, onward: Callable[[bytes], bytes]
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        after, more = b"", True
        while more:
            body = StateScan(prefix, after, STATE_KEYS_MAX)
            found: StateScanned = await self._ask(STATE_SCAN, body, ASK_TIMEOUT_S)
            for row in found.rows:
                yield row
            more = found.more
            if more:
                after = onward(found.rows[-1][0])

    # --- what happens

    def open(self) -> None:
        """The process has its loop: read the file, if it can be read from here."""
        self._open_reader()

    def registered(self, told: int = 0, era: str = "") -> None:
        """A broker is there, perhaps another one: learn what was missed. ``told`` is the number
        of the last change that it told this process of, ``era`` that of its state."""
        if self._behind is not None:
            self._behind.cancel()
        self._intake.registered(told, era)
        other, self._era = self._era not in ("", era), era
        self._read_anew(other)
        if self._reader is None and self._replica is None and self._folder is not None:
            self.keep_copy()
        self.missed()

    def missed(self) -> None:
        """Something was not told: read what it was."""
        self._intake.again()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._catch_up())

    def listening(self, listens: bool) -> None:
        """Whether a handler of this process cares for changes."""
        self._intake.listen(listens)
        if listens and not self._intake.known and self.up:
            self.missed()  # from where on it is to be told

    def keep_copy(self) -> None:
        """Keep all rows in memory, fed by what is told."""
        if self._replica is None:
            self._replica = Replica(self)
            self._intake.replica = self._replica
            self._subscribe((STATE_UPDATE, STATE_COMMITTED))

    def updated(self, body: bytes, number: int = 0) -> None:
        """A STATE_UPDATE of the broker's, and its number."""
        try:
            self._intake.heard(_updates.decode(body), number)
        except (msgspec.MsgspecError, ValueError):
            _log.debug("a change that cannot be read")

    def told(self, number: int) -> None:
        """The broker says how much it told. What is still on its way has a moment to come."""
        if number > self._intake.number:
            if self._behind is not None:
                self._behind.cancel()
            loop = asyncio.get_running_loop()
            self._behind = loop.call_later(BEHIND_S, self._intake.told, number)

    def committed(self, body: bytes, number: int = 0) -> None:
        """A ``state.committed``: all changes up to it were told, the last under ``number``."""
        try:
            found = _ats.decode(body)
        except msgspec.MsgspecError:
            return
        self.clock.learn(found.now_ms or found.at_ms)
        self._intake.reached(found.lsn, number)

    def close(self) -> None:
        """The loop ends, or has ended: its tasks went with it then."""
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        if self._behind is not None:
            self._behind.cancel()
        self._submitter.close()
        self._close_reader()

    # --- within

    async def _ask(self, topic: str, body: object, timeout_s: float) -> Any:
        try:
            return await self._asks.ask(topic, body, timeout_s=timeout_s, renew=True)
        except RequestFailed as error:
            raise known(error) from None

    async def _catch_up(self) -> None:
        """Try until it is done; what goes wrong passes with the broker's next life."""
        while True:
            try:
                await self._intake.catch_up()
                return
            except ShardNodeError as error:
                _log.warning("what changed meanwhile cannot be read yet: %s", error)
            await asyncio.sleep(CATCH_UP_RETRY_S)

    def _copy(self) -> Replica:
        if self._replica is None:
            self.keep_copy()
            self.missed()
        assert self._replica is not None
        return self._replica

    def _open_reader(self) -> None:
        if self._folder is None or self._reader is not None:
            return
        from shard_node.shared.own import OwnRows
        from shard_node.shared.reader import CannotRead, Reader

        try:
            self._reader = Reader(self._folder)
            mark = self._reader.mark()
        except CannotRead as error:
            _log.info("the state is read through the broker: %s", error)
            return
        self.clock.carry_on(mark.at_ms, mark.boot_id, mark.boottime_ms)
        self._own = OwnRows(self._reader, self._read_file)
        self._submitter.rows = True
        self._read_file()

    def _read_anew(self, other: bool) -> None:
        """Read the file that is there now: a restored backup is another one. ``other``: it has
        another history, and does not go on to what this process wrote."""
        if self._reader is None:
            self._open_reader()
            return
        try:
            renewed = self._reader.renew()
        except ShardNodeError as error:
            _log.warning("the state is read through the broker: %s", error)
            self._close_reader()
            return
        if renewed or other:
            assert self._own is not None
            self._own.clear()
            self._read_file()

    def _close_reader(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
            vars(self).pop("get", None)
        self._submitter.rows = False

    def _read_file(self) -> None:
        """Nothing of ours is missing in the file: reads go straight to it."""
        if self._reader is not None:
            self.get = self._reader.get  # type: ignore[method-assign]


def _next_wanted(key: bytes) -> bytes:
    """Where a scan goes on after ``key``: tables of the state's own books are passed over."""
    return bytes((key[0], key[1] + 1)) if Table(key[1]) in _LONG else key


_LONG: Final = frozenset({Table.HISTORY, Table.UNDONE})
"""Tables that nobody is told of and that have many rows."""
