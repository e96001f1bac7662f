"""How often events come to a shard: by the last minutes, by the hour of the day. Pure."""

from __future__ import annotations

import math
from typing import Final

HOURS: Final = 24
DAYS_WEIGHT: Final = 0.3
"""Of a day among those before, hour by hour."""


class Rate:
    """Events a second, as a mean that forgets; right from the first look on."""

    __slots__ = ("_mean", "_span_s", "_weight")

    def __init__(self, span_s: float, per_s: float | None = None) -> None:
        self._span_s = span_s
        self._mean, self._weight = (0.0, 0.0) if per_s is None else (per_s, 1.0)

    def add(self, count: int, seconds: float) -> None:
        """``count`` events came in ``seconds``."""
        if seconds <= 0:
            return
        keep = math.exp(-seconds / self._span_s)
        self._mean = self._mean * keep + count / seconds * (1 - keep)
        self._weight = self._weight * keep + (1 - keep)

    @property
    def per_s(self) -> float:
        """The rate; 0 before the first look."""
        return self._mean / self._weight if self._weight else 0.0


class Day:
    """The rate of each hour of the day, as a mean over days; None where it is not known."""

    def __init__(self, hours: list[float | None] | None = None) -> None:
        self.hours: list[float | None] = [None] * HOURS
        if hours is not None and len(hours) == HOURS:
            self.hours = list(hours)
        self._hour, self._count, self._seconds = -1, 0, 0.0

    def add(self, hour: int, count: int, seconds: float) -> None:
        """``count`` events came in ``seconds`` of this hour."""
        if hour != self._hour:
            if self._hour >= 0 and self._seconds > 0:
                last, mean = self.hours[self._hour], self._count / self._seconds
                weighed = mean if last is None else last + DAYS_WEIGHT * (mean - last)
                self.hours[self._hour] = weighed
            self._hour, self._count, self._seconds = hour, 0, 0.0
        self._count += count
        self._seconds += seconds
