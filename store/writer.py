"""One thread that groups what is waiting into one commit.

The thread only waits in LMDB's commit; it computes nothing (a second thread that computes
costs the router's p99 twentyfold). What a commit makes possible goes out after it: the
caller is told through ``done``, on this thread, and wakes its own loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from store.environment import Environment
from store.errors import StoreError, StoreFailed
from store.grouping import Grouping
from store.records import Change


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
        self._batches: Grouping[Batch] = Grouping("store-writer", self._commit_all)

    def submit(self, token: int, changes: tuple[Change, ...]) -> None:
        """Queues a batch. Raises StoreBusy at the limit, StoreClosed after ``close``."""
        self._batches.put(Batch(token, changes))

    def close(self, timeout_s: float) -> bool:
        """Commits what waits and ends the thread; False where that took too long."""
        return self._batches.close(timeout_s)

    def _commit_all(self, group: list[Batch]) -> None:
        self._done(self._commit_group(group))

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
