"""A thread that takes whatever waits, a group at a time: what both writers stand on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from store.errors import StoreBusy, StoreClosed

WAITING_MAX: Final = 4096
GROUP_MAX: Final = 512
"""Batches in one commit; more would make the first wait for the last."""

B = TypeVar("B")


class Grouping(Generic[B]):
    """``take`` is called on the thread, with one batch or more, in the order they came."""

    def __init__(self, name: str, take: Callable[[list[B]], None]) -> None:
        self._take = take
        self._waiting: queue.Queue[B | None] = queue.Queue(WAITING_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, batch: B) -> None:
        """Queue a batch. Raises StoreBusy at the limit, StoreClosed after ``close``."""
        if self._closed:
            raise StoreClosed("the writer has ended")
        try:
            self._waiting.put_nowait(batch)
        except queue.Full:
            raise StoreBusy(f"{WAITING_MAX} batches wait already") from None

    @property
    def waiting(self) -> int:
        """Batches in the queue, about."""
        return self._waiting.qsize()

    def close(self, timeout_s: float) -> bool:
        """Take what waits and end the thread; False where that took too long."""
        if not self._closed:
            self._closed = True
            try:
                self._waiting.put(None, timeout=timeout_s)
            except queue.Full:
                return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._group()
            if group:
                self._take(group)

    def _group(self) -> tuple[list[B], bool]:
        """What waits, at least one batch; True where it is the last group."""
        group: list[B] = []
        while len(group) < GROUP_MAX:
            try:
                batch = self._waiting.get(block=not group)
            except queue.Empty:
                break
            if batch is None:
                return group, True
            group.append(batch)
        return group, False
