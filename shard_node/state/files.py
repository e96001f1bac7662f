"""How the state lies in its file: what its databases are called, and the checksums.

Shared by the store, which writes the file, and by nodes, which read it. Nothing here opens
one: the functions take a cursor of lmdb's, or bytes.

A stored value is four bytes of CRC-32 over key and value, and the value. So a changed bit in
either is found when the row is read. A row that is *not* found is no proof by itself (its key
may be what changed): ``get`` and ``scan`` look at both neighbours of the gap, which is where a
search ends that one wrong key led astray.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import msgspec

from shard_node.state.errors import BadName
from shard_node.state.log import GENESIS
from shard_node.state.machine import Place
from shard_node.state.opids import Known

SCHEMA: Final = 2
ROWS: Final = b"rows"
LOG: Final = b"log"
META: Final = b"meta"
DATABASES: Final = (ROWS, LOG, META)

SCHEMA_KEY: Final = b"schema"
MARK_KEY: Final = b"mark"
BASE_KEY: Final = b"base"
ERA_KEY: Final = b"era"
REPLAY_KEY: Final = b"replay"
"""The lsn of the first record after rows were imported: the log alone explains no row of before
it."""
IMPORT_KEY: Final = b"import"
"""Drawn at each import of rows: a snapshot that has the same one is of after it."""
JOURNAL_KEY: Final = b"journal"
"""The number of the last frame of the journal that is in the file."""
SALT_KEY: Final = b"salt"
"""Drawn when the store was made, and told to nobody: the checksums of the journal begin with it,
so that nothing that somebody writes into the state can look like a frame."""
NOTE_PREFIX: Final = b"note/"
KEY_MAX_BYTES: Final = 511
"""What LMDB takes, as it is built."""
_CRC: Final = struct.Struct(">I")
_LSN: Final = struct.Struct(">Q")


UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises for bytes that are none of ours; not all of it is its own."""


class RowDamaged(ValueError):
    """What was read is not what was written."""


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """Where the log stands, and the clocks at that moment.

    ``at_ms`` is log time. ``boottime_ms`` (CLOCK_BOOTTIME) means something while the boot has
    the id ``boot_id``; ``wall_ms`` is the wall clock, since the epoch.
    """

    lsn: int = 0
    digest: bytes = GENESIS
    at_ms: int = 0
    boot_id: str = ""
    boottime_ms: int = 0
    wall_ms: int = 0

    @property
    def place(self) -> Place:
        """What ``apply`` goes on from."""
        return Place(self.lsn, self.digest, self.at_ms)


class Base(msgspec.Struct, array_like=True, frozen=True):
    """What the log begins after: the last record that was trimmed; lsn 0 where none was."""

    lsn: int = 0
    digest: bytes = GENESIS
    at_ms: int = 0


class Begin(msgspec.Struct, array_like=True):
    """What a record begins with (``log.Entry``)."""

    lsn: int
    at_ms: int
    op_id: bytes


class Cursor(Protocol):
    """What is used of lmdb's, opened to give bytes."""

    def set_key(self, key: bytes) -> bool:
        """To this key."""

    def set_range(self, key: bytes) -> bool:
        """To this key or the next."""

    def prev(self) -> bool:
        """To the one before."""

    def next(self) -> bool:
        """To the one after."""

    def last(self) -> bool:
        """To the last."""

    def item(self) -> tuple[Any, Any]:
        """Key and value here."""

    def iternext(self) -> Iterator[Any]:
        """Keys and values from here on."""

    def value(self) -> Any:
        """The value here."""


def pack(key: bytes, value: bytes) -> bytes:
    """What is stored for a value under a key."""
    return _CRC.pack(zlib.crc32(value, zlib.crc32(key))) + value


def unpack(key: bytes, stored: bytes) -> bytes:
    """The value. Raises RowDamaged."""
    value = stored[4:]
    if len(stored) < _CRC.size or _CRC.unpack_from(stored)[0] != zlib.crc32(value, zlib.crc32(key)):
        msg = f"the checksum of {key!r} is not that of its bytes"
        raise RowDamaged(msg)
    return value


def get(cursor: Cursor, key: bytes) -> bytes | None:
    """The value of a key; None where there is none. Raises RowDamaged, BadName."""
    if not 0 < len(key) <= KEY_MAX_BYTES:
        raise _no_key(key)
    if cursor.set_key(key):
        return unpack(key, cursor.value())
    found = cursor.set_range(key)
    if found:
        _check(cursor, above=key)
    if cursor.prev() if found else cursor.last():
        _check(cursor, below=key)
    return None


def scan(cursor: Cursor, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Keys with ``prefix``, those greater than ``after``, in order, with their values.

    The cursor is the scan's own until its end. Raises RowDamaged, BadName.
    """
    if max(len(prefix), len(after)) > KEY_MAX_BYTES:
        raise _no_key(max(prefix, after, key=len))
    start = max(prefix, after + b"\0") if after else prefix
    found = cursor.set_range(start)
    if start and (cursor.prev() if found else cursor.last()):
        _check(cursor, below=start)
    more, last = found and cursor.set_range(start), b""
    while more:
        key, stored = cursor.item()
        value = unpack(key, stored)  # before anything is made of the key
        if key < start or (last and key <= last):
            raise _disorder(key)
        if not key.startswith(prefix):
            return
        yield key, value
        last, more = key, cursor.next()


def op_ids(cursor: Cursor, after: int, limit: int) -> list[Known]:
    """The op ids and log times of the records after the lsn ``after``, at most ``limit``, in
    order: many at once, a microsecond for each. Raises RowDamaged."""
    found: list[Known] = []
    if limit <= 0 or not cursor.set_range(lsn_key(after + 1)):
        return found
    add, decode, crc32, crc_of = found.append, _begins.decode, zlib.crc32, _CRC.unpack_from
    lsn = after
    try:
        for key, stored in islice(cursor.iternext(), limit):
            lsn += 1
            value = stored[4:]
            begin = decode(value)
            if crc_of(stored)[0] != crc32(value, crc32(key)) or begin.lsn != lsn:
                msg = f"record {lsn} of the log is not what was written"
                raise RowDamaged(msg)
            add((begin.op_id, begin.at_ms))
    except (*UNREADABLE, struct.error) as error:
        msg = f"record {lsn} of the log cannot be read: {error}"
        raise RowDamaged(msg) from error
    return found


def lsn_key(lsn: int) -> bytes:
    """The key of a record of the log."""
    return _LSN.pack(lsn)


def key_lsn(key: bytes) -> int:
    """The lsn of a record's key. Raises RowDamaged for what is none."""
    if len(key) != _LSN.size:
        msg = f"{key!r} is no key of the log"
        raise RowDamaged(msg)
    lsn: int = _LSN.unpack(key)[0]
    return lsn


def write_mark(mark: Mark | Base) -> bytes:
    """Its bytes."""
    return _encode(mark)


def read_mark(data: bytes | None) -> Mark:
    """The mark; that of an empty log for None. Raises RowDamaged."""
    return Mark() if data is None else _decoded(_marks, data)


def read_base(data: bytes | None) -> Base:
    """The base; that of a log that was never trimmed for None. Raises RowDamaged."""
    return Base() if data is None else _decoded(_bases, data)


_encode = msgspec.msgpack.Encoder().encode
_marks = msgspec.msgpack.Decoder(Mark)
_bases = msgspec.msgpack.Decoder(Base)
_begins = msgspec.msgpack.Decoder(Begin)

M = TypeVar("M", Mark, Base)


def _decoded(decoder: msgspec.msgpack.Decoder[M], data: bytes) -> M:
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        msg = f"a mark of the state cannot be read: {error}"
        raise RowDamaged(msg) from error


def _check(cursor: Cursor, *, above: bytes | None = None, below: bytes | None = None) -> None:
    """The neighbour of a gap must be whole, and on its side of it."""
    key, stored = cursor.item()
    unpack(key, stored)
    if (above is not None and key <= above) or (below is not None and key >= below):
        raise _disorder(key)


def _no_key(key: bytes) -> BadName:
    text = f"a key of {len(key)} bytes: there are none of this length"
    return BadName(text, hint=f"a key has 1 to {KEY_MAX_BYTES} bytes")


def _disorder(key: bytes) -> RowDamaged:
    return RowDamaged(f"{key!r} is not where it belongs")
