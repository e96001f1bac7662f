"""How long to look before sleeping: what comes soon need not wait for this thread to be woken.

To wake a sleeping thread costs more than a request's whole way through the broker, and what a
lone frame brings about, an answer or the next question, mostly comes back within a fraction
of a millisecond. So after a lone small frame the socket is looked at for SPIN_S before the
thread sleeps. Where nothing comes, more and more lone frames go by before it is tried again.
"""

from __future__ import annotations

import os
from typing import Final

SPIN_S: Final = 0.00015
LONE_MAX_BYTES: Final = 2048
"""More than that is a load, and the processor is better given to its receiver."""
PASSED_BY_MAX: Final = 64


class Eagerness:
    """Whether to look before sleeping. On a single processor never: who would answer?"""

    def __init__(self, processors: int | None = None) -> None:
        self._able = (_processors() if processors is None else processors) > 1
        self._pass_by = 0
        self._passed_by = 0
        self._lone = False

    def turn(self, frames: int, size_bytes: int) -> None:
        """So much came in this turn."""
        self._lone = frames == 1 and size_bytes <= LONE_MAX_BYTES

    def wanted(self) -> bool:
        """Whether to look now; asked once before each sleep."""
        if not (self._lone and self._able):
            return False
        self._lone = False
        self._passed_by += 1
        return self._passed_by > self._pass_by

    def tried(self, found: bool) -> None:
        """Whether something came while it was looked for."""
        self._passed_by = 0
        if found:
            self._pass_by //= 4
        else:
            self._pass_by = min(2 * self._pass_by + 1, PASSED_BY_MAX)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
