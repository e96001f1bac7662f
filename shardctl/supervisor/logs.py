"""Log files of children: opened for appending, rotated by size, read from their end."""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

LOG_MAX_BYTES: Final = 20 << 20
LOG_FILES_MAX: Final = 5
"""The current file and four older ones: ``x.log``, ``x.log.1`` .. ``x.log.4``."""
LOG_MODE: Final = 0o600
TAIL_MAX_BYTES: Final = 16 << 10
TAIL_LINES_MAX: Final = 20
TAIL_LINE_MAX_CHARS: Final = 500


def open_log(path: Path) -> int:
    """A descriptor that appends to ``path`` (0600), after a rotation where it is full."""
    if size_of(path) >= LOG_MAX_BYTES:
        _shift(path)
        with contextlib.suppress(FileNotFoundError):
            path.rename(_older(path, 1))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, LOG_MODE)


def mark(log: int, text: str) -> None:
    """A line of ours in a child's log, with its moment: where a start begins."""
    moment = datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # a full disk keeps no child from starting
        os.write(log, f"{moment} {text}\n".encode())


def cap_log(path: Path) -> bool:
    """Rotate a full log whose writer lives: copied, then cut to nothing.

    The writer's descriptor appends, so it goes on at the new end. A line written between
    the two steps is lost. Returns whether it was rotated; where the copy cannot be written
    (a full disk) this log and the older ones stay as they are.
    """
    if size_of(path) < LOG_MAX_BYTES:
        return False
    copy = path.with_name(f".{path.name}.copy")
    try:
        shutil.copyfile(path, copy)
        copy.chmod(LOG_MODE)
        _shift(path)
        copy.replace(_older(path, 1))
        os.truncate(path, 0)
    except OSError:
        with contextlib.suppress(OSError):
            copy.unlink()
        return False
    return True


def size_of(path: Path) -> int:
    """Bytes in ``path``; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def tail(path: Path, start: int = 0, secret: str = "") -> tuple[str, ...]:
    """The last lines of ``path``, not before the byte ``start``, without the secret."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - TAIL_MAX_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    if secret:
        text = text.replace(secret, "[token]")
    lines = [line.rstrip()[:TAIL_LINE_MAX_CHARS] for line in text.splitlines()]
    return tuple(line for line in lines if line)[-TAIL_LINES_MAX:]


def _older(path: Path, age: int) -> Path:
    return path.with_name(f"{path.name}.{age}")


def _shift(path: Path) -> None:
    for age in range(LOG_FILES_MAX - 2, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            _older(path, age).replace(_older(path, age + 1))
