"""One partition by itself: out to a file, and in from one.

The file is MessagePack: a head, then rows one by one, then an end with their count and the
digest of all that came before it. A file without its end is refused before anything is written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import lmdb
import msgspec

from shard_node.state.context import Context
from shard_node.state.economy import Account, spill
from shard_node.state.files import IMPORT_KEY, META, REPLAY_KEY, ROWS, UNREADABLE, lsn_key
from shard_node.state.keys import BOOKKEEPING, PARTITIONS, Table, parse_key
from shard_node.state.rows import head, read, write
from shard_node.state.undo import Restore
from shard_node.state.views import Reads, Staged
from store.engine import FILE_MODE, os_failure, write_error
from store.errors import ExportRefused
from store.offline import broker_kept_out, sync_folder
from store.state import StateStore
from store.statecommit import put
from store.statestats import partition_prefix

EXPORT_SCHEMA: Final = 1
PIECE_MAX_BYTES: Final = 1 << 20
"""Of one row and its key, with what frames them; a row has at most 64 KiB."""
KEY_MAX_BYTES: Final = 511
"""LMDB's own limit."""
_SIZE_BYTES: Final = 4
IMPORT_ID_BYTES: Final = 16


class Head(msgspec.Struct, array_like=True, frozen=True, tag="shardctl-partition"):
    """What was exported, as of which record of which era (``StateStore.era``)."""

    schema: int
    partition: int
    era: str
    lsn: int


class Exported(msgspec.Struct, array_like=True, frozen=True, tag="row"):
    """A row."""

    key: bytes
    row: bytes


class End(msgspec.Struct, array_like=True, frozen=True, tag="end"):
    """So many rows, and the SHA-256 of all pieces before this one."""

    rows: int
    digest: bytes


class Imported(NamedTuple):
    """What an import did: rows written, rows deleted because the file has none of them, rows of
    bookkeeping (``keys.BOOKKEEPING``) left out: they follow from the others and this log."""

    partition: int
    written: int
    removed: int
    left_out: int


_encode = msgspec.msgpack.Encoder().encode
_pieces = msgspec.msgpack.Decoder(Head | Exported | End)


def export(view: Reads, partition: int, era: str, lsn: int, target: Path) -> int:
    """Write a partition's committed rows to a new file (0600); how many. The view is that of
    one moment, ``lsn``. Raises ExportRefused where the file exists, StoreFull, StoreFailed."""
    prefix = partition_prefix(partition)
    if target.exists():
        raise ExportRefused(f"{target} exists")
    part = target.with_name(target.name + ".part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(handle, "wb") as file:
            digest, rows = hashlib.sha256(), 0
            _put(file, digest, Head(EXPORT_SCHEMA, partition, era, lsn))
            for key, row in view.scan(prefix):
                _put(file, digest, Exported(key, row))
                rows += 1
            _put(file, digest, End(rows, digest.digest()))
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise os_failure(error, part) from error
    finally:
        part.unlink(missing_ok=True)
    return rows


def check_export(source: Path) -> tuple[Head, int]:
    """What the file is of, and its number of rows. Raises ExportRefused for what is damaged."""
    found: Head | None = None
    rows = 0
    for piece in _read(source):
        if isinstance(piece, Head):
            found = piece
        else:
            rows += 1
    assert found is not None  # _read begins with it
    return found, rows


def import_partition(state_folder: Path, source: Path) -> Imported:
    """Replace a partition's rows with those of the file, in one commit, while no broker runs.

    Each row becomes the next version of what is there, stamped with the last record of the log:
    what was logged before cannot be rolled back through it but by force. The log does not say
    that it happened, so rows are not replayed from before it: take a snapshot after.
    Raises ExportRefused, StoreInUse, StoreDamaged, StoreFull, StoreFailed.
    """
    about, _ = check_export(source)
    with broker_kept_out(state_folder.parent):
        store = StateStore.open(state_folder)
        try:
            return _replace(store, about, source)
        except lmdb.Error as error:
            raise write_error(error) from error
        finally:
            store.close()


def _replace(store: StateStore, about: Head, source: Path) -> Imported:
    mark = store.place()
    staged = Staged(store.view)
    context = Context(staged, store, mark.lsn, mark.at_ms)
    gone = {
        key
        for key, _ in store.view.scan(partition_prefix(about.partition))
        if key[1] not in BOOKKEEPING
    }
    written = left_out = 0
    for piece in _read(source):
        if not isinstance(piece, Exported):
            continue
        if piece.key[1] in BOOKKEEPING:
            left_out += 1
            continue
        new = _of_origin(piece.row, mark.lsn)
        if piece.key[1] == Table.ACCOUNT:
            new = _with_own_history(staged, piece.key, new)
        context.restore(Restore(piece.key, new, 0))
        gone.discard(piece.key)
        written += 1
    for key in gone:
        if key[1] == Table.ACCOUNT:
            _keep_history(staged, key)
        context.delete(key)
    with store.env.begin(write=True) as txn:
        for key, row in staged.writes.items():
            put(txn, store.handles[ROWS], key, row)
        put(txn, store.handles[META], REPLAY_KEY, lsn_key(mark.lsn + 1))
        put(txn, store.handles[META], IMPORT_KEY, os.urandom(IMPORT_ID_BYTES))
    store.renew()
    return Imported(about.partition, written, len(gone), left_out)


def _with_own_history(view: Staged, key: bytes, row: bytes) -> bytes:
    """An account of the file, with the history of the one that is there: that of this log."""
    mine = read(Account, view.get(key))
    try:
        found = read(Account, row)
    except UNREADABLE as error:
        raise ExportRefused(f"{parse_key(key)[1][0]} of the export is no account") from error
    assert found is not None
    return write(msgspec.structs.replace(found, recent=() if mine is None else mine.recent))


def _keep_history(view: Staged, key: bytes) -> None:
    """An account goes; what its row has of its history stays."""
    row = read(Account, view.get(key))
    if row is not None and row.recent:
        spill(view, str(parse_key(key)[1][0]), row.recent)


def _read(source: Path) -> Iterator[Head | Exported]:
    """The pieces before the end, each looked at; the end is, too."""
    digest, rows, partition = hashlib.sha256(), 0, -1
    try:
        with source.open("rb") as file:
            while True:
                piece, data = _piece(file, source, first=partition < 0)
                if isinstance(piece, End):
                    if (piece.rows, piece.digest) != (rows, digest.digest()) or file.read(1):
                        raise ExportRefused(f"{source} is not what was exported")
                    return
                _check_piece(piece, partition, source)
                if isinstance(piece, Head):
                    partition = piece.partition
                else:
                    rows += 1
                digest.update(data)
                yield piece
    except (OSError, *UNREADABLE) as error:
        raise ExportRefused(f"{source} cannot be read as an export: {error}") from error


def _check_piece(piece: Head | Exported, partition: int, source: Path) -> None:
    if isinstance(piece, Head):
        known = piece.schema == EXPORT_SCHEMA and partition < 0
        right = known and 0 <= piece.partition < PARTITIONS
    else:
        try:
            parse_key(piece.key)
            right = piece.key[0] == partition and len(piece.key) <= KEY_MAX_BYTES
            if piece.key[1] not in BOOKKEEPING:
                head(piece.row)
        except (IndexError, *UNREADABLE):
            right = False
    if not right:
        raise ExportRefused(f"{source} has a piece that belongs to no partition of ours")


def _piece(file: BinaryIO, source: Path, *, first: bool) -> tuple[Head | Exported | End, bytes]:
    """A piece and its bytes. What does not begin with a head was never an export."""
    try:
        data = _frame(file, source)
        piece = _pieces.decode(data)
    except (ExportRefused, *UNREADABLE):
        if not first:
            raise
    else:
        if isinstance(piece, Head) or not first:
            return piece, data
    text = f"{source} is no export of shardctl"
    raise ExportRefused(text, hint="shardctl state export   makes one")


def _frame(file: BinaryIO, source: Path) -> bytes:
    size = int.from_bytes(file.read(_SIZE_BYTES), "big")
    data = file.read(size) if 0 < size <= PIECE_MAX_BYTES else b""
    if not data or len(data) != size:
        raise ExportRefused(f"{source} ends before its end")
    return data


def _put(file: BinaryIO, digest: Any, piece: Head | Exported | End) -> None:
    data = _encode(piece)
    digest.update(data)
    file.write(len(data).to_bytes(_SIZE_BYTES, "big"))
    file.write(data)


def _of_origin(row: bytes, lsn: int) -> bytes:
    """The row as one that the transaction ``lsn`` decided."""
    fields = msgspec.msgpack.decode(row)
    fields[2] = lsn
    return _encode(fields)
