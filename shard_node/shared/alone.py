"""The state of a bot without a fleet: in this process's memory, gone when it ends.

The same operations are applied by the same ``apply``, so a bot behaves alone as in a fleet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final

from shard_node.errors import RequestTimeout
from shard_node.shared.backend import ASK_TIMEOUT_S, Logged, Tx
from shard_node.shared.clock import LogClock
from shard_node.shared.select import matches
from shard_node.state.buckets import Buckets
from shard_node.state.log import Entry
from shard_node.state.machine import Applied, MemoryState
from shard_node.state.opids import DONE_KEPT
from shard_node.state.quick import quick as in_memory
from shard_node.state.sweeping import swept
from shard_node.state.trimming import left_by, marked_by
from shard_node.state.tx import Tx as Submitted
from shard_node.wire.state import StateAt

LOG_KEPT: Final = DONE_KEPT
"""Records that are kept: what is older can be neither read nor rolled back."""

Tell = Callable[[Applied], None]


class Alone:
    """A Backend on ``MemoryState``. ``tell`` hears of every transaction that was applied."""

    name = "alone"
    up = True

    def __init__(self, tell: Tell | None = None) -> None:
        self.memory = MemoryState()
        self.first = 1
        self._tell = tell
        self._buckets = Buckets()
        self.clock = LogClock()
        self._grown = asyncio.Condition()

    async def commit(self, tx: Submitted, *, timeout_s: float, quick: bool = False) -> Tx:
        """Apply it. Raises StateError's children."""
        del timeout_s, quick
        at_ms = self.clock.at_ms()
        short = in_memory(self._buckets, tx, at_ms)
        if short is not None:
            return Tx(0, (short,))
        applied = self.memory.submit(tx, at_ms)
        if applied.entry is not None:
            self._trim(applied)
            if self._tell is not None:
                self._tell(applied)
            async with self._grown:
                self._grown.notify_all()
        return Tx(applied.lsn, applied.results)

    def get(self, key: bytes) -> bytes | None:
        """A row."""
        return self.memory.view.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Rows in the order of their keys."""
        return iter(list(self.memory.view.scan(prefix, after)))

    async def fetch(self, keys: Sequence[bytes]) -> tuple[bytes | None, ...]:
        """Rows."""
        return tuple(map(self.get, keys))

    async def fetch_all(self, prefix: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """Rows whose keys begin like this."""
        for row in self.scan(prefix):
            yield row

    async def mark(self, wait_lsn: int, *, timeout_s: float = ASK_TIMEOUT_S) -> StateAt:
        """Where the log stands. Raises RequestTimeout where it does not get to ``wait_lsn``."""
        try:
            async with asyncio.timeout(timeout_s), self._grown:
                await self._grown.wait_for(lambda: self.memory.place.lsn >= wait_lsn)
        except TimeoutError:
            text = f"the log is at {self.memory.place.lsn} and has not reached {wait_lsn}"
            raise RequestTimeout(text, hint="is it the id of a transaction?") from None
        place = self.memory.place
        return StateAt(place.lsn, place.at_ms, self.first)

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
        last = self.memory.place.lsn
        start = max(after + 1, self.first)
        order = range(last, start - 1, -1) if newest else range(start, last + 1)
        found: list[Entry] = []
        read_to, more = last, False
        for lsn in order:
            entry = self.memory.entries[lsn]
            if matches(entry, kinds, user, account):
                if len(found) == limit:
                    more = True
                    read_to = last if newest else found[-1].lsn
                    break
                found.append(entry)
        if newest:
            found.reverse()
        return Logged(tuple(found), read_to, self.first, last, more)

    def close(self) -> None:
        """Nothing is open."""

    def _trim(self, applied: Applied) -> None:
        """Nobody applies this log again, so what is swept goes without a record of it."""
        view, keys = self.memory.view, list(applied.writes)
        while len(self.memory.entries) > LOG_KEPT:
            entry = self.memory.entries.pop(self.first)
            self.first += 1
            keys += [*left_by(entry), *marked_by(entry)]
        if self.first > 1:
            view.write(swept(view, keys, self.first, applied.lsn))
