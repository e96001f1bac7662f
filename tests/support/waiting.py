"""Waiting for what happens in another process, with a deadline and a reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = 10.0) -> T:
    """The first true answer of ``look``. Raises AssertionError naming ``what`` after the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(POLL_S)
