"""What is durable before the state's file has it: groups of batches, appended and flushed.

A commit of the file writes a page for each place in it that changed, 8 ms for 64 transfers; a
frame of the journal is one write in one place, 0.3 ms. So a group is confirmed when its frame
is durable, and brought into the file later, many groups in one commit (``store.settler``).

Two files take turns: one is written over from its beginning once the file behind has all that
is in it. A frame is ``_HEAD`` and a body; numbers only grow, so what is left of earlier use is
known by its number. Only the last frame can be torn, since each is durable before the next
one is begun: a bad frame with a good later one is damage, and told.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from store.engine import FILE_MODE, os_failure
from store.errors import StoreDamaged, StoreError, StoreFull, StorePanic
from store.offline import JOURNAL_FILES, sync_folder

TURN_BYTES: Final = 16 << 20
"""A file longer than this is left for the other one as soon as that is free."""
FILE_MAX_BYTES: Final = 64 << 20
"""Where the file behind takes nothing (a full disk), so much more is confirmed at most."""
_MAGIC: Final = b"shJ1"
_HEAD: Final = struct.Struct(">4sQII")
"""Magic, number, bytes of the body, CRC-32 of number, length and body."""
_NAMED: Final = struct.Struct(">QI")
_dsync: int | None = getattr(os, "RWF_DSYNC", None)


class Frame(NamedTuple):
    """``number`` counts from 1 without a gap; ``place`` and ``end`` are offsets in its file."""

    number: int
    body: bytes
    place: int
    end: int


class Journal:
    """The journal of one state. ``append`` is for the writer's thread, ``settled`` for any."""

    def __init__(self, folder: Path, handles: list[int], settled: int, salt: bytes) -> None:
        self._folder, self._handles, self._salt = folder, handles, salt
        self._current = self._at = 0
        self._last = self._settled = settled
        self._newest = [0, 0]
        """The number of the last frame in each file."""

    @classmethod
    def open(cls, folder: Path, settled: int, salt: bytes) -> tuple[Journal, list[Frame]]:
        """The journal in ``folder``, made where there is none, and the frames that the file
        behind, which has all up to ``settled``, lacks. Raises StoreDamaged, StoreFull,
        StoreFailed.

        ``salt`` is secret: without it no bytes look like a frame. ``rewind`` is to be called
        once these are in it; else ``append`` goes on behind them.
        """
        handles: list[int] = []
        try:
            for name in JOURNAL_FILES:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                handles.append(os.open(folder / name, flags, FILE_MODE))
            sync_folder(folder)
            runs = _runs(folder, settled, salt)
            journal, frames = cls(folder, handles, settled, salt), _joined(folder, settled, runs)
            journal._follow(runs)
        except OSError as error:
            _close(handles)
            raise os_failure(error, folder) from error
        except StoreError:
            _close(handles)
            raise
        return journal, frames

    @property
    def last(self) -> int:
        """The number of the last frame that is durable."""
        return self._last

    def rewind(self) -> None:
        """The file behind has everything; nothing of it stays here. Raises StoreFailed."""
        try:
            for handle in self._handles:
                os.ftruncate(handle, 0)
                os.fsync(handle)
        except OSError as error:
            raise os_failure(error, self._folder) from error
        self._settled = self._last
        self._current = self._at = 0
        self._newest = [0, 0]

    def settled(self, number: int) -> None:
        """The file behind has all frames up to this one."""
        self._settled = number

    def append(self, body: bytes) -> int:
        """Make a body durable; its number.

        Raises StoreFull, StoreFailed: it is not kept, now or after a crash. StorePanic where
        that cannot be promised.
        """
        size = _HEAD.size + len(body)
        try:
            self._turn(size)
        except OSError as error:
            raise os_failure(error, self._folder) from error
        number, handle, at = self._last + 1, self._handles[self._current], self._at
        named = _NAMED.pack(number, len(body))
        crc = _crc(named, body, self._salt)
        try:
            _write(handle, _HEAD.pack(_MAGIC, number, len(body), crc) + body, at)
        except OSError as error:
            self._void(handle, at)
            raise os_failure(error, self._folder / JOURNAL_FILES[self._current]) from error
        self._last = self._newest[self._current] = number
        self._at = at + size
        return number

    def close(self) -> None:
        """Twice does nothing."""
        _close(self._handles)

    def _follow(self, runs: list[dict[int, Frame]]) -> None:
        """To behind the last frame that the file behind lacks. What is there is the rest of a
        frame that was begun by a process that was killed."""
        for place, found in enumerate(runs):
            self._newest[place] = max(found, default=0)
            if self._newest[place] > self._last:
                self._current, self._last = place, self._newest[place]
                self._at = found[self._last].end
        if self._at:
            os.ftruncate(self._handles[self._current], self._at)

    def _turn(self, size: int) -> None:
        """To the other file, where this one is long and that one is free."""
        if self._at and self._at + size > TURN_BYTES:
            other = 1 - self._current
            if self._newest[other] <= self._settled:
                os.ftruncate(self._handles[other], 0)  # what was forgotten is forgotten here too
                self._current, self._at = other, 0
        if self._at and self._at + size > FILE_MAX_BYTES:
            text = "the journal is full: the state's file takes nothing"
            raise StoreFull(text)

    def _void(self, handle: int, at: int) -> None:
        """What was refused must not come back after a crash."""
        try:
            length = os.fstat(handle).st_size
            if length > at:
                _write(handle, bytes(min(_HEAD.size, length - at)), at)
        except OSError as error:
            text = f"a journal that cannot be written cannot be mended: {error.strerror}"
            raise StorePanic(text) from error


def pending(folder: Path, settled: int, salt: bytes) -> list[Frame]:
    """The frames with numbers above ``settled``. Raises StoreDamaged where one of them is not
    what was written, OSError."""
    return _joined(folder, settled, _runs(folder, settled, salt))


def _runs(folder: Path, settled: int, salt: bytes) -> list[dict[int, Frame]]:
    """Those of each file."""
    paths = [folder / name for name in JOURNAL_FILES]
    return [_pending(path, settled, salt) if path.exists() else {} for path in paths]


def _joined(folder: Path, settled: int, runs: list[dict[int, Frame]]) -> list[Frame]:
    found = {number: frame for run in runs for number, frame in run.items()}
    numbers = sorted(found)
    if numbers != list(range(settled + 1, settled + 1 + len(numbers))):
        text = f"{folder}: the journal has frames up to {numbers[-1]}, and not all after {settled}"
        raise StoreDamaged(text)
    return [found[number] for number in numbers]


def _pending(path: Path, settled: int, salt: bytes) -> dict[int, Frame]:
    data, found, last = path.read_bytes(), dict[int, Frame](), 0
    end = 0
    for frame in _run(data, salt):
        last, end = frame.number, frame.end
        if last > settled:
            found[last] = frame
    later = max((frame.number for frame in _strays(data, end, salt)), default=0)
    if later > max(last, settled):
        text = f"{path}: frame {last + 1} is damaged, and {later} comes after it"
        raise StoreDamaged(text)
    return found


def _run(data: bytes, salt: bytes) -> Iterator[Frame]:
    """The frames from the beginning on, each the next of the one before."""
    frame = _frame(data, 0, salt)
    while frame is not None:
        yield frame
        after = _frame(data, frame.end, salt)
        frame = after if after is not None and after.number == frame.number + 1 else None


def _strays(data: bytes, start: int, salt: bytes) -> Iterator[Frame]:
    """Whole frames anywhere behind ``start``."""
    at = data.find(_MAGIC, start)
    while at >= 0:
        frame = _frame(data, at, salt)
        if frame is not None:
            yield frame
        at = data.find(_MAGIC, at + 1 if frame is None else frame.end)


def _frame(data: bytes, at: int, salt: bytes) -> Frame | None:
    if at + _HEAD.size > len(data):
        return None
    magic, number, length, crc = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    body = data[start : start + length] if magic == _MAGIC else b""
    if magic != _MAGIC or len(body) != length:
        return None
    if _crc(_NAMED.pack(number, length), body, salt) != crc:
        return None
    return Frame(number, body, at, start + length)


def _crc(named: bytes, body: bytes, salt: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(named, zlib.crc32(salt)))


def _write(handle: int, data: bytes, at: int) -> None:
    """All of it, durable. One call, where the file system knows it: each one more gives the
    interpreter's lock away."""
    global _dsync
    view, synced = memoryview(data), _dsync is not None
    while view:
        try:
            done = os.pwritev(handle, [view], at, _dsync or 0)
        except OSError as error:
            if _dsync is None or error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            _dsync, synced = None, False
            continue
        view, at = view[done:], at + done
    if not synced:
        os.fdatasync(handle)


def _close(handles: list[int]) -> None:
    while handles:
        os.close(handles.pop())
