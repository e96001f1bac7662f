"""Where the committed state is read, as the broker's core sees it, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.core.keeping import KeepingFigures, Kept
from broker.core.logtime import LogClock, LogMark
from broker.core.unsettled import PortFigures, StatePort, Unsettled
from shard_node.state.buckets import Buckets
from shard_node.state.log import GENESIS, Entry, erased
from shard_node.state.machine import Place
from shard_node.state.opids import Known
from shard_node.state.views import DictView

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


class Behind(NamedTuple):
    """A group of an earlier process's that is durable, and that the file has no room for yet:
    ``token`` is what the word that it shows it comes with. It has records."""

    token: int
    writes: Mapping[bytes, bytes | None]
    entries: Sequence[Entry]

    @property
    def place(self) -> Place:
        """Where the log stands after it."""
        last = self.entries[-1]
        return Place(last.lsn, last.digest, last.at_ms)


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

    def figures(self, _now: float, /) -> PortFigures:
        """There is no file."""
        return PortFigures()

    def op_ids(self, after: int, limit: int) -> list[Known]:
        """Their op ids and log times."""
        return [(entry.op_id, entry.at_ms) for entry in self.entries(after, limit)]

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
    """The state's ports and clock, the short cooldowns, who is being forgotten, and figures for
    `status`.

    ``settled`` is what the file shows, ``port`` what is durable; all changes up to ``shown`` are
    in the file and were told; ``behind`` is what the file lacked at the start.
    ``secret`` is of this process alone: salts are made with it.
    ``era`` is another one where the rows do not follow by the log from those of the last process.
    ``forgetting_soon`` are those whose commit is under way.
    ``told`` counts the changes that each peer was told of, by its name, whether it got them or
    not. ``waiting`` counts transactions that are applied and not durable, ``unsettled`` those
    that are durable and not in the file; ``commit_ms`` is how long the last commit took from
    the writer's hand to the word of its end.
    """

    settled: StatePort = field(default_factory=MemoryPort)
    secret: bytes = b""
    era: str = ""
    behind: Sequence[Behind] = ()
    told: dict[str, int] = field(default_factory=dict)
    port: Unsettled = field(init=False)
    shown: Place = field(init=False)
    buckets: Buckets = field(default_factory=Buckets)
    forgetting: list[Forgetting] = field(default_factory=list)
    forgetting_soon: list[Forgetting] = field(default_factory=list)
    clock: LogClock = field(default_factory=lambda: LogClock(LogMark(), 0.0))
    commits: int = 0
    failed: int = 0
    waiting: int = 0
    unsettled: int = 0
    commit_ms: float = 0.0
    kept: Kept = field(default_factory=Kept)
    keeping: KeepingFigures = field(default_factory=KeepingFigures)

    def __post_init__(self) -> None:
        self.port = Unsettled(self.settled)
        self.shown = self.port.place()
        for group in self.behind:
            self.port.add(group.token, group.writes, group.entries, group.place)
