"""The state's file, read by this process itself: microseconds, no word to the broker.

Each read is a transaction of its own, so that it sees the newest commit and no reader makes
the file grow; a scan is many.
"""

from __future__ import annotations

import os
import threading
import time
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
QUIET_S: Final = 1.0
"""How long the reads of other threads are waited for before a file is let go of: they take
microseconds."""
CRC_BYTES: Final = 4

File = tuple[int, int]
"""Its device and inode."""


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
        env = _borrow(self._folder, self)
        try:
            self._use(env)
        except CannotRead:
            _give_back(self._folder, self)
            raise

    def _use(self, env: Any) -> None:
        try:
            rows, meta = (env.open_db(name, create=False) for name in (files.ROWS, files.META))
        except lmdb.Error as error:
            raise CannotRead(f"{self._folder}: {error}") from error
        self._rows, self._meta, self._env = rows, meta, env

    def renew(self) -> bool:
        """Read the file that is there now; whether it is another one. For all readers of this
        folder in the process. Raises CannotRead: then it is to be closed."""
        with _lending:
            lent = _lent[self._folder]
            if lent.file is not None and lent.file == _file_of(self._folder):
                return False
            for reader in lent.readers:
                reader._env = _AWAY
            lent.file = None
            _let_go(lent.env)
            lent.env, lent.file = _open(self._folder)
            for reader in lent.readers:
                reader._use(lent.env)
            return True

    def get(self, key: bytes) -> bytes | None:
        """A committed row, the newest one. Raises StoreDamaged, CannotRead, BadName."""
        env = self._env
        try:
            # A transaction costs less than what would keep it for the next read.
            stored = env.begin(db=self._rows).get(key)
        except lmdb.MapResizedError:
            stored = self._begin().get(key, db=self._rows)
        except lmdb.Error as error:
            if self._env is not env:  # renewed by another thread
                return self.get(key)
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
            _give_back(self._folder, self)

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
            env = self._env
            try:
                return env.begin()
            except lmdb.MapResizedError:
                env.set_mapsize(0)
            except lmdb.Error:
                if self._env is env:
                    raise
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


class _Lent:
    """An environment, of which file it is (None: closed, the other one could not be opened),
    and who reads it."""

    def __init__(self, env: Any, file: File | None) -> None:
        self.env, self.file = env, file
        self.readers: list[Reader] = []


class _Away:
    """In the place of an environment while another file is opened."""

    def begin(self, **_how: Any) -> Any:
        """Waits for it. Raises lmdb.Error: the reader has got the other one by then."""
        with _lending:
            raise lmdb.Error("another file has taken its place, and cannot be opened")


_AWAY: Final = _Away()
_lent: dict[Path, _Lent] = {}
"""An environment is opened once in a process, whoever reads: closing a second one would drop the
locks of the first."""
_lending = threading.Lock()


def _borrow(folder: Path, reader: Reader) -> Any:
    with _lending:
        lent = _lent.get(folder)
        if lent is None:
            lent = _lent[folder] = _Lent(*_open(folder))
        lent.readers.append(reader)
        return lent.env


def _give_back(folder: Path, reader: Reader) -> None:
    with _lending:
        lent = _lent[folder]
        lent.readers.remove(reader)
        if not lent.readers:
            del _lent[folder]
            lent.env.close()


def _let_go(env: Any) -> None:
    """Close it once no other thread reads: the file's pages go from memory with it."""
    me, deadline = str(os.getpid()), time.monotonic() + QUIET_S
    try:
        while time.monotonic() < deadline:
            slots = [line.split() for line in env.readers().splitlines()[1:]]
            if not any(slot[0] == me and slot[-1] != "-" for slot in slots if slot):
                break
            time.sleep(0.001)
    except lmdb.Error:  # it is closed
        return
    env.close()


def _file_of(folder: Path) -> File | None:
    try:
        found = (folder / DATA_FILE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open(folder: Path) -> tuple[Any, File]:
    file = _file_of(folder)  # of before: if another one comes now, it is seen the next time
    if file is None:
        raise CannotRead(f"{folder}: there is no state's file")
    if not os.access(folder / LOCK_FILE, os.W_OK):
        # lmdb would read on without its lock, and the writer reuse pages under the reader.
        raise CannotRead(f"{folder / LOCK_FILE} cannot be written, and readers need that")
    try:
        env = lmdb.open(
            str(folder),
            readonly=True,
            create=False,
            max_dbs=len(files.DATABASES),
            lib_version=LMDB_MAJOR,
        )
    except (lmdb.Error, MemoryError, OSError) as error:
        raise CannotRead(f"{folder}: {error}") from error
    return env, file
