"""Which process handled a shard's events when, and how long nobody did between two. Pure."""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

RUNS_MAX: Final = 1 << 12
"""Runs remembered of a shard; past it the oldest is forgotten."""
SHARDS_MAX: Final = 1 << 14
SOURCES_MAX: Final = 1 << 12


@dataclass(slots=True)
class Run:
    """A shard's events from ``first`` to ``last`` were handled by ``who``; monotonic seconds."""

    who: str
    first: float
    last: float


@dataclass(frozen=True)
class HandoverCounts:
    """``median_ms`` and ``max_ms`` of the gaps; 0 where there is none."""

    count: int
    median_ms: float
    max_ms: float


class Handovers:
    """Reports may come in any order, and again. A handover is where the process changes; its gap
    is from the last handler start by the old one to the first by the new one.

    >>> handovers = Handovers()
    >>> for at, who in ((1.0, "a#1"), (2.2, "a#2"), (2.0, "a#1")):
    ...     handovers.started(0, who, at)
    >>> handovers.counts()
    HandoverCounts(count=1, median_ms=200.0, max_ms=200.0)
    """

    def __init__(self) -> None:
        self._shards: dict[int, list[Run]] = {}

    def started(self, shard: int, who: str, at: float) -> None:
        """A handler of one of the shard's events began."""
        runs = self._shards.get(shard)
        if runs is None:
            if len(self._shards) >= SHARDS_MAX:
                return
            runs = self._shards[shard] = []
        place = bisect.bisect_right(runs, at, key=lambda run: run.first)
        before = runs[place - 1] if place else None
        behind = runs[place] if place < len(runs) else None
        if before is not None and before.who == who:
            before.last = max(before.last, at)
        elif before is not None and at < before.last:
            # In the middle of another's: both handled the shard's events.
            runs[place:place] = [Run(who, at, at), Run(before.who, at, before.last)]
            before.last = at
        elif behind is not None and behind.who == who:
            behind.first = at
        else:
            runs.insert(place, Run(who, at, at))
        if len(runs) > RUNS_MAX:
            del runs[: len(runs) - RUNS_MAX]

    def gaps_ms(self, shard: int) -> list[float]:
        """In order of time."""
        return list(self._gaps_ms(self._shards.get(shard, [])))

    def counts(self) -> HandoverCounts:
        """Over all shards."""
        gaps = [gap for runs in self._shards.values() for gap in self._gaps_ms(runs)]
        if not gaps:
            return HandoverCounts(0, 0.0, 0.0)
        return HandoverCounts(len(gaps), round(statistics.median(gaps), 1), round(max(gaps), 1))

    def runs(self) -> dict[int, list[Run]]:
        """All, by shard."""
        return self._shards

    def reset(self) -> None:
        """Count from here on: who handles a shard now is remembered, its next one is a
        handover."""
        for runs in self._shards.values():
            del runs[:-1]

    @staticmethod
    def _gaps_ms(runs: list[Run]) -> Iterator[float]:
        for old, new in itertools.pairwise(runs):
            yield max(0.0, new.first - old.last) * 1000


class Sources:
    """How many numbered reports of each source were taken, so that none is taken twice."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, int] = OrderedDict()

    def take(self, source: str, number: int) -> bool:
        """Whether this report was not taken before; it is from now on."""
        if number < self._told.get(source, 0):
            return False
        self._told[source] = number + 1
        self._told.move_to_end(source)
        if len(self._told) > SOURCES_MAX:
            self._told.popitem(last=False)
        return True

    def told(self, source: str) -> int:
        """One past the highest number taken."""
        return self._told.get(source, 0)
