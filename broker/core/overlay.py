"""Rows and records that are applied and not committed yet, over those that are.

Transactions are applied as they come, each on top of the one before, while the commits of
earlier ones still run. Each commit is a layer: the oldest one goes when it is durable. Its
rows are remembered for a while, as a few are read again and again, and so is which
transactions were applied: to look in the file for a row that is not there costs most.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Final

from broker.core.unsettled import StatePort
from shard_node.state.errors import StoreDamaged
from shard_node.state.log import Entry
from shard_node.state.machine import DONE_KEPT, Applied, Place
from shard_node.state.opids import OpIds
from shard_node.state.views import merged

RECENT_MAX: Final = 32_768
"""Durable rows that are remembered."""
_NONE: Final = object()


class Layer:
    """What one commit will hold: the last of each row, and the records in order."""

    __slots__ = ("_keys", "entries", "writes")

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self.entries: list[Entry] = []
        self._keys: list[bytes] = []

    def under(self, prefix: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """Its rows whose keys begin so. Keys only come, so they are sorted again if they did."""
        if len(self._keys) != len(self.writes):
            self._keys = sorted(self.writes)
        for place in range(bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[place]
            if not key.startswith(prefix):
                return
            yield key, self.writes[key]


class Overlay:
    """What ``apply`` reads: a view and a log, with what waits for its commit on top.

    ``place`` is where the log will stand once all of it is durable; ``layer`` is the one
    that takes what is applied now.
    """

    def __init__(self, port: StatePort) -> None:
        self._port = port
        self._recent: dict[bytes, bytes | None] = {}
        self._done = DoneIds(port)
        self.layer = Layer()
        self._layers = deque([self.layer])
        self.place = port.place()

    def get(self, key: bytes) -> bytes | None:
        """The row as it will be."""
        for layer in self._layers:  # the newest first
            row = layer.writes.get(key, _NONE)
            if row is not _NONE:
                return row  # type: ignore[return-value]
        row = self._recent.get(key, _NONE)
        return self._port.view.get(key) if row is _NONE else row  # type: ignore[return-value]

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order, as they will be. The overlay must not change meanwhile."""
        writes: dict[bytes, bytes | None] = {}
        for layer in reversed(self._layers):
            writes.update(layer.under(prefix))
        return merged(self._port.view, writes, prefix, after)

    def entry(self, lsn: int) -> Entry | None:
        """A record; None where there is none (any more)."""
        for layer in self._layers:
            if layer.entries and layer.entries[0].lsn <= lsn <= layer.entries[-1].lsn:
                return layer.entries[lsn - layer.entries[0].lsn]
        return self._port.entry(lsn)

    def applied(self, op_id: bytes) -> int | None:
        """The record of this op id; None where it was not applied. Raises StateError."""
        return self._done.lsn_of(op_id)

    def add(self, applied: Applied) -> None:
        """A transaction was applied, not one that had been before."""
        entry = applied.entry
        assert entry is not None
        self.layer.writes.update(applied.writes)
        self.layer.entries.append(entry)
        self._done.add(entry.op_id)
        self.place = Place(entry.lsn, entry.digest, entry.at_ms)

    def seal(self) -> Layer:
        """The layer for the writer; what is applied from now on comes into another one."""
        sealed = self.layer
        self.layer = Layer()
        self._layers.appendleft(self.layer)
        return sealed

    def committed(self) -> None:
        """The oldest sealed layer is durable, and the view below shows it."""
        if len(self._recent) > RECENT_MAX:
            self._recent.clear()
        self._recent.update(self._layers.pop().writes)

    def reset(self) -> None:
        """Forget all that is not durable: it was not kept. Also where others wrote the file."""
        self._recent.clear()
        self._done.reset()
        self.layer = Layer()
        self._layers = deque([self.layer])
        self.place = self._port.place()


class DoneIds:
    """Which transactions of the last DONE_KEPT were applied, durable or not.

    Those from before the start are read from the log when the first is asked for, all at once:
    before that it knows of none that it was not applied.
    """

    def __init__(self, port: StatePort) -> None:
        self._port = port
        self._begin(port.place().lsn)

    def lsn_of(self, op_id: bytes) -> int | None:
        """The record of this op id. Raises StateError where the log cannot be read."""
        if not self._loaded:
            self._load()
        return self._ids.lsn_of(op_id)

    def add(self, op_id: bytes) -> None:
        """One more was applied."""
        self._ids.add(op_id)

    def reset(self) -> None:
        """Those that are not durable were not kept. A disk that is full makes this happen again
        and again: what is known of the others is not read again."""
        lsn = self._port.place().lsn
        if lsn <= self._ids.last:
            self._ids.back_to(lsn)
            last = self._port.entry(lsn)
            if last is not None and last.op_id == self._ids.newest():
                self._loaded = False
                return
        self._begin(lsn)

    def _begin(self, lsn: int) -> None:
        self._ids = OpIds(DONE_KEPT, lsn)
        self._loaded = False

    def _load(self) -> None:
        """Those that are missing lie before those that are known."""
        ids = self._ids
        after = max(ids.last - DONE_KEPT, self._port.first_lsn() - 1)
        missing = ids.last - len(ids) - after
        if missing > 0:
            found = self._port.op_ids(after, missing)
            if len(found) != missing:
                raise StoreDamaged(f"of the records after {after} some are not there")
            ids.add_older(found)
        self._loaded = True
