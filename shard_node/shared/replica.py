"""All rows in memory, where the state's file cannot be read: loaded once, then fed by changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shard_node.errors import BrokerUnavailable, RequestTimeout, ShardNodeError
from shard_node.state.deltas import ROWS
from shard_node.state.keys import BOOKKEEPING, Table
from shard_node.state.rows import head
from shard_node.state.views import DictView
from shard_node.wire.categories import StateUpdate

if TYPE_CHECKING:
    from shard_node.shared.fleet import FleetState

_log = logging.getLogger(__name__)

_HINT: Final = "await node.state.sync() first, or await fetch() to ask the broker"
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode


class Replica:
    """A copy of the rows that are told of. Reads raise BrokerUnavailable until it is loaded."""

    def __init__(self, state: FleetState) -> None:
        self.loaded = False
        self.lsn = 0
        self._state = state
        self._view = DictView()
        self._stale: dict[bytes, int] = {}
        """Rows that are asked for, and the lsn of the last change of each."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def get(self, key: bytes) -> bytes | None:
        """A row."""
        self._check()
        return self._view.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in order."""
        self._check()
        return iter(list(self._view.scan(prefix, after)))

    async def load(self) -> DictView:
        """Ask for all rows, to ``take`` them. Raises ShardNodeError."""
        view = DictView()
        async for key, row in self._state.all_there():
            if Table(key[1]) not in BOOKKEEPING:
                view.write({key: row})
        return view

    def take(self, view: DictView) -> None:
        """Have these rows and no others. Changes that came meanwhile are told afterwards, and
        then up to where."""
        self._view, self.loaded, self.lsn = view, True, 0
        self._stale.clear()

    def other(self, view: DictView) -> dict[bytes, bytes | None]:
        """The rows that are other ones there, as they are here, in the keys' order."""
        mine, theirs = self._view.rows, view.rows
        keys = sorted(mine.keys() | theirs.keys())
        return {key: mine.get(key) for key in keys if mine.get(key) != theirs.get(key)}

    def put(self, key: bytes, row: bytes | None, as_of: int) -> None:
        """A row as the broker has it at an lsn; nothing where a newer one is here."""
        mine = self._view.get(key)
        if self._stale.get(key, 0) > as_of or (mine is not None and head(mine)[1] > as_of):
            return
        self._stale.pop(key, None)
        self._view.write({key: row})

    async def mend(self) -> None:
        """Ask for the rows that changes did not fit. Raises ShardNodeError."""
        while self._stale:
            keys = list(self._stale)
            rows = await self._state.rows(keys)
            for key, (row, as_of) in zip(keys, rows, strict=True):
                if key in self._stale:  # not told otherwise meanwhile
                    self.put(key, row, as_of)

    def changed(self, update: StateUpdate) -> None:
        """Make a change that was told; a row that it does not fit is asked for."""
        from shard_node.shared.intake import key_of_update

        try:
            key = key_of_update(update)
        except (ShardNodeError, KeyError, ValueError):
            return
        mine = self._view.get(key)
        if key in self._stale:
            self._stale[key] = max(update.lsn, self._stale[key])  # the answer shows whether it does
            return
        if mine is not None and head(mine)[1] >= update.lsn:
            return
        row = None if update.new_version == 0 else _changed(key, mine, update)
        if row is None and update.new_version:
            self._stale[key] = update.lsn
            self._refresh()
        else:
            self._view.write({key: row})

    def reached(self, lsn: int) -> None:
        """All changes up to ``lsn`` were told."""
        self.lsn = max(self.lsn, lsn)
        if self._stale or not self.loaded:
            return
        waiting, self._waiting = self._waiting, []
        for wanted, future in waiting:
            if wanted > self.lsn:
                self._waiting.append((wanted, future))
            elif not future.done():
                future.set_result(None)

    async def reach(self, lsn: int, timeout_s: float) -> None:
        """Wait until reads here show ``lsn``. Raises RequestTimeout."""
        if self.loaded and not self._stale and self.lsn >= lsn:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (lsn, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise RequestTimeout(f"the copy of the state has not reached {lsn}") from None
        finally:
            self._waiting = [other for other in self._waiting if other is not entry]

    def _check(self) -> None:
        if not self.loaded:
            raise BrokerUnavailable("the copy of the state is not loaded yet", hint=_HINT)

    def _refresh(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._fetch_stale())

    async def _fetch_stale(self) -> None:
        try:
            await self.mend()
        except ShardNodeError as error:
            _log.warning("rows of the state cannot be fetched yet: %s", error)
            self._state.missed()  # it is tried again there
            return
        self.reached(self.lsn)


def _changed(key: bytes, mine: bytes | None, update: StateUpdate) -> bytes | None:
    """The row with the change; None where it cannot be made of what is here."""
    kind = ROWS.get(Table(key[1]))
    version = 0 if mine is None else head(mine)[0]
    if kind is None or version != update.old_version or (mine is None and update.removed):
        return None
    names = kind.__struct_fields__
    values: list[Any] = _decode(_encode(kind()) if mine is None else mine)
    if "fields" in names:
        at = names.index("fields")
        kept = {k: v for k, v in (values[at] or {}).items() if k not in update.removed}
        values[at] = kept | update.changed
    else:
        if not set(update.changed) <= set(names):
            return None
        for name, value in update.changed.items():
            values[names.index(name)] = value
    values[names.index("version")], values[names.index("lsn")] = update.new_version, update.lsn
    if "origin" in names:
        values[names.index("origin")] = update.lsn
    return _encode(values)
