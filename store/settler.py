"""One thread that brings what is durable in the journal into the state's file.

Many groups go into one commit: a row that was written again and again is put once, and the
pages are flushed once. The pause between commits leaves the disk to the journal. What the
file does not take (a full disk) stays in the journal and is tried again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from store.errors import StoreError, StoreFailed
from store.statecommit import Batch, Frames

EVERY_S: Final = 0.01
"""From the beginning of one commit to that of the next, at least; a change is told after its
commit, and may take 20 ms to all nodes."""
EVERY_MAX_S: Final = 0.03
SHARE: Final = 4
"""A commit may take the disk for one part of so many, up to EVERY_MAX_S; the journal, which
transactions wait for, has the others."""
RETRY_S: Final = 0.5
COMMIT_MAX_FRAMES: Final = 64

Done = Callable[[tuple[int, ...], StoreError | None], None]
Settled = Callable[[int, StoreError | None], None]


class Commits(Protocol):
    """What the settler needs of the store."""

    def commit(self, batches: list[Batch], frames: Frames | None = None) -> None:
        """All in one durable commit of the file, or none. Raises StoreError."""


class _Item(NamedTuple):
    batches: list[Batch]
    number: int
    """Of the frame that has them; 0: it is one batch with work, and in none."""


class Settler:
    """``done`` hears of batches with work, ``settled`` of the others: its token is that of the
    last one. ``put`` is for the writer's thread."""

    def __init__(self, store: Commits, done: Done) -> None:
        self._store, self._done = store, done
        self.settled: Settled = _unheard
        self._items: deque[_Item] = deque()
        self._change = threading.Condition()
        self._busy = self._closing = False
        self._began_at = self._next_at = 0.0
        self._thread = threading.Thread(target=self._run, name="state-settler", daemon=True)
        self._thread.start()

    def put(self, batches: list[Batch], number: int) -> None:
        """The batches of the frame ``number``, or (0) one that has work. The journal bounds
        them."""
        with self._change:
            self._items.append(_Item(batches, number))
            self._change.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Until the file has everything; False where that took too long."""
        with self._change:
            return self._change.wait_for(lambda: not self._items and not self._busy, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Bring into the file what waits and end the thread; False where that took too long."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            items = self._await()
            if not items or not self._settle(items):
                return
            took_s = time.monotonic() - self._began_at
            with self._change:
                self._next_at = self._began_at + min(max(EVERY_S, SHARE * took_s), EVERY_MAX_S)
                self._busy = False
                self._change.notify_all()

    def _await(self) -> list[_Item]:
        """What is next for the file; nothing at the end."""
        with self._change:
            self._change.wait_for(lambda: self._items or self._closing)
            self._change.wait_for(lambda: self._closing, self._next_at - time.monotonic())
            self._began_at = time.monotonic()
            items: list[_Item] = []
            while self._items and len(items) < COMMIT_MAX_FRAMES:
                if items and not self._items[0].number:
                    break  # what fails in its work must not hold up the others
                items.append(self._items.popleft())
                if not items[-1].number:
                    break
            self._busy = bool(items)
            return items

    def _settle(self, items: list[_Item]) -> bool:
        """False where the file took nothing up to the end: what comes behind must not go into
        it either, since all up to the last frame in the file counts as being there."""
        batches = [batch for item in items for batch in item.batches]
        if not items[-1].number:
            self._done((batches[-1].token,), self._commit(batches, None))
            return True
        token = max(batch.token for batch in batches)
        while True:
            error = self._commit(batches, Frames(items[0].number, items[-1].number))
            self.settled(token, error)
            if error is None:
                return True
            with self._change:
                if self._change.wait_for(lambda: self._closing, RETRY_S):
                    return False  # it stays in the journal

    def _commit(self, batches: list[Batch], frames: Frames | None) -> StoreError | None:
        try:
            self._store.commit(batches, frames)
        except StoreError as error:
            return error
        except Exception as error:
            # A bug of ours must not end the thread that the journal waits for.
            return StoreFailed(f"{type(error).__name__}: {error}")
        return None


def _unheard(_token: int, _error: StoreError | None) -> None:
    return
