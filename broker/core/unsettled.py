"""What is durable and not in the state's file yet, over what the file shows.

The broker reads through this; nodes and other processes read the file itself, so they are
told of a change only once the file shows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from shard_node.state.log import Entry
from shard_node.state.machine import Place
from shard_node.state.opids import Known
from shard_node.state.views import Reads, merged


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

    def op_ids(self, after: int, limit: int) -> Sequence[Known]:
        """Their op ids and log times, many at once."""

    def figures(self, now: float, /) -> PortFigures:
        """Of the file, for `status`; at once."""


class _Group(NamedTuple):
    token: int
    writes: Mapping[bytes, bytes | None]
    entries: Sequence[Entry]


class Unsettled:
    """A StatePort, and the rows' ``Reads``."""

    def __init__(self, settled: StatePort) -> None:
        self._settled = settled
        self._place = settled.place()
        self._groups: deque[_Group] = deque()
        self._rows: dict[bytes, _Group] = {}
        """Which group wrote the newest of each row."""

    @property
    def view(self) -> Unsettled:
        """The rows."""
        return self

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes."""
        group = self._rows.get(key)
        return self._settled.view.get(key) if group is None else group.writes[key]

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order. Nothing may be added meanwhile."""
        if not self._rows:
            return self._settled.view.scan(prefix, after)
        writes = {
            key: group.writes[key] for key, group in self._rows.items() if key.startswith(prefix)
        }
        return merged(self._settled.view, writes, prefix, after)

    def place(self) -> Place:
        """Where the durable log stands."""
        return self._place if self._groups else self._settled.place()

    def first_lsn(self) -> int:
        """The oldest record."""
        return self._settled.first_lsn()

    def entry(self, lsn: int) -> Entry | None:
        """A record; None where there is none (any more)."""
        for group in self._groups:
            entries = group.entries
            if entries[0].lsn <= lsn <= entries[-1].lsn:
                return entries[lsn - entries[0].lsn]
        return self._settled.entry(lsn)

    def entries(self, after: int, limit: int) -> Iterator[Entry]:
        """Records after the lsn ``after``, at most ``limit``, in order."""
        last = after
        for entry in self._settled.entries(after, limit):
            yield entry
            last, limit = entry.lsn, limit - 1
        for group in self._groups:
            for entry in group.entries:
                if entry.lsn > last and limit > 0:
                    yield entry
                    last, limit = entry.lsn, limit - 1

    def op_ids(self, after: int, limit: int) -> Sequence[Known]:
        """Their op ids and log times."""
        found = list(self._settled.op_ids(after, limit))
        if len(found) < limit and self._groups:  # the file may show some of them already
            after += len(found)
            for group in self._groups:
                found += [(one.op_id, one.at_ms) for one in group.entries if one.lsn > after]
        return found[:limit]

    def figures(self, now: float, /) -> PortFigures:
        """Of the file."""
        return self._settled.figures(now)

    def add(
        self,
        token: int,
        writes: Mapping[bytes, bytes | None],
        entries: Sequence[Entry],
        place: Place,
    ) -> None:
        """A group is durable. Its rows and records must not be changed later."""
        group = _Group(token, writes, entries)
        self._groups.append(group)
        self._rows.update(dict.fromkeys(writes, group))
        self._place = place

    def settle(self, token: int) -> None:
        """The file shows all groups up to this token."""
        rows = self._rows
        while self._groups and self._groups[0].token <= token:
            group = self._groups.popleft()
            for key in group.writes:
                if rows[key] is group:
                    del rows[key]
            # a later group wrote the others, and goes later
