"""How many of a steady stream are due: absolute deadlines, so that a late tick catches up. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """``rate_per_s`` for ``seconds``: the k-th (from 0) is due k / rate after the start.

    >>> pace = Pace(rate_per_s=10, seconds=2)
    >>> pace.total, pace.due(0.0), pace.due(0.35), pace.due(99.0), pace.next_at_s(4)
    (20, 1, 4, 20, 0.4)
    """

    rate_per_s: float
    seconds: float

    @property
    def total(self) -> int:
        """How many there are in all."""
        return round(self.rate_per_s * self.seconds)

    def due(self, elapsed_s: float) -> int:
        """How many should have gone out by ``elapsed_s`` since the start."""
        if self.total == 0 or elapsed_s < 0:
            return 0
        return min(self.total, math.floor(elapsed_s * self.rate_per_s + _ROUNDING) + 1)

    def next_at_s(self, sent: int) -> float:
        """When the next one is due after ``sent``, since the start; infinity when none is."""
        return sent / self.rate_per_s if sent < self.total else math.inf


_ROUNDING = 1e-9
