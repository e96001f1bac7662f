"""Work on the state while no broker runs: its lock, and opening a file that nobody writes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from shard_node.state.files import DATABASES
from store.engine import FILE_MODE, LMDB_MAJOR
from store.errors import StoreDamaged, StoreInUse, StoreOpenError

LOCK_FILE: Final = "broker.lock"
"""In the data folder; a running broker holds a lock on it."""
DATA_FILE: Final = "data.mdb"
JOURNAL_FILES: Final = ("journal.a", "journal.b")
"""Beside it: what is durable and not in it yet."""


@contextlib.contextmanager
def broker_kept_out(data_folder: Path) -> Iterator[None]:
    """Holds the broker's lock. Raises StoreInUse where a broker runs, StoreOpenError."""
    path = data_folder / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise StoreOpenError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise StoreOpenError(f"{path}: {error.strerror}") from error
        raise StoreInUse(f"a broker runs on {data_folder}") from error
    try:
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def opened_at_rest(folder: Path) -> Iterator[tuple[lmdb.Environment, dict[bytes, Any]]]:
    """A file that nobody writes meanwhile, with its databases; nothing is made or changed.

    Raises StoreOpenError, StoreDamaged.
    """
    if not (folder / DATA_FILE).is_file():
        raise StoreOpenError(f"{folder}: there is no {DATA_FILE}")
    try:
        env = lmdb.open(
            str(folder),
            readonly=True,
            create=False,
            lock=False,
            max_dbs=len(DATABASES),
            lib_version=LMDB_MAJOR,
        )
    except (lmdb.Error, MemoryError) as error:
        raise StoreDamaged(f"{folder}: {error}") from error
    try:
        yield env, open_databases(env)
    finally:
        env.close()


def open_databases(env: lmdb.Environment) -> dict[bytes, Any]:
    """The databases of a state. Raises StoreDamaged where one is not there."""
    try:
        return {name: env.open_db(name, create=False) for name in DATABASES}
    except lmdb.Error as error:
        raise StoreDamaged(f"{env.path()}: {error}") from error


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
