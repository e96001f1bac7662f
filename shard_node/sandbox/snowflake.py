"""Discord's identifiers: 42 bits of milliseconds, 5 worker, 5 process, 12 increment.

Source: Discord API Reference, "Snowflakes". ``(id >> 22) % num_shards`` is a guild's shard.
"""

from __future__ import annotations

from collections.abc import Callable

EPOCH_MS = 1_420_070_400_000
"""The first second of 2015, in Unix milliseconds: where Discord's clock starts."""

TIME_SHIFT = 22
LOW_MASK = (1 << TIME_SHIFT) - 1
INCREMENT_MAX = (1 << 12) - 1
_U64 = (1 << 64) - 1
_ORIGIN = 1 << 17
"""Worker 1, process 0: the low bits of every identifier that ``Snowflakes`` makes."""


def shard_of(guild_id: int, num_shards: int) -> int:
    """The shard that a guild belongs to, by Discord's formula."""
    return (guild_id >> TIME_SHIFT) % num_shards


def snowflake(ms: int, low: int = 0) -> int:
    """An identifier from milliseconds since Discord's epoch and its 22 low bits."""
    return (ms << TIME_SHIFT) | (low & LOW_MASK)


def mix(*parts: int) -> int:
    """64 well-mixed bits of some integers (splitmix64): a seed's deterministic choices."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & _U64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _U64
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _U64
        state ^= state >> 31
    return state


class Snowflakes:
    """Makes strictly growing identifiers from a wall clock in Unix milliseconds.

    A clock that stands still or steps back only borrows from the next millisecond.
    """

    def __init__(self, wall_ms: Callable[[], int]) -> None:
        self._wall_ms = wall_ms
        self._ms = 0
        self._increment = 0

    def next(self) -> int:
        """The next identifier."""
        now_ms = self._wall_ms() - EPOCH_MS
        if now_ms > self._ms:
            self._ms, self._increment = now_ms, 0
        elif self._increment == INCREMENT_MAX:
            self._ms, self._increment = self._ms + 1, 0
        else:
            self._increment += 1
        return snowflake(self._ms, _ORIGIN | self._increment)
