"""Which of the last transactions were applied, by their op ids: in memory, for whoever applies."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

DONE_KEPT: Final = 65_536
"""So many of the last transactions are remembered at least."""
Known = tuple[bytes, int]
"""A record's op id (empty where it cannot be read) and log time."""


class Window(NamedTuple):
    """The last ``kept`` records, and those not older than the last one by more than ``kept_ms``:
    a sender sends again for 10 s. But ``most`` of them, some 100 MB."""

    kept: int = DONE_KEPT
    kept_ms: int = 30_000
    most: int = 524_288

    def before(
        self, last: int, at_ms: int, first: int, time_of: Callable[[int], int | None]
    ) -> int:
        """The last record that is not among them, where the record ``last`` is of the log time
        ``at_ms`` and ``first`` is the oldest that there is."""
        low, high = max(first - 1, last - self.most), max(first - 1, last - self.kept)
        return older_than(at_ms - self.kept_ms, time_of, low + 1, high)


WINDOW: Final = Window()


class OpIds:
    """The op ids of the last records up to ``last``. Which ones are found rests on the log alone:
    who applies it again finds the same."""

    def __init__(self, last: int = 0, window: Window = WINDOW) -> None:
        self._kept, self._kept_ms, self._most = window
        self.last = last
        self._order: deque[bytes] = deque()
        self._times: deque[int] = deque()
        self._lsns: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._order)

    def lsn_of(self, op_id: bytes) -> int | None:
        """The record of an op id; None where it is not among those known."""
        lsn = self._lsns.get(op_id)
        if lsn is None or lsn > self.last - self._kept:
            return lsn
        place = lsn - 1 - self.last  # from the end
        recent = lsn > self.last - self._most and self._times[place] >= self._since()
        return lsn if recent else None

    def add(self, op_id: bytes, at_ms: int) -> None:
        """The next record was applied."""
        order, times = self._order, self._times
        self.last += 1
        order.append(op_id)
        times.append(at_ms)
        self._lsns[op_id] = self.last
        for _ in range(2):  # no more at once, after a pause: what is too old is not found anyway
            count = len(order)
            if count <= self._kept or (count <= self._most and times[0] >= self._since()):
                return
            self._forget_first()

    def add_older(self, records: Sequence[Known]) -> None:
        """Those of the records just before the ones that are known, in order."""
        first = self.last - len(self._order) - len(records) + 1
        self._order.extendleft([op_id for op_id, _ in reversed(records)])
        self._times.extendleft([at_ms for _, at_ms in reversed(records)])
        older = {op_id: lsn for lsn, (op_id, _) in enumerate(records, first)}
        older.pop(b"", None)
        older.update(self._lsns)
        self._lsns = older

    def back_to(self, lsn: int) -> None:
        """Forget the records after this one."""
        while self._order and self.last > lsn:
            self._lsns.pop(self._order.pop(), None)
            self._times.pop()
            self.last -= 1
        self.last = lsn

    def newest(self) -> bytes | None:
        """The op id of the record ``last``; None where it is not known."""
        return self._order[-1] if self._order else None

    def newest_at_ms(self) -> int | None:
        """Its log time."""
        return self._times[-1] if self._times else None

    def _since(self) -> int:
        return self._times[-1] - self._kept_ms

    def _forget_first(self) -> None:
        lsn, op_id = self.last - len(self._order) + 1, self._order.popleft()
        self._times.popleft()
        if self._lsns.get(op_id) == lsn:
            del self._lsns[op_id]


def older_than(at_ms: int, time_of: Callable[[int], int | None], first: int, last: int) -> int:
    """The last lsn of ``first`` to ``last`` that was logged before ``at_ms``; ``first - 1`` where
    none was. Log time never goes back, so it is searched for. A record whose time is not known
    (None) counts as not older."""
    low, high = first - 1, last
    while low < high:
        middle = (low + high + 1) // 2
        found = time_of(middle)
        if found is not None and found < at_ms:
            low = middle
        else:
            high = middle - 1
    return low
