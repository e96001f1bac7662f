"""The state's file, read by this process itself: microseconds, no word to the broker.

Each read is a transaction of its own, so that it sees the newest commit and no reader makes
the file grow; a scan is many.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import lmdb

from shard_node.errors import ShardNodeError
from shard_node.state import files
from shard_node.state.errors import BadName, StoreDamaged

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
LMDB_MAJOR: Final = 0
"""As the store pins it: LMDB 1.0 cannot read the files of 0.9."""
CHUNK_ROWS: Final = 512
"""Rows of a scan in one read transaction."""
RESIZES_MAX: Final = 3
CRC_BYTES: Final = 4


class CannotRead(ShardNodeError):
    """The file cannot be read safely from here; the message says why."""

    code = "E_NO_READER"
    hint = "await fetch() asks the broker; fewer threads that read at once need fewer readers"
    retryable = True


class Reader:
    """One process's reader; any thread may call it. Raises CannotRead where it cannot be one."""

    def __init__(self, folder: Path) -> None:
        self._closed = False
        self._folder = folder.resolve()
        self._env = _borrow(self._folder)
        try:
            self._rows = self._env.open_db(files.ROWS, create=False)
            self._meta = self._env.open_db(files.META, create=False)
        except lmdb.Error as error:
            _give_back(self._folder)
            raise CannotRead(f"{folder}: {error}") from error

    def get(self, key: bytes) -> bytes | None:
        """A committed row, the newest one. Raises StoreDamaged, CannotRead, BadName."""
        try:
            # A transaction costs less than what would keep it for the next read.
            stored = self._env.begin(db=self._rows).get(key)
        except lmdb.MapResizedError:
            stored = self._begin().get(key, db=self._rows)
        except lmdb.Error as error:
            raise _wrong(error, key) from error
        if stored is None:
            return self._missing(key)
        value: bytes = stored[CRC_BYTES:]
        if crc32(value, crc32(key)) != int.from_bytes(stored[:CRC_BYTES], "big"):
            raise StoreDamaged(f"the checksum of {key!r} is not that of its bytes")
        return value

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Committed rows in order; many of them are of several moments. Raises StoreDamaged."""
        while True:
            rows = self._chunk(prefix, after)
            yield from rows
            if len(rows) < CHUNK_ROWS:
                return
            after = rows[-1][0]

    def mark(self) -> files.Mark:
        """Where the log stands. Raises StoreDamaged."""
        try:
            with self._begin() as txn, txn.cursor(self._meta) as cursor:
                return files.read_mark(files.get(cursor, files.MARK_KEY))
        except (files.RowDamaged, lmdb.Error) as error:
            raise _wrong(error) from error

    def close(self) -> None:
        """No read any more. Twice does nothing."""
        if not self._closed:
            self._closed = True
            _give_back(self._folder)

    def _chunk(self, prefix: bytes, after: bytes) -> list[tuple[bytes, bytes]]:
        try:
            with self._begin() as txn, txn.cursor(self._rows) as cursor:
                found = files.scan(cursor, prefix, after)
                return [row for row, _ in zip(found, range(CHUNK_ROWS), strict=False)]
        except (files.RowDamaged, lmdb.Error) as error:
            raise _wrong(error) from error

    def _missing(self, key: bytes) -> bytes | None:
        """Not found is no proof before its neighbours were looked at."""
        try:
            with self._begin() as txn, txn.cursor(self._rows) as cursor:
                return files.get(cursor, key)
        except (files.RowDamaged, lmdb.Error) as error:
            raise _wrong(error) from error

    def _begin(self) -> Any:
        for _ in range(RESIZES_MAX):
            try:
                return self._env.begin()
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
        return self._env.begin()


def _wrong(error: Exception, key: bytes = b"-") -> ShardNodeError:
    """What is said of a failed read. Only damage is damage: that is mended by a backup."""
    if isinstance(error, _DAMAGE):
        return StoreDamaged(str(error))
    if isinstance(error, lmdb.BadValsizeError):
        hint = f"a key has 1 to {files.KEY_MAX_BYTES} bytes"
        return BadName(f"a key of {len(key)} bytes: there are none of this length", hint=hint)
    if isinstance(error, lmdb.ReadersFullError):
        return CannotRead(f"the state's file has no room for another reader: {error}")
    return CannotRead(f"the state's file cannot be read now: {error}")


_DAMAGE: Final = (
    files.RowDamaged,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PanicError,
)

_lent: dict[Path, tuple[Any, int]] = {}
"""An environment is opened once in a process, whoever reads: it and how many do."""
_lending = threading.Lock()


def _borrow(folder: Path) -> Any:
    with _lending:
        env, count = _lent.get(folder, (None, 0))
        env = _open(folder) if env is None else env
        _lent[folder] = (env, count + 1)
        return env


def _give_back(folder: Path) -> None:
    with _lending:
        env, count = _lent.pop(folder)
        if count > 1:
            _lent[folder] = (env, count - 1)
        else:
            env.close()


def _open(folder: Path) -> Any:
    if not (folder / DATA_FILE).exists():
        raise CannotRead(f"{folder}: there is no state's file")
    if not os.access(folder / LOCK_FILE, os.W_OK):
        # lmdb would read on without its lock, and the writer reuse pages under the reader.
        raise CannotRead(f"{folder / LOCK_FILE} cannot be written, and readers need that")
    try:
        return lmdb.open(
            str(folder),
            readonly=True,
            create=False,
            max_dbs=len(files.DATABASES),
            lib_version=LMDB_MAJOR,
        )
    except (lmdb.Error, MemoryError, OSError) as error:
        raise CannotRead(f"{folder}: {error}") from error
