"""Where journals are, and who may write one: the holder of a shard, decided by the kernel.

A shard has one byte in the file ``locks``, and so has a guild that is away from its shard. Who
has the POSIX record lock of it holds the shard; nobody IDENTIFYs, RESUMEs or writes a journal
without it. A stopped process keeps its locks, a killed one loses them at once, a forked child
has none. Closing any descriptor of the file drops all locks of the process (POSIX), so a process
has one, whatever number of places.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_LOCKS, _BOOT, _BOOT_LOCK = "locks", "boot", "locks.boot"
_SHARD_BITS: Final = 20
_GUILDS: Final = 1 << 62
"""Added to a guild's id, which is below it: a byte that no shard has."""


class _Locks:
    """The one descriptor of a file of locks, and which of its bytes are whose."""

    def __init__(self, path: Path, key: tuple[int, str]) -> None:
        self.key, self.users = key, 0
        self.held = set[int]()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def take(self, byte: int) -> bool:
        """False: held by another process, or by another place of this one."""
        if byte in self.held:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        self.held.add(byte)
        return True

    def free(self, byte: int) -> None:
        self.held.discard(byte)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    def close(self) -> None:
        os.close(self._file)


_opened: Final = dict[tuple[int, str], _Locks]()
"""By process and path: a forked child has locks of its own, and so far none."""


def _shared(path: Path) -> _Locks:
    key = (os.getpid(), str(path.resolve()))
    if key not in _opened:
        _opened[key] = _Locks(path, key)
    _opened[key].users += 1
    return _opened[key]


class Place:
    """The journals of ``num_shards`` shards in ``folder``. Opening throws away what another
    boot of the machine has left: its sessions are over. Raises OSError."""

    def __init__(self, folder: Path, num_shards: int, boot_id: str, application: str) -> None:
        self.folder, self.num_shards = folder, num_shards
        self.boot_id, self.application = boot_id, application
        self.held = set[int]()
        """The shards whose locks are ours."""
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._keep_this_boot()
        self._locks: _Locks | None = _shared(folder / _LOCKS)

    def take(self, shard: int) -> bool:
        """Whether the shard is ours now. Raises OSError."""
        if shard in self.held:
            return True
        if self._locks is None or not self._locks.take(self._byte(shard)):
            return False
        self.held.add(shard)
        return True

    async def wait(self, shard: int, timeout_s: float, every_s: float = 0.002) -> bool:
        """``take``, tried again until it succeeds or the time is over.

        A blocking wait in a thread could not be withdrawn: it would take the lock unseen.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while not self.take(shard):
            left = until - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(every_s, left))
        return True

    def free(self, shard: int) -> None:
        """Let go of a shard; nothing where it is not ours."""
        if shard in self.held and self._locks is not None:
            self.held.discard(shard)
            self._locks.free(self._byte(shard))

    def segments(self, shard: int) -> list[Path]:
        """The files of a shard's journal, oldest first."""
        try:
            found = list(self.of(shard).iterdir())
        except FileNotFoundError:
            return []
        return sorted((path for path in found if generation(path)), key=generation)

    def next_segment(self, shard: int, node: str, epoch: int) -> Path:
        """The file that a new holder begins. Raises OSError."""
        self.of(shard).mkdir(mode=FOLDER_MODE, exist_ok=True)
        last = max(map(generation, self.segments(shard)), default=0)
        return self.of(shard) / segment_name(last + 1, node, epoch)

    def of(self, shard: int) -> Path:
        """The folder of a shard's journal."""
        return self.folder / f"{self.num_shards}-{shard}"

    def close(self) -> None:
        """Let go of all shards. Twice does nothing."""
        for shard in tuple(self.held):
            self.free(shard)
        locks, self._locks = self._locks, None
        if locks is not None:
            locks.users -= 1
            if not locks.users:
                del _opened[locks.key]
                locks.close()

    def _byte(self, shard: int) -> int:
        return (self.num_shards << _SHARD_BITS) | shard

    def _keep_this_boot(self) -> None:
        boot = self.folder / _BOOT
        if _text(boot) == self.boot_id:
            return
        with _locked(self.folder / _BOOT_LOCK):
            if _text(boot) == self.boot_id:
                return
            for path in self.folder.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
            beside = self.folder / (_BOOT + ".new")
            beside.write_text(self.boot_id)
            beside.chmod(FILE_MODE)
            beside.replace(boot)


class GuildPlace(Place):
    """The journals of guilds that another process has than the one with their shard; the shard
    of ``Place`` is the guild's id. They are of no count of shards, so that they outlive one."""

    def __init__(self, folder: Path, boot_id: str, application: str) -> None:
        super().__init__(folder, 0, boot_id, application)

    def of(self, shard: int) -> Path:
        """The folder of a guild's journal."""
        return self.folder / f"guild-{shard}"

    def forget(self, guild: int) -> bool:
        """The guild is at home: its journal goes, unless somebody has its lock."""
        if not self.take(guild):
            return False
        shutil.rmtree(self.of(guild), ignore_errors=True)
        self.free(guild)
        return True

    def _byte(self, shard: int) -> int:
        return _GUILDS | shard


def segment_name(number: int, node: str, epoch: int) -> str:
    """The name of a segment's file."""
    return f"{number:08d}-{node}#{epoch}.seg"


def generation(path: Path) -> int:
    """The number of a segment's file, counted from 1. 0: it is none."""
    number = path.name.partition("-")[0]
    return int(number) if path.suffix == ".seg" and number.isdecimal() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX, 1, 0)
        yield
    finally:
        os.close(handle)


def touch(path: Path) -> None:
    """A file's age begins anew; one that cannot be touched only grows old."""
    with contextlib.suppress(OSError):  # the next write says what is wrong
        os.utime(path)
