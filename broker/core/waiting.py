"""Deadlines of the frames that wait; those that go on at once never get here."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from broker.core.frames import Batch

SLACK: Final = 1024
"""Entries of frames that are gone which may lie in the heap before it is built anew."""


class Deadlines:
    """A heap that is cleaned as it grows."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Batch]] = []
        self._number = 0
        self._clean_at = SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, batch: Batch) -> None:
        """A frame waits that has a deadline."""
        self._number += 1
        heapq.heappush(self._heap, (batch.deadline, self._number, batch))
        if len(self._heap) >= self._clean_at:
            self._heap = [entry for entry in self._heap if not entry[2].gone]
            heapq.heapify(self._heap)
            self._clean_at = 2 * len(self._heap) + SLACK

    def passed(self, now: float) -> Iterator[Batch]:
        """Takes out the frames whose deadline has passed."""
        heap = self._heap
        while heap and (heap[0][2].gone or heap[0][0] <= now):
            batch = heapq.heappop(heap)[2]
            if not batch.gone:
                yield batch

    def next(self) -> float | None:
        """The next deadline."""
        while self._heap and self._heap[0][2].gone:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
