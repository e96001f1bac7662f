"""Log time: milliseconds since the epoch that never jump with the wall clock.

It begins at the wall clock and goes on with the clock of the boot: over a restart of the
broker by the time since, over a reboot from the wall clock, and never back.
"""

from __future__ import annotations

from typing import NamedTuple


class LogMark(NamedTuple):
    """What log time it was at a moment of a boot. Kept with every commit."""

    at_ms: int = 0
    boot_id: str = ""
    boot_ms: int = 0


class LogClock:
    """Turns ``now`` (seconds of CLOCK_MONOTONIC) into log time.

    ``boot_ms`` is CLOCK_BOOTTIME and ``wall_ms`` the wall clock at ``now``; ``last`` is the
    mark of the last commit.
    """

    def __init__(
        self, last: LogMark, now: float, *, boot_id: str = "", boot_ms: int = 0, wall_ms: int = 0
    ) -> None:
        if last.at_ms and last.boot_id == boot_id:
            start_ms = last.at_ms + max(0, boot_ms - last.boot_ms)
        else:
            start_ms = max(last.at_ms, wall_ms)
        self._boot_id, self._boot_ms = boot_id, boot_ms
        self._start_ms, self._began_at = start_ms, now
        self._last_ms = start_ms

    def at_ms(self, now: float) -> int:
        """The log time."""
        passed_ms = int((now - self._began_at) * 1000)
        self._last_ms = max(self._last_ms, self._start_ms + passed_ms)
        return self._last_ms

    def mark(self, now: float) -> LogMark:
        """What is kept, so that the next broker goes on from here."""
        passed_ms = int((now - self._began_at) * 1000)
        return LogMark(self.at_ms(now), self._boot_id, self._boot_ms + passed_ms)
