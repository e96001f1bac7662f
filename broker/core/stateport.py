"""Where the committed state is read, as the broker's core sees it, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from broker.core.keeping import KeepingFigures, Kept
from broker.core.logtime import LogClock, LogMark
from shard_node.state.buckets import Buckets
from shard_node.state.log import GENESIS, Entry, erased
from shard_node.state.machine import Place
from shard_node.state.views import DictView, Reads

COOLDOWNS_NOTE: Final = "cooldowns"
"""Under which name the checkpoint of the short cooldowns is kept beside rows and log."""


FORGETTING_NOTE: Final = "forgetting"
"""The same for whom the log still tells of, though they were forgotten."""
ERASED: Final = -1
"""The token of a commit that erased payloads."""


class Forgetting(NamedTuple):
    """A user who was forgotten by the record ``up_to``: the log was looked through for him up
    to ``looked_to``."""

    user: int
    up_to: int
    looked_to: int


class PortFigures(NamedTuple):
    """Of the file: what it has grown to and what of it is in use; and of those who read an older
    moment than the newest: how many commits ago that was at most, and for how long it is known.
    """

    file_bytes: int = 0
    used_bytes: int = 0
    reader_behind: int = 0
    reader_s: float = 0.0


class StatePort(Protocol):
    """Committed rows and records, all as of one ``place``. Raises StateError where they
    cannot be read."""

    @property
    def view(self) -> Reads:
        """The rows."""

    def place(self) -> Place:
        """Where the log stands."""

    def first_lsn(self) -> int:
        """The oldest record that the log still has; one after the last where it has none."""

    def entry(self, lsn: int) -> Entry | None:
        """A record; None where there is none (any more)."""

    def entries(self, after: int, limit: int) -> Iterator[Entry]:
        """Records after the lsn ``after``, at most ``limit``, in order."""

    def op_ids(self, after: int, limit: int) -> Sequence[bytes]:
        """The op ids of the same, many at once."""

    def figures(self, now: float, /) -> PortFigures:
        """Of the file, for `status`; at once."""


class MemoryPort:
    """A port on dicts, for a broker without a disk. ``commit`` is the writer's part."""

    def __init__(self) -> None:
        self._view = DictView()
        self._entries: dict[int, Entry] = {}
        self._place = Place(0, GENESIS, 0)
        self._first = 1

    @property
    def view(self) -> DictView:
        """The rows."""
        return self._view

    def place(self) -> Place:
        """Where the log stands."""
        return self._place

    def first_lsn(self) -> int:
        """The oldest record."""
        return self._first

    def entry(self, lsn: int) -> Entry | None:
        """A record; None where there is none (any more)."""
        return self._entries.get(lsn)

    def entries(self, after: int, limit: int) -> Iterator[Entry]:
        """Records after the lsn ``after`` in order."""
        start = max(after + 1, self._first)
        for lsn in range(start, min(start + limit, self._place.lsn + 1)):
            yield self._entries[lsn]

    def op_ids(self, after: int, limit: int) -> list[bytes]:
        """The op ids of the same."""
        return [entry.op_id for entry in self.entries(after, limit)]

    def figures(self, _now: float, /) -> PortFigures:
        """There is no file."""
        return PortFigures()

    def commit(self, writes: Mapping[bytes, bytes | None], entries: Sequence[Entry]) -> None:
        """Keeps a batch."""
        self._view.write(writes)
        for entry in entries:
            self._entries[entry.lsn] = entry
            self._place = Place(entry.lsn, entry.digest, entry.at_ms)

    def erase(self, lsns: Sequence[int]) -> None:
        """Erases the payloads of these records, where they are there."""
        for lsn in self._entries.keys() & set(lsns):
            self._entries[lsn] = erased(self._entries[lsn])

    def trim(self, first: int) -> None:
        """Forgets the records before ``first``."""
        for lsn in range(self._first, first):
            del self._entries[lsn]
        self._first = max(self._first, first)


@dataclass(slots=True)
class SharedState:
    """The state's port and clock, the short cooldowns, who is being forgotten, and figures for
    `status`.

    ``secret`` is of this process alone: salts are made with it. ``told`` counts the changes that
    each peer was told of, by its name, whether it got them or not. ``waiting`` counts
    transactions that are applied and not durable; ``commit_ms`` is how long the last commit took
    from the writer's hand to the word of its end.
    """

    port: StatePort = field(default_factory=MemoryPort)
    secret: bytes = b""
    told: dict[str, int] = field(default_factory=dict)
    buckets: Buckets = field(default_factory=Buckets)
    forgetting: list[Forgetting] = field(default_factory=list)
    clock: LogClock = field(default_factory=lambda: LogClock(LogMark(), 0.0))
    commits: int = 0
    failed: int = 0
    waiting: int = 0
    commit_ms: float = 0.0
    kept: Kept = field(default_factory=Kept)
    keeping: KeepingFigures = field(default_factory=KeepingFigures)
