"""The rows again, from the log alone: that they are what the records say.

Replay starts from nothing, or from a snapshot where the log was trimmed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lmdb

from shard_node.state.errors import StateError
from shard_node.state.files import (
    IMPORT_KEY,
    LOG,
    MARK_KEY,
    META,
    ROWS,
    Mark,
    get,
    lsn_key,
    read_mark,
    scan,
)
from shard_node.state.log import Entry, read_entry
from shard_node.state.machine import Place, apply
from shard_node.state.opids import WINDOW, OpIds
from shard_node.state.sweeping import outlived
from shard_node.state.tx import Tx
from shard_node.state.views import DictView, Reads, Staged
from store.offline import opened_at_rest

if TYPE_CHECKING:
    from store.check import Report


def compare(
    txn: lmdb.Transaction,
    handles: dict[bytes, Any],
    report: Report,
    replay_max: int,
    since: Path | None,
) -> None:
    """Replay the log and compare the rows with those that are there."""
    source = Source(txn, handles)
    if since is None:
        _compare(source, DictView(), Source(None, {}), Mark(), report, replay_max)
        return
    with opened_at_rest(since) as (env, names), env.begin() as before:
        start = Source(before, names)
        mark = read_mark(start.read(META, MARK_KEY))
        mine = source.entry(mark.lsn)
        if mark.lsn != report.base.lsn and (mine is None or mine.digest != mark.digest):
            report.add(f"{since} is no snapshot of this state: record {mark.lsn} is another")
            return
        _compare(source, Rows(start), start, mark, report, replay_max)


class Source:
    """What a file has, read in one transaction; an empty one for None."""

    def __init__(self, txn: lmdb.Transaction | None, handles: dict[bytes, Any]) -> None:
        self._txn, self._handles = txn, handles

    def read(self, name: bytes, key: bytes) -> bytes | None:
        """The value of a key."""
        if self._txn is None:
            return None
        with self._txn.cursor(self._handles[name]) as cursor:
            return get(cursor, key)

    def walk(
        self, name: bytes, prefix: bytes = b"", after: bytes = b""
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in order."""
        if self._txn is not None:
            with self._txn.cursor(self._handles[name]) as cursor:
                yield from scan(cursor, prefix, after)

    def entry(self, lsn: int) -> Entry | None:
        """A record of its log."""
        data = self.read(LOG, lsn_key(lsn)) if lsn > 0 else None
        return None if data is None else read_entry(data)


class Rows:
    """The rows of a file."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def get(self, key: bytes) -> bytes | None:
        """The row's bytes."""
        return self._source.read(ROWS, key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order."""
        return self._source.walk(ROWS, prefix, after)


class _Past:
    """The log as it was at each moment of the replay."""

    def __init__(self, source: Source, start: Source, lsn: int) -> None:
        self._source, self._start = source, start
        self.now = lsn
        self._op_ids = OpIds(lsn)
        older = start.walk(LOG, after=lsn_key(max(0, lsn - WINDOW.most)))
        entries = [read_entry(data) for _, data in older]
        self._op_ids.add_older([(entry.op_id, entry.at_ms) for entry in entries])

    def add(self, entry: Entry) -> None:
        self._op_ids.add(entry.op_id, entry.at_ms)
        self.now = entry.lsn

    def applied(self, op_id: bytes) -> int | None:
        return self._op_ids.lsn_of(op_id)

    def entry(self, lsn: int) -> Entry | None:
        if lsn > self.now:
            return None
        entry = self._source.entry(lsn)
        if entry is None or entry.body is None:  # trimmed or erased since
            return self._start.entry(lsn) or entry
        return entry


def _compare(
    source: Source, base: Reads, start: Source, mark: Mark, report: Report, replay_max: int
) -> None:
    why = _hindrance(source, start, mark, report, replay_max)
    if why:
        report.notes.append(f"rows were not compared with the log: {why}")
        return
    rows = _replayed(source, base, start, mark, report)
    if rows is None:
        return
    first = report.base.lsn + 1
    pairs = zip_longest(_lasting(rows.scan(b""), first), _lasting(source.walk(ROWS), first))
    for due, found in pairs:
        if due != found:
            key = min(pair[0] for pair in (due, found) if pair is not None)
            report.add(f"rows: {key!r} is not what the log says; what follows was not compared")
            return
    report.replayed = True


def _lasting(rows: Iterator[tuple[bytes, bytes]], first: int) -> Iterator[tuple[bytes, bytes]]:
    """Rows without those that may have gone with the records that were trimmed."""
    return (pair for pair in rows if first == 1 or not outlived(*pair, first))


def _hindrance(source: Source, start: Source, mark: Mark, report: Report, replay_max: int) -> str:
    if report.base.lsn > mark.lsn:
        return f"it was trimmed up to {report.base.lsn}; give a snapshot of that time or later"
    if source.read(META, IMPORT_KEY) != start.read(META, IMPORT_KEY):
        return "rows were imported; give a snapshot of after that"
    if report.mark.lsn - mark.lsn > replay_max:
        return f"it has {report.mark.lsn - mark.lsn} records, more than {replay_max}"
    return ""


def _replayed(
    source: Source, base: Reads, start: Source, mark: Mark, report: Report
) -> Reads | None:
    rows = base if isinstance(base, DictView) else Staged(base)
    past, place = _Past(source, start, mark.lsn), Place(mark.lsn, mark.digest, 0)
    for _, data in source.walk(LOG, after=lsn_key(mark.lsn)):
        entry = read_entry(data)
        payload = entry.payload()
        if payload is None:
            text = f"the payload of record {entry.lsn} was erased"
            report.notes.append(f"rows were not compared with the log: {text}")
            return None
        tx = Tx(entry.op_id, entry.salt, payload.ops, payload.actor)
        try:
            applied = apply(rows, past, tx, entry.at_ms, place)
        except StateError as error:
            report.add(f"log: record {entry.lsn} cannot be applied: {error}")
            return None
        if applied.entry is None or applied.entry.digest != entry.digest:
            report.add(f"log: record {entry.lsn} is another when it is applied again")
            return None
        if isinstance(rows, DictView):
            rows.write(applied.writes)
        else:
            for key, row in applied.writes.items():
                rows.put(key, row)
        past.add(entry)
        place = Place(entry.lsn, entry.digest, 0)
    return rows
