"""Events of each shard a second, from the sequence numbers alone: an event costs nothing. Pure."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

WITHIN_S: Final = 10.0
"""What was so long ago counts for a third of what it did."""
STEP_S: Final = 0.5
"""Looks that come sooner than this change nothing: they would count single events."""


class _Seen(NamedTuple):
    sequence: int
    at: float
    per_s: float
    known_s: float


class Rates:
    """An average over WITHIN_S, of each shard; from its first step on."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def look(self, sequences: dict[int, int], now: float) -> dict[int, float]:
        """Events a second by shard. A new session counts from nothing."""
        for shard, sequence in sequences.items():
            self._look(shard, sequence, now)
        return {shard: self._seen[shard].per_s for shard in sequences}

    def forget(self, shard: int) -> None:
        """The shard is somebody else's."""
        self._seen.pop(shard, None)

    def _look(self, shard: int, sequence: int, now: float) -> None:
        seen = self._seen.get(shard)
        if seen is None or not seen.sequence:
            # A session that another process had goes on somewhere: what was before is not of now.
            self._seen[shard] = _Seen(sequence, now, 0.0, 0.0)
            return
        passed_s = now - seen.at
        if passed_s < STEP_S:
            return
        count = sequence - seen.sequence if sequence >= seen.sequence else sequence
        known_s = seen.known_s + passed_s
        # As long as less than WITHIN_S is known, the plain average of it.
        weight = max(1 - math.exp(-passed_s / WITHIN_S), passed_s / known_s)
        per_s = seen.per_s + weight * (count / passed_s - seen.per_s)
        self._seen[shard] = _Seen(sequence, now, per_s, known_s)
