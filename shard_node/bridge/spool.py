"""On the sandbox: a witness's reports in a file, so that they survive its process.

A line is written at once for each report; the file is cut when the sandbox has said that it has
them all. Its writer holds a lock on it: whoever gets that lock tells what a dead one left.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

_log = logging.getLogger(__name__)

SUFFIX: Final = ".spool"
CUT_MIN_BYTES: Final = 256 << 10
"""A file that is shorter is not worth cutting."""
_PHASES: Final = {"s": "start", "e": "end"}


class Spool:
    """The file of this process. ``source`` names its reports' numbers, which count from 0."""

    def __init__(self, folder: Path, who: str) -> None:
        """Raises OSError where the file cannot be made."""
        self.source = f"{who}@{os.getpid()}.{time.monotonic_ns()}"
        self.count = 0
        self._who = who
        self._path = folder / f"{self.source}{SUFFIX}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._bytes = 0
        self._head()

    def phase(self, letter: str, at: float, nonce: str) -> None:
        """``s`` or ``e``: handlers of an event started or ended."""
        self._write(f"{letter} {at!r} {nonce}\n".encode())
        self.count += 1

    def other(self, kind: str, at: float) -> None:
        """The bot was told of ``kind``."""
        self._write(f"{kind} {at!r} \n".encode())
        self.count += 1

    def told(self, count: int) -> None:
        """The sandbox has so many."""
        if count == self.count and self._bytes >= CUT_MIN_BYTES and self._fd >= 0:
            os.ftruncate(self._fd, 0)
            self._bytes = 0
            self._head()

    def close(self, told: int) -> None:
        """No more is written; a file of which all is told goes."""
        if told == self.count:
            self._path.unlink(missing_ok=True)
        self._leave()

    def _head(self) -> None:
        self._write(f"{self.source} {self._who} {self.count}\n".encode())

    def _write(self, line: bytes) -> None:
        if self._fd < 0:
            return
        try:
            self._bytes += os.write(self._fd, line)
        except OSError as error:
            _log.warning("the witness's spool ends here: %s", error)
            self._leave()

    def _leave(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Remains:
    """What a dead process did not live to tell, or told already: the sandbox knows."""

    def __init__(self, path: Path, fd: int, source: str, who: str, first: int) -> None:
        self.source, self.first = source, first
        self.reports: list[dict[str, Any]] = []
        self._path, self._fd, self._who = path, fd, who

    def take(self, line: str) -> None:
        """One report."""
        what, at, nonce = line.split(" ", 2)
        if what in _PHASES:
            told = {"nonce": nonce, "node": self._who, "phase": _PHASES[what], "at": float(at)}
        else:
            told = {"kind": what, "node": self._who, "at": float(at)}
        self.reports.append(told)

    @property
    def end(self) -> int:
        """One past the number of the last report."""
        return self.first + len(self.reports)

    def over(self) -> None:
        """All is told."""
        self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Somebody else may tell it."""
        os.close(self._fd)


def remains(folder: Path, ours: Collection[str]) -> list[Remains]:
    """The files of dead processes, locked by us from here on. ``ours``: sources whose files
    are locked by us already."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name.removesuffix(SUFFIX) in ours:
            continue  # closing it a second time would drop its lock
        with contextlib.suppress(OSError):
            if (one := _opened(path)) is not None:
                found.append(one)
    return found


def _opened(path: Path) -> Remains | None:
    """Raises OSError for one that is locked, or gone."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Not by path.read_bytes(): closing another descriptor of it would drop the lock.
        text = os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
        head, *lines = text.split("\n")[:-1] or [""]
        source, who, first = head.split(" ")
        made = Remains(path, fd, source, who, int(first))
        for line in lines:
            made.take(line)
    except OSError:
        os.close(fd)
        raise
    except ValueError:  # killed before the head was written: nothing is in it
        os.close(fd)
        path.unlink(missing_ok=True)
        return None
    return made
