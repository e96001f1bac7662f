"""One thread that groups what is waiting into one commit.

The thread only waits in LMDB's commit; it computes nothing (a second thread that computes
costs the router's p99 twentyfold). What a commit makes possible goes out after it: the
caller is told through ``done``, on this thread, and wakes its own loop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from store.environment import Environment
from store.errors import StoreBusy, StoreClosed, StoreError, StoreFailed
from store.records import Change

WAITING_MAX: Final = 4096
GROUP_MAX: Final = 512
"""Batches in one commit; more would make the first wait for the last."""


class Batch(NamedTuple):
    """Changes that are kept together or not at all."""

    token: int
    changes: tuple[Change, ...]


class Done(NamedTuple):
    """The end of a batch; ``error`` None means it is durable."""

    token: int
    error: StoreError | None


class Writer:
    """The one writer of an environment. ``done`` is called on the writer's thread."""

    def __init__(self, environment: Environment, done: Callable[[tuple[Done, ...]], None]) -> None:
        self._environment = environment
        self._done = done
        self._waiting: queue.Queue[Batch | None] = queue.Queue(WAITING_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, token: int, changes: tuple[Change, ...]) -> None:
        """Queues a batch. Raises StoreBusy at the limit, StoreClosed after ``close``."""
        if self._closed:
            msg = "the writer has ended"
            raise StoreClosed(msg)
        try:
            self._waiting.put_nowait(Batch(token, changes))
        except queue.Full:
            msg = f"{WAITING_MAX} batches wait already"
            raise StoreBusy(msg) from None

    def close(self, timeout_s: float) -> bool:
        """Commits what waits and ends the thread; False where that took too long."""
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
                self._done(self._commit_group(group))

    def _group(self) -> tuple[list[Batch], bool]:
        """What waits, at least one batch; True where it is the last group."""
        group: list[Batch] = []
        while len(group) < GROUP_MAX:
            try:
                batch = self._waiting.get(block=not group)
            except queue.Empty:
                break
            if batch is None:
                return group, True
            group.append(batch)
        return group, False

    def _commit_group(self, group: list[Batch]) -> tuple[Done, ...]:
        error = self._commit(group)
        if error is None or len(group) == 1:
            return tuple(Done(batch.token, error) for batch in group)
        # One batch that cannot be kept must not take the others with it.
        return tuple(Done(batch.token, self._commit([batch])) for batch in group)

    def _commit(self, group: list[Batch]) -> StoreError | None:
        try:
            self._environment.write(change for batch in group for change in batch.changes)
        except StoreError as error:
            return error
        except Exception as error:
            # A bug of ours in one record must not end the thread that all others wait for.
            return StoreFailed(f"{type(error).__name__}: {error}")
        return None
