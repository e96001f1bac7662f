"""Is the state what was written? Structure, checksums, the chain, rows against the log.

For a file that nobody writes meanwhile: one at rest, or a snapshot of a running one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import lmdb
from lmdb import verify as structure

from shard_node.state.errors import BadName
from shard_node.state.files import (
    BASE_KEY,
    ERA_KEY,
    IMPORT_KEY,
    JOURNAL_KEY,
    LOG,
    MARK_KEY,
    META,
    NOTE_PREFIX,
    REPLAY_KEY,
    ROWS,
    SALT_KEY,
    SCHEMA,
    SCHEMA_KEY,
    UNREADABLE,
    Base,
    Mark,
    RowDamaged,
    key_lsn,
    read_base,
    read_mark,
    unpack,
)
from shard_node.state.keys import key_of, parse_key
from shard_node.state.log import Entry, fault, read_entry
from shard_node.state.rows import head
from store.errors import StoreDamaged, StoreError, StoreFull, StoreOpenError
from store.offline import broker_kept_out, opened_at_rest
from store.replay import compare
from store.state import settle

PROBLEMS_MAX: Final = 100
REPLAY_MAX: Final = 1_000_000
"""Records that are replayed unless more are asked for: about a minute, and their rows in
memory."""


@dataclass(slots=True)
class Report:
    """What a check found. ``problems`` empty: nothing wrong. ``notes`` say what was not looked
    at, and why."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    mark: Mark = field(default_factory=Mark)
    base: Base = field(default_factory=Base)
    rows: int = 0
    records: int = 0
    erased: int = 0
    """Records whose payload was erased."""
    replayed: bool = False

    def add(self, problem: str) -> None:
        """At most PROBLEMS_MAX are kept."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def check(state_folder: Path, replay_max: int | None = None, since: Path | None = None) -> Report:
    """Check the state of a fleet that does not run. ``since``: a snapshot to replay the log
    from, where it was trimmed. What a killed broker left in the journal comes into the file
    first. Raises StoreInUse, StoreOpenError, StoreFull where it has no room there."""
    with broker_kept_out(state_folder.parent):
        left = _journal_problem(state_folder)
        if left:
            return Report(problems=[left])
        return check_file(state_folder, replay_max, since)


def _journal_problem(state_folder: Path) -> str:
    try:
        if not list(_structure(state_folder)):  # else the engine may crash on it
            settle(state_folder)
    except StoreFull:
        raise  # nothing is wrong with it, and without the journal it is not the state
    except (StoreError, structure.VerifyError, OSError) as error:
        return f"journal: {error}" if isinstance(error, StoreError) else ""
    return ""


def check_file(folder: Path, replay_max: int | None = None, since: Path | None = None) -> Report:
    """Check the file in a folder. Raises StoreOpenError where there is none."""
    report = Report()
    try:
        for problem in _structure(folder):
            report.add(f"structure: {problem}")
    except structure.VerifyError as error:
        report.add(f"structure: {error}")
    except OSError as error:
        raise StoreOpenError(f"{folder}: {error.strerror}") from error
    if report.problems:
        return report  # the engine is not given a file that it may crash on
    try:
        with opened_at_rest(folder) as (env, handles), env.begin() as txn:
            _check_contents(txn, handles, report)
            if not report.problems:
                limit = REPLAY_MAX if replay_max is None else replay_max
                compare(txn, handles, report, limit, since)
    except (lmdb.Error, StoreDamaged) as error:
        report.add(f"contents: {error}")
    return report


def _structure(folder: Path) -> list[str]:
    problems: list[str] = structure.verify(str(folder), subdir=True)  # type: ignore[no-untyped-call]
    return problems


def _check_contents(txn: lmdb.Transaction, handles: dict[bytes, Any], report: Report) -> None:
    meta = dict(_values(txn, handles, META, report))
    try:
        report.mark = read_mark(meta.get(MARK_KEY))
        report.base = read_base(meta.get(BASE_KEY))
    except RowDamaged as error:
        report.add(f"meta: {error}")
        return
    if meta.get(SCHEMA_KEY) != str(SCHEMA).encode():
        report.add(f"meta: schema {meta.get(SCHEMA_KEY)!r}; this version reads {SCHEMA}")
    known = {SCHEMA_KEY, MARK_KEY, BASE_KEY, ERA_KEY, REPLAY_KEY, IMPORT_KEY, JOURNAL_KEY, SALT_KEY}
    for key in meta:
        if key not in known and not key.startswith(NOTE_PREFIX):
            report.add(f"meta: {key!r} is none of ours")
    _check_log(txn, handles, report)
    _check_rows(txn, handles, report)


def _check_log(txn: lmdb.Transaction, handles: dict[bytes, Any], report: Report) -> None:
    """The chain from the base to the mark."""
    lsn, digest, at_ms = report.base.lsn, report.base.digest, report.base.at_ms
    for key, data in _values(txn, handles, LOG, report):
        report.records += 1
        lsn += 1
        entry = _entry(key, data, lsn, report)
        if entry is None:
            return
        why = fault(entry, digest)
        if why:
            report.add(f"log: record {lsn}: {why}")
        if entry.at_ms < at_ms:
            report.add(f"log: record {lsn} is of before the one before it")
        report.erased += entry.body is None
        digest, at_ms = entry.digest, entry.at_ms
    if (lsn, digest) != (report.mark.lsn, report.mark.digest):
        report.add(f"log: it ends at {lsn}, the mark says {report.mark.lsn}")


def _entry(key: bytes, data: bytes, lsn: int, report: Report) -> Entry | None:
    try:
        entry = read_entry(data)
        found = key_lsn(key)
    except (*UNREADABLE, RowDamaged) as error:
        report.add(f"log: record {lsn} cannot be read: {error}")
        return None
    if not found == entry.lsn == lsn:
        report.add(f"log: record {found} where {lsn} was due")
        return None
    return entry


def _check_rows(txn: lmdb.Transaction, handles: dict[bytes, Any], report: Report) -> None:
    for key, data in _values(txn, handles, ROWS, report):
        report.rows += 1
        try:
            table, parts = parse_key(key)
            due = key_of(table, *parts)
            version, lsn = head(data) if data else (1, report.mark.lsn)
        except (IndexError, TypeError, BadName, *UNREADABLE) as error:
            report.add(f"rows: {key!r} cannot be read: {error}")
            continue
        if key != due:
            report.add(f"rows: {key!r} is in a partition that is not its own")
        if version < 1 or lsn > report.mark.lsn:
            report.add(f"rows: {key!r} was written by {lsn}, the log ends at {report.mark.lsn}")


def _values(
    txn: lmdb.Transaction, handles: dict[bytes, Any], name: bytes, report: Report
) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values whose checksums are right; the others are problems.

    Each is looked up as well: a walk goes from page to page and does not see that a search
    for the key would be led elsewhere.
    """
    database = handles[name]
    with txn.cursor(database) as cursor:
        for key, stored in cursor.iternext():
            assert isinstance(key, bytes) and isinstance(stored, bytes)
            if txn.get(key, db=database) != stored:
                report.add(f"{name.decode()}: a search for {key!r} does not find it")
            try:
                yield key, unpack(key, stored)
            except RowDamaged as error:
                report.add(f"{name.decode()}: {error}")
