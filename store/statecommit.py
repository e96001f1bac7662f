"""What a commit of the state puts where. Puts only: what to put was computed before.

Many are put at once, by cursors: a transaction's own ``put`` lets go of the interpreter's lock
each time, which a busy thread gives back after milliseconds (400 of them took 440 ms beside one
that computed, and 0.6 ms by a cursor).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import lmdb

from shard_node.state.files import (
    LOG,
    MARK_KEY,
    META,
    NOTE_PREFIX,
    ROWS,
    Mark,
    lsn_key,
    pack,
    read_mark,
    unpack,
    write_mark,
)
from shard_node.state.log import Entry, write_entry
from store.errors import StoreFailed

Handles = Mapping[bytes, Any]
"""The databases by name."""
Work = Callable[[lmdb.Transaction, Handles], None]
"""Something more to do in the same commit: erase payloads, trim a piece of the log."""


class Batch(NamedTuple):
    """What is kept together or not at all. Made by ``StateWriter.submit``."""

    token: int
    generation: int
    writes: Mapping[bytes, bytes | None]
    entries: tuple[Entry, ...]
    mark: Mark | None
    notes: Mapping[str, bytes | None]
    work: Work | None


def put_batches(txn: lmdb.Transaction, handles: Handles, batches: list[Batch]) -> None:
    """Puts them in this order. Raises StoreFailed where their records do not follow each other,
    lmdb.Error; nothing may be committed then."""
    before = mark = _mark(txn, handles)
    for batch in batches:
        _put_entries(txn, handles[LOG], batch, mark.lsn)
        _put_rows(txn, handles[ROWS], batch)
        for name, note in batch.notes.items():
            put(txn, handles[META], NOTE_PREFIX + name.encode(), note)
        if batch.work is not None:
            batch.work(txn, handles)
        mark = _next_mark(batch, mark)
    if mark is not before:
        put(txn, handles[META], MARK_KEY, write_mark(mark))


def put(txn: lmdb.Transaction, db: Any, key: bytes, value: bytes | None) -> None:
    """Put a value with its checksum, or (None) delete it."""
    if value is None:
        txn.delete(key, db=db)
    else:
        txn.put(key, pack(key, value), db=db)


def fetch(txn: lmdb.Transaction, db: Any, key: bytes) -> bytes | None:
    """The value in this transaction. Raises RowDamaged."""
    stored = txn.get(key, db=db)
    return None if stored is None else unpack(key, bytes(stored))


def _mark(txn: lmdb.Transaction, handles: Handles) -> Mark:
    return read_mark(fetch(txn, handles[META], MARK_KEY))


def _put_entries(txn: lmdb.Transaction, db: Any, batch: Batch, last: int) -> None:
    packed = []
    for entry in batch.entries:
        last += 1
        if entry.lsn != last:
            raise StoreFailed(f"record {entry.lsn} of the log came where {last} was due")
        key = lsn_key(last)
        packed.append((key, pack(key, write_entry(entry))))
    _put_all(txn, db, packed, append=True)


def _put_rows(txn: lmdb.Transaction, db: Any, batch: Batch) -> None:
    """In the order of their keys: neighbours lie on the same page."""
    writes = batch.writes
    packed, gone = [], []
    for key in sorted(writes):
        row = writes[key]
        if row is None:
            gone.append(key)
        else:
            packed.append((key, pack(key, row)))
    _put_all(txn, db, packed)
    if gone:
        with txn.cursor(db) as cursor:
            for key in gone:
                if cursor.set_key(key):
                    cursor.delete()


def _put_all(
    txn: lmdb.Transaction, db: Any, packed: list[tuple[bytes, bytes]], *, append: bool = False
) -> None:
    if packed:
        with txn.cursor(db) as cursor:
            _, added = cursor.putmulti(packed, append=append)
        if added != len(packed):
            raise StoreFailed(f"{len(packed) - added} of {len(packed)} were not put")


def _next_mark(batch: Batch, mark: Mark) -> Mark:
    due = batch.entries[-1].lsn if batch.entries else mark.lsn
    new = batch.mark
    if new is None:
        if batch.entries:
            raise StoreFailed(f"records up to {due} came without a mark")
        return mark
    if new.lsn != due:
        raise StoreFailed(f"the mark says {new.lsn} where the log ends at {due}")
    return new
