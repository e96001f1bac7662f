"""Where rows are read and written: a dict, LMDB, or either with changes that may be dropped."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

_NONE: Final = object()


class Reads(Protocol):
    """Rows by key, in the order of their keys."""

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes."""

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys with ``prefix``, those greater than ``after``, in order, with their rows."""


class DictView:
    """Rows in memory: for a bot without a fleet, and the model that tests compare with."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.rows: dict[bytes, bytes] = dict(rows or {})
        self._keys = sorted(self.rows)

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes."""
        return self.rows.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order. The view must not change meanwhile."""
        start = after + b"\0" if after else prefix
        for place in range(bisect_left(self._keys, max(start, prefix)), len(self._keys)):
            key = self._keys[place]
            if not key.startswith(prefix):
                return
            yield key, self.rows[key]

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Puts rows, and (None) deletes them."""
        for key, row in changes.items():
            known = key in self.rows
            if row is None:
                if known:
                    del self.rows[key]
                    del self._keys[bisect_left(self._keys, key)]
            else:
                self.rows[key] = row
                if not known:
                    insort(self._keys, key)


class Staged:
    """Changes over another view, which must not change meanwhile. ``before`` holds what each
    changed row was there."""

    def __init__(self, base: Reads) -> None:
        self._base = base
        self._read: dict[bytes, bytes | None] = {}
        self.writes: dict[bytes, bytes | None] = {}
        self.before: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The row as it is with the changes."""
        row = self.writes.get(key, _NONE)
        return self._there(key) if row is _NONE else row  # type: ignore[return-value]

    def put(self, key: bytes, row: bytes | None) -> None:
        """Writes a row; None deletes it."""
        if key not in self.before:
            self.before[key] = self._there(key)
        self.writes[key] = row

    def put_new(self, key: bytes, row: bytes) -> None:
        """Writes a row that never was there before, and of which nothing is told."""
        self.writes[key] = row

    def _there(self, key: bytes) -> bytes | None:
        row = self._read.get(key, _NONE)
        if row is _NONE:
            row = self._read[key] = self._base.get(key)
        return row  # type: ignore[return-value]

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order, with the changes. The view must not change meanwhile."""
        return merged(self._base, self.writes, prefix, after)


def merged(
    base: Reads, writes: Mapping[bytes, bytes | None], prefix: bytes, after: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """The rows of a view as they are with changes over it, in order."""
    mine = sorted(k for k in writes if k.startswith(prefix) and k > after)
    place = 0
    for key, row in base.scan(prefix, after):
        while place < len(mine) and mine[place] < key:
            yield from _own(writes, mine[place])
            place += 1
        if place < len(mine) and mine[place] == key:
            yield from _own(writes, key)
            place += 1
        else:
            yield key, row
    for key in mine[place:]:
        yield from _own(writes, key)


def _own(writes: Mapping[bytes, bytes | None], key: bytes) -> Iterator[tuple[bytes, bytes]]:
    row = writes[key]
    if row is not None:
        yield key, row
