"""What every contender of the state's lines brings: a server, and a member that uses it.

A contender is one module with two classes. `Server` runs in the harness, `Member` in a worker.
Accounts, configurations and keys are the same for all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec
import psutil

ACCOUNTS: Final = 1000
BALANCE: Final = 1_000_000_000
AMOUNT: Final = 5
REASON: Final = "/pay"
USER: Final = 80351110224678912
GUILDS: Final = 100
GUILD: Final = 81384788765712384
COOLDOWN_USES: Final = 3
COOLDOWN_S: Final = 60
CONFIG: Final = "config"
BALANCES: Final = "balance"
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})


class BotConfig(msgspec.Struct):
    """What a guild sets of a bot."""

    prefix: str = "?"
    language: str = "en-GB"
    greeting: str = "Welcome, {user}!"
    greet_in: int = 81384788765712390
    levels: bool = True
    level_rate: float = 1.5
    log_to: int = 81384788765712391
    muted_role: int = 81384788765712392


class Member(Protocol):
    """A process's connection."""

    async def open(self, address: str, name: str) -> None:
        """Connects."""

    async def transfer(self, key: str, src: int, dst: int) -> None:
        """Moves AMOUNT, once for each key; durable when it returns. Raises where it was not."""

    async def acquire(self, key: str) -> bool:
        """One of COOLDOWN_USES in COOLDOWN_S."""

    def reader(self, what: str) -> Callable[[int], object]:
        """What reads the record of a number and decodes it: CONFIG or BALANCES."""

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
