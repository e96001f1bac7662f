"""What a commit of the state puts where. Puts only: what to put was computed before.

Many are put at once, by cursors: a transaction's own ``put`` lets go of the interpreter's lock
each time, which a busy thread gives back after milliseconds (400 of them took 440 ms beside one
that computed, and 0.6 ms by a cursor).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final, NamedTuple

import lmdb
import msgspec

from shard_node.state.files import (
    JOURNAL_KEY,
    LOG,
    MARK_KEY,
    META,
    NOTE_PREFIX,
    ROWS,
    UNREADABLE,
    Mark,
    RowDamaged,
    lsn_key,
    pack,
    read_mark,
    unpack,
    write_mark,
)
from shard_node.state.log import Entry, read_entry, write_entry
from store.errors import StoreDamaged, StoreFailed
from store.journal import Frame

KEY_MAX_BYTES: Final = 511
"""As lmdb is built."""
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
    records: tuple[bytes, ...] = ()
    """The entries' bytes (``with_records``)."""


class Frames(NamedTuple):
    """Frames of the journal that a commit brings into the file."""

    first: int
    last: int


class Left(NamedTuple):
    """A frame of the journal that the file lacked at the start, and had no room for. Its batches
    with records have the tokens 1 and on, the others 0."""

    number: int
    batches: list[Batch]


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """A batch as it lies in the journal."""

    writes: dict[bytes, bytes | None]
    records: tuple[bytes, ...]
    mark: Mark | None
    notes: dict[str, bytes | None]


_encode = msgspec.msgpack.Encoder().encode
_kept = msgspec.msgpack.Decoder(list[_Kept])


def with_records(batch: Batch) -> Batch:
    """The batch with the bytes of its entries: both the journal and the file want them."""
    return batch._replace(records=tuple([write_entry(entry) for entry in batch.entries]))


def encode_batches(batches: list[Batch]) -> bytes:
    """A frame's body. They have their records, and none of them ``work``."""
    return _encode([(batch.writes, batch.records, batch.mark, batch.notes) for batch in batches])


def decode_batches(body: bytes) -> list[Batch]:
    """What ``encode_batches`` was given, without the tokens. Raises StoreDamaged."""
    try:
        return [
            Batch(
                0,
                0,
                one.writes,
                tuple(map(read_entry, one.records)),
                one.mark,
                one.notes,
                None,
                one.records,
            )
            for one in _kept.decode(body)
        ]
    except UNREADABLE as error:
        text = f"a frame of the journal cannot be read: {error}"
        raise StoreDamaged(text) from error


def left_of(frames: list[Frame]) -> list[Left]:
    """What is in frames of the journal. Raises StoreDamaged."""
    return [Left(frame.number, decode_batches(frame.body)) for frame in frames]


def numbered(left: list[Left]) -> list[Left]:
    """With tokens from 1 on for batches that have records."""
    tokens = count(1)
    return [
        Left(number, [b._replace(token=next(tokens)) if b.entries else b for b in batches])
        for number, batches in left
    ]


def check_keys(batch: Batch) -> None:
    """Raises StoreFailed for a key that the file cannot have: the journal would take it."""
    for key in batch.writes:
        if not 0 < len(key) <= KEY_MAX_BYTES:
            raise StoreFailed(f"a key has {len(key)} bytes; it may have 1 to {KEY_MAX_BYTES}")


def put_batches(
    txn: lmdb.Transaction, handles: Handles, batches: list[Batch], frames: Frames | None
) -> None:
    """Puts them in this order; they are what these frames of the journal have (None: they are in
    none). Raises StoreFailed where records or frames do not follow those that are there,
    lmdb.Error; nothing may be committed then."""
    if frames is not None:
        _put_number(txn, handles[META], frames)
    before = mark = _mark(txn, handles)
    rows: dict[bytes, bytes | None] = {}
    records: list[tuple[bytes, bytes]] = []
    for batch in batches:
        mark = next_mark(batch, mark)
        records += _packed(batch)
        rows.update(batch.writes)
        for name, note in batch.notes.items():
            put(txn, handles[META], NOTE_PREFIX + name.encode(), note)
        if batch.work is not None:
            _put_all(txn, handles[LOG], records, append=True)
            _put_rows(txn, handles[ROWS], rows)
            records, rows = [], {}
            batch.work(txn, handles)
    _put_all(txn, handles[LOG], records, append=True)
    _put_rows(txn, handles[ROWS], rows)
    if mark is not before:
        put(txn, handles[META], MARK_KEY, write_mark(mark))


def journal_number(data: bytes | None) -> int:
    """What is kept under JOURNAL_KEY. Raises RowDamaged."""
    try:
        return int(data or b"0")
    except ValueError as error:
        text = f"the journal's number cannot be read: {error}"
        raise RowDamaged(text) from error


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


def _put_number(txn: lmdb.Transaction, db: Any, frames: Frames) -> None:
    """A frame that was left out would never come back."""
    due = journal_number(fetch(txn, db, JOURNAL_KEY)) + 1
    if frames.first != due:
        raise StoreFailed(f"frame {frames.first} of the journal came where {due} was due")
    put(txn, db, JOURNAL_KEY, str(frames.last).encode())


def _mark(txn: lmdb.Transaction, handles: Handles) -> Mark:
    return read_mark(fetch(txn, handles[META], MARK_KEY))


def _packed(batch: Batch) -> list[tuple[bytes, bytes]]:
    keys = [lsn_key(entry.lsn) for entry in batch.entries]
    return [(key, pack(key, data)) for key, data in zip(keys, batch.records, strict=True)]


def _put_rows(txn: lmdb.Transaction, db: Any, rows: dict[bytes, bytes | None]) -> None:
    """In the order of their keys: neighbours lie on the same page."""
    packed, gone = [], []
    for key in sorted(rows):
        row = rows[key]
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
            raise StoreDamaged(f"{len(packed) - added} of {len(packed)} keys were taken")


def next_mark(batch: Batch, mark: Mark) -> Mark:
    """Where the log stands after a batch. Raises StoreFailed where it does not follow."""
    due = mark.lsn
    for entry in batch.entries:
        due += 1
        if entry.lsn != due:
            raise StoreFailed(f"record {entry.lsn} of the log came where {due} was due")
    new = batch.mark
    if new is None:
        if batch.entries:
            raise StoreFailed(f"records up to {due} came without a mark")
        return mark
    if new.lsn != due:
        raise StoreFailed(f"the mark says {new.lsn} where the log ends at {due}")
    return new
