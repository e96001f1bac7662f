"""Which of the last transactions were applied, by their op ids: in memory, for whoever applies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class OpIds:
    """The op ids of the last records up to ``last``, ``kept`` of them at most."""

    def __init__(self, kept: int, last: int = 0) -> None:
        self._kept = kept
        self.last = last
        self._order: deque[bytes] = deque()
        self._lsns: dict[bytes, int] = {}
        self.lsn_of = self._lsns.get
        """The record of an op id; None where it is not among those known."""

    def __len__(self) -> int:
        return len(self._order)

    def add(self, op_id: bytes) -> None:
        """The next record was applied."""
        self.last += 1
        self._order.append(op_id)
        self._lsns[op_id] = self.last
        if len(self._order) > self._kept:
            self._lsns.pop(self._order.popleft(), None)

    def add_older(self, op_ids: Sequence[bytes]) -> None:
        """Those of the records just before the ones that are known, in order."""
        first = self.last - len(self._order) - len(op_ids) + 1
        self._order.extendleft(reversed(op_ids))
        for lsn, op_id in enumerate(op_ids, first):
            self._lsns[op_id] = lsn

    def back_to(self, lsn: int) -> None:
        """Forget the records after this one."""
        while self._order and self.last > lsn:
            del self._lsns[self._order.pop()]
            self.last -= 1
        self.last = lsn

    def newest(self) -> bytes | None:
        """The op id of the record ``last``; None where it is not known."""
        return self._order[-1] if self._order else None
