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
from shard_node.state.errors import StateError
from shard_node.state.log import Entry
from shard_node.state.machine import Applied, Place
from shard_node.state.opids import WINDOW, Known, OpIds
from shard_node.state.views import merged

RECENT_MAX: Final = 32_768
"""Durable rows that are remembered."""
PIECE: Final = 4096
"""Op ids that are read at once; of a damaged piece each is read by itself."""
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

    def load(self) -> None:
        """Read which transactions were applied now: it may take a second, and the first that is
        asked for would wait for it."""
        self._done.load()

    @property
    def unread(self) -> tuple[int, ...]:
        """Records whose op ids should be known and cannot be read."""
        return self._done.unread

    def applied(self, op_id: bytes) -> int | None:
        """The record of this op id; None where it was not applied, as far as can be read."""
        return self._done.lsn_of(op_id)

    def add(self, applied: Applied) -> None:
        """A transaction was applied, not one that had been before."""
        entry = applied.entry
        assert entry is not None
        self.layer.writes.update(applied.writes)
        self.layer.entries.append(entry)
        self._done.add(entry.op_id, entry.at_ms)
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
    """Which of the last transactions were applied, durable or not: those in ``opids.Window``.

    Those from before the start are read from the log by ``load``, or when the first is asked
    for, all at once: before that it knows of none that it was not applied. What is damaged is
    left out, and told of in ``unread``: all else goes on without it.
    """

    def __init__(self, port: StatePort) -> None:
        self._port = port
        self.unread: tuple[int, ...] = ()
        self._begin(port.place())

    def lsn_of(self, op_id: bytes) -> int | None:
        """The record of this op id."""
        self.load()
        return self._ids.lsn_of(op_id)

    def load(self) -> None:
        """Read those that are missing."""
        if not self._loaded:
            self._load()

    def add(self, op_id: bytes, at_ms: int) -> None:
        """One more was applied."""
        self._ids.add(op_id, at_ms)

    def reset(self) -> None:
        """Those that are not durable were not kept. A disk that is full makes this happen again
        and again: what is known of the others is not read again."""
        place = self._port.place()
        if place.lsn <= self._ids.last:
            self._ids.back_to(place.lsn)
            if self._ids.newest() and self._op_id(place.lsn) == self._ids.newest():
                self._at_ms, self._loaded = place.at_ms, False
                return
        self._begin(place)

    def _begin(self, place: Place) -> None:
        self._ids, self._at_ms = OpIds(place.lsn, WINDOW), place.at_ms
        self._loaded = False

    def _load(self) -> None:
        """Those that are missing lie before those that are known."""
        ids = self._ids
        at_ms = ids.newest_at_ms()
        after = WINDOW.before(
            ids.last,
            self._at_ms if at_ms is None else at_ms,
            self._port.first_lsn(),
            self._time_of,
        )
        missing = ids.last - len(ids) - after
        if missing > 0:
            found: list[Known] = []
            unread: list[int] = []
            for start in range(after, after + missing, PIECE):
                self._read(start, min(PIECE, after + missing - start), found, unread)
            ids.add_older(found)
            self.unread = tuple(sorted({*self.unread, *unread}))
        self._loaded = True

    def _read(self, after: int, count: int, found: list[Known], unread: list[int]) -> None:
        """A piece of the log; where something in it is damaged, one by one."""
        try:
            piece = self._port.op_ids(after, count)
        except StateError:
            piece = ()
        if len(piece) == count:
            found += piece
        elif count > 1:
            for lsn in range(after, after + count):
                self._read(lsn, 1, found, unread)
        else:
            found.append((b"", found[-1][1] if found else 0))
            unread.append(after + 1)

    def _time_of(self, lsn: int) -> int | None:
        entry = self._entry(lsn)
        return None if entry is None else entry.at_ms

    def _op_id(self, lsn: int) -> bytes | None:
        entry = self._entry(lsn)
        return None if entry is None else entry.op_id

    def _entry(self, lsn: int) -> Entry | None:
        """None for a damaged one too."""
        try:
            return self._port.entry(lsn)
        except StateError:
            return None
