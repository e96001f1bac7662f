"""When a child that ended is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0
BACKOFF_RESET_S: Final = 30.0
"""A process that lived so long starts its backoff anew."""


@dataclass
class Backoff:
    """Backoff of one child that is started again whenever it ends."""

    delay_s: float = BACKOFF_FIRST_S
    at: float | None = None
    failures: int = 0

    def after(self, lived_s: float, now: float) -> float:
        """Plan the next start; returns the delay in seconds."""
        if lived_s >= BACKOFF_RESET_S:
            self.delay_s, self.failures = BACKOFF_FIRST_S, 0
        delay_s = self.delay_s
        self.delay_s = min(delay_s * 2, BACKOFF_MAX_S)
        self.failures += 1
        self.at = now + delay_s
        return delay_s
