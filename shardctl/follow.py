"""Reads log files from their end and goes on as they grow, through rotations."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_SLOT: Final = re.compile(r"\.\d+$")
BLOCK_BYTES: Final = 1 << 16
LINE_MAX_BYTES: Final = 1 << 16
READ_MAX_BYTES: Final = 1 << 20
"""Read of one file at one look; what is more waits for the next."""


def process_of(log: Path) -> str:
    """Whose log it is. A further living process of a name writes into one of its own.

    >>> process_of(Path("node-a.log")), process_of(Path("node-a.2.log"))
    ('node-a', 'node-a')
    """
    return _SLOT.sub("", log.stem)


def newest_log(folder: Path, process: str) -> Path:
    """That of the logs of ``process`` which was written last; its first where there is none."""
    first = folder / f"{process}.log"
    found = [path for path in folder.glob(f"{process}.*log") if process_of(path) == process]
    return max(found, key=lambda path: path.stat().st_mtime, default=first)


def last_lines(path: Path, count: int) -> tuple[list[str], int]:
    """The last ``count`` whole lines of ``path``, and the position after them in bytes."""
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        data = b""
        while position > 0 and data.count(b"\n") <= count:
            step = min(BLOCK_BYTES, position)
            position -= step
            file.seek(position)
            data = file.read(step) + data
    lines = data.decode(errors="replace").splitlines()
    return (lines[-count:] if count else []), end


class Follower:
    """One growing file. A rotation (another file, or a shorter one) starts at its beginning."""

    def __init__(self, path: Path, position: int = 0) -> None:
        self.path = path
        self._position = position
        self._inode = self._inode_now()
        self._rest = b""

    def _inode_now(self) -> int:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return 0

    def read(self) -> list[str]:
        """The whole lines that have come since the last look."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self._inode, self._position, self._rest = found.st_ino, 0, b""
                file.seek(self._position)
                data = file.read(READ_MAX_BYTES)
        except FileNotFoundError:
            return []
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_MAX_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        return [line.decode(errors="replace") for line in lines]
