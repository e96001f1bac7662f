"""When each of a steady stream is due: absolute deadlines, so that a late tick catches up. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """``rate_per_s`` for ``seconds``: the k-th (from 0) is due k / rate after the start.

    >>> pace = Pace(rate_per_s=10, seconds=2)
    >>> pace.total, pace.next_at_s(0), pace.next_at_s(4), pace.next_at_s(20)
    (20, 0.0, 0.4, inf)
    """

    rate_per_s: float
    seconds: float

    @property
    def total(self) -> int:
        """How many there are in all."""
        return round(self.rate_per_s * self.seconds)

    def next_at_s(self, sent: int) -> float:
        """When the next one is due after ``sent``, since the start; infinity when none is."""
        return sent / self.rate_per_s if sent < self.total else math.inf
