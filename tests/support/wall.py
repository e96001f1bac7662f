"""A wall clock that a file moves, for one process: the machine's own stays as it is.

wall.follow(path)       in the process, before anything else is imported
wall.move(path, 3600)   from anywhere: it is an hour later there from now on
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

LOGGED_OVER_S = 19
SOON_LOGGED = f"""
from shard_node.state import cooldowns
assert cooldowns.LOGGED_OVER_MS == 60_000
cooldowns.LOGGED_OVER_MS = {LOGGED_OVER_S * 1000}
"""
"""For a process in which nobody wants to wait a minute: shorter cooldowns are in the log too."""
_TEXT_BYTES = 32


def move(path: Path, by_s: int) -> None:
    """So many seconds off the machine's. The text is replaced in one write."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(handle, str(by_s).ljust(_TEXT_BYTES).encode(), 0)
    finally:
        os.close(handle)


def follow(path: str | Path) -> None:
    """Whoever asks this process for the wall clock gets the moved one."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    real_ns, real_clock_ns, datetime_clock = (
        time.time_ns,
        time.clock_gettime_ns,
        time.CLOCK_REALTIME,
    )

    def moved_ns() -> int:
        return real_ns() + int(os.pread(handle, _TEXT_BYTES, 0)) * 10**9

    def clock_ns(clock: int) -> int:
        return moved_ns() if clock == datetime_clock else real_clock_ns(clock)

    patched: Any = time
    patched.time_ns = moved_ns
    patched.time = lambda: moved_ns() / 10**9
    patched.clock_gettime_ns = clock_ns
    patched.clock_gettime = lambda clock: clock_ns(clock) / 10**9


def prelude(path: Path, *more: str) -> str:
    """The Python to run in a process that is to follow."""
    return "\n".join((f"from tests.support import wall; wall.follow({str(path)!r})", *more))
