"""Log time as a node knows it: it goes on with the boot's clock, not with the wall's."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from shard_node.state.arguments import shown
from shard_node.state.errors import BadValue

UNTIL_MAX_S: Final = 253_402_300_800
"""The end of the year 9999, where datetime ends."""
_TIME_HINT: Final = "a datetime with a zone, or seconds since the epoch; None: for ever"
_FAR_HINT: Final = "None is for ever; is it in seconds?"
_BOOT_ID_FILE: Final = Path("/proc/sys/kernel/random/boot_id")


class LogClock:
    """Log time now, in ms since the epoch. It begins at the wall clock and never goes back."""

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._base_ms = int(wall_s() * 1000)
        self._from = time.monotonic()

    def at_ms(self) -> int:
        """Now."""
        return self._base_ms + int((time.monotonic() - self._from) * 1000)

    def learn(self, at_ms: int) -> None:
        """It was ``at_ms`` at this moment, or later already."""
        if at_ms > self.at_ms():
            self.set(at_ms)

    def set(self, at_ms: int) -> None:
        """It is ``at_ms`` at this moment."""
        self._base_ms, self._from = at_ms, time.monotonic()

    def carry_on(self, at_ms: int, boot_id: str, boottime_ms: int) -> bool:
        """It was ``at_ms`` at a moment of the boot. False where that was another boot."""
        if not boot_id or boot_id != this_boot():
            return False
        self.set(at_ms + max(0, boot_ms() - boottime_ms))
        return True

    def until_ms(self, until: datetime | float | None) -> int | None:
        """Log time at a time of the wall clock (a datetime with a zone, or seconds since the
        epoch), by the difference of both now. Raises BadValue."""
        if until is None:
            return None
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise BadValue(f"until={until} has no time zone", hint="datetime.now(timezone.utc)")
            until = until.timestamp()
        if isinstance(until, bool) or not isinstance(until, int | float) or until != until:
            raise BadValue(f"until={shown(until)} is no time", hint=_TIME_HINT)
        if until > UNTIL_MAX_S:
            raise BadValue(f"until={shown(until)} is beyond the year 9999", hint=_FAR_HINT)
        left_ms = int((max(until, 0) - self._wall_s()) * 1000)
        if left_ms <= 0:
            hint = "is it in seconds since the epoch, and of the right zone?"
            raise BadValue(f"until={shown(until)} is over already", hint=hint)
        return self.at_ms() + left_ms

    def wall_s(self, at_ms: int) -> float:
        """The wall clock, in seconds since the epoch, at a log time."""
        return self._wall_s() + (at_ms - self.at_ms()) / 1000


def this_boot() -> str:
    """The id of the machine's boot; "" where it has none."""
    try:
        return _BOOT_ID_FILE.read_text().strip()
    except OSError:
        return ""


def boot_ms() -> int:
    """CLOCK_BOOTTIME: what has passed since the boot, sleep included."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000
