"""What every contender of the state's lines brings: a server, and a member that uses it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final, Protocol

import psutil

ACCOUNTS: Final = 1000
BALANCE: Final = 1_000_000_000
AMOUNT: Final = 5
REASON: Final = "/pay"
USER: Final = 80351110224678912
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs", "overlay"})


class Member(Protocol):
    """A process's connection. The same transfers are made by all: from account to account,
    each with a key that makes it happen once, durable when the call returns."""

    async def open(self, address: str, name: str) -> None:
        """Connects."""

    async def transfer(self, key: str, src: int, dst: int) -> None:
        """Moves AMOUNT. Raises where it was not done."""

    async def close(self) -> None:
        """Disconnects."""


def account(number: int) -> str:
    """The name of an account."""
    return f"user:{USER + number}"


def disk_folder() -> tempfile.TemporaryDirectory[str]:
    """A new folder on a disk: what is measured is how soon something is safe there."""
    candidates = (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.home())
    for folder in candidates:
        if _file_system(folder) not in _MEMORY_FILE_SYSTEMS:
            return tempfile.TemporaryDirectory(prefix="bench-", dir=folder)
    raise AssertionError(f"none of {', '.join(map(str, candidates))} is on a disk: set TMPDIR")


def _file_system(folder: Path) -> str:
    parts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    home = folder.resolve()
    return next((parts[path] for path in (home, *home.parents) if path in parts), "")
