"""Rows and records that are applied and not committed yet, over those that are.

Transactions are applied as they come, each on top of the one before, while the commits of
earlier ones still run. Each commit is a layer: the oldest one goes when it is durable.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from broker.core.stateport import StatePort
from shard_node.state.log import Entry
from shard_node.state.machine import Applied, Place
from shard_node.state.views import merged

_NONE: Final = object()


class Layer:
    """What one commit will hold: the last of each row, and the records in order."""

    __slots__ = ("entries", "writes")

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self.entries: list[Entry] = []


class Overlay:
    """What ``apply`` reads: a view and a log, with what waits for its commit on top.

    ``place`` is where the log will stand once all of it is durable; ``layer`` is the one
    that takes what is applied now.
    """

    def __init__(self, port: StatePort) -> None:
        self._port = port
        self.layer = Layer()
        self._layers = deque([self.layer])
        self.place = port.place()

    def get(self, key: bytes) -> bytes | None:
        """The row as it will be."""
        for layer in self._layers:  # the newest first
            row = layer.writes.get(key, _NONE)
            if row is not _NONE:
                return row  # type: ignore[return-value]
        return self._port.view.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order, as they will be. The overlay must not change meanwhile."""
        writes: dict[bytes, bytes | None] = {}
        for layer in reversed(self._layers):
            writes.update(layer.writes)
        return merged(self._port.view, writes, prefix, after)

    def entry(self, lsn: int) -> Entry | None:
        """A record; None where there is none (any more)."""
        for layer in self._layers:
            if layer.entries and layer.entries[0].lsn <= lsn <= layer.entries[-1].lsn:
                return layer.entries[lsn - layer.entries[0].lsn]
        return self._port.entry(lsn)

    def add(self, applied: Applied) -> None:
        """A transaction was applied, not one that had been before."""
        entry = applied.entry
        assert entry is not None
        self.layer.writes.update(applied.writes)
        self.layer.entries.append(entry)
        self.place = Place(entry.lsn, entry.digest, entry.at_ms)

    def seal(self) -> Layer:
        """The layer for the writer; what is applied from now on comes into another one."""
        sealed = self.layer
        self.layer = Layer()
        self._layers.appendleft(self.layer)
        return sealed

    def committed(self) -> None:
        """The oldest sealed layer is durable, and the view below shows it."""
        self._layers.pop()

    def reset(self) -> None:
        """Forget all that is not durable: it was not kept."""
        self.layer = Layer()
        self._layers = deque([self.layer])
        self.place = self._port.place()
