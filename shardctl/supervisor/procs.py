"""Processes by number *and* start time, so that a reused number is never taken for ours."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

_LINUX: Final = bool(sys.platform.startswith("linux"))
_START_FIELD: Final = 19
"""Index of ``starttime`` in /proc/<pid>/stat after the name's closing parenthesis: proc(5)."""
_STATE_FIELD: Final = 0
_POLL_S: Final = 0.05


class Known(NamedTuple):
    """A process that we started. ``started`` is the system's own word for when."""

    name: str
    pid: int
    started: str


def start_of(pid: int) -> str:
    """When the process started, in the system's own form; empty where it does not live."""
    if _LINUX:
        return _linux_start(pid)
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=5,
    )
    return done.stdout.strip()


def _linux_start(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[_STATE_FIELD] in "ZX" else fields[_START_FIELD]


def lives(process: Known) -> bool:
    """Whether this very process still lives."""
    return bool(process.started) and start_of(process.pid) == process.started


def living(processes: Iterable[Known]) -> list[Known]:
    """Those that still live."""
    return [process for process in processes if lives(process)]


def wait_gone(processes: Iterable[Known], timeout_s: float) -> list[Known]:
    """Wait until all have ended; returns those that live on after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    left = living(processes)
    while left and (rest_s := deadline - time.monotonic()) > 0:
        _wait_for(left[0], rest_s)
        left = living(left)
    return left


def _wait_for(process: Known, timeout_s: float) -> None:
    """Wait for the end of a process that is no child of ours."""
    if not _LINUX:
        time.sleep(min(timeout_s, _POLL_S))  # macOS has no pidfd
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        select.select([handle], [], [], timeout_s)
    finally:
        os.close(handle)


def kill(process: Known) -> None:
    """SIGKILL this very process, and no other that got its number since."""
    if _LINUX:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(process.pid)
            try:
                if lives(process):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    elif lives(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
