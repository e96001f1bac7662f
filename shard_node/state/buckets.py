"""Short cooldowns, in memory: the broker's, lost with it but for the last checkpoint.

Times are log time, so that a checkpoint means the same after a start.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, Final

from shard_node.state.cooldowns import acquire, check
from shard_node.state.errors import BadValue
from shard_node.state.keys import Table, key_of

KEYS_MAX: Final = 200_000
PRUNED_MAX: Final = 256
"""Windows that one acquisition looks at, to forget those that are over."""
_SLACK: Final = 64

Saved = tuple[str, int, int, int]
"""Key, start, end (ms of log time), uses that are gone."""


class Buckets:
    """Windows by key, at most ``keys_max``: one more, and the one that ends first is forgotten
    (``evicted`` counts those that were not over)."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        self._keys_max = keys_max
        self._windows: dict[str, tuple[int, int, int]] = {}
        self._ends: list[tuple[int, str]] = []
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._windows)

    def acquire(self, key: str, rate: int, per_ms: int, now_ms: int) -> tuple[int, int]:
        """Take a use. Returns ms to wait (0: it is allowed), and the uses that remain.

        Raises BadName, BadValue.
        """
        check(rate, per_ms)
        known = self._windows.get(key)
        if known is None:
            key_of(Table.COOLDOWN, key)
        self._prune(now_ms)
        start_ms, _, used = known or (0, 0, 0)
        step = acquire(start_ms, used, rate, per_ms, now_ms)
        if step.retry_after_ms:
            return step.retry_after_ms, 0
        self._put(key, step.start_ms, step.start_ms + per_ms, step.used)
        return 0, max(0, rate - step.used)

    def clear(self, key: str) -> bool:
        """Forget a key's uses; False where none were known."""
        return self._windows.pop(key, None) is not None

    def show(self, prefix: str, now_ms: int) -> Iterator[Saved]:
        """Windows that are not over, of the keys with this prefix, in the keys' order."""
        for key in sorted(key for key in self._windows if key.startswith(prefix)):
            start_ms, end_ms, used = self._windows[key]
            if end_ms > now_ms:
                yield key, start_ms, end_ms, used

    def forget(self, is_his: Any) -> int:
        """Forget the keys for which ``is_his(key)`` is true. Returns how many."""
        keys = [key for key in self._windows if is_his(key)]
        for key in keys:
            del self._windows[key]
        return len(keys)

    def checkpoint(self, now_ms: int) -> list[Saved]:
        """Plain data for ``restore``: the windows that are not over."""
        return list(self.show("", now_ms))

    def restore(self, saved: Iterable[Any], now_ms: int) -> int:
        """Take up what a checkpoint holds. Returns how many windows. Raises BadValue."""
        count = 0
        for one in saved:
            key, start_ms, end_ms, used = _checked(one)
            if end_ms > now_ms:
                self._put(key, start_ms, end_ms, used)
                count += 1
        return count

    def _put(self, key: str, start_ms: int, end_ms: int, used: int) -> None:
        known = self._windows.get(key)
        self._windows[key] = (start_ms, end_ms, used)
        if known is None or known[1] != end_ms:
            heapq.heappush(self._ends, (end_ms, key))
        while len(self._windows) > self._keys_max:
            self.evicted += self._forget_first()
        if len(self._ends) > 2 * len(self._windows) + _SLACK:
            self._ends = [(window[1], key) for key, window in self._windows.items()]
            heapq.heapify(self._ends)

    def _prune(self, now_ms: int) -> None:
        for _ in range(PRUNED_MAX):
            if not self._ends or self._ends[0][0] > now_ms:
                return
            self._forget_first()

    def _forget_first(self) -> bool:
        """False where it was none: forgotten or begun anew since."""
        end_ms, key = heapq.heappop(self._ends)
        known = self._windows.get(key)
        if known is None or known[1] != end_ms:
            return False
        del self._windows[key]
        return True


def _checked(one: Any) -> Saved:
    good = isinstance(one, list | tuple) and [type(part) for part in one] == [str, int, int, int]
    if not good or not one[0] or one[3] < 1 or one[1] > one[2]:
        raise BadValue(f"no window: {one!r}"[:200])
    return one[0], one[1], one[2], one[3]
