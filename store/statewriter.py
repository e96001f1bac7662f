"""One thread that makes the state's waiting batches durable, in groups: frames of the journal.

Each batch was computed on top of those before it, committed or not. So after a failed commit
every batch that was submitted before ``reset`` fails as well, whether it was waiting or came
later: there is nothing for it to stand on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol

from shard_node.state.files import Mark
from shard_node.state.log import Entry
from store.errors import StoreError, StoreFailed
from store.grouping import Grouping
from store.settler import Done, Settled, Settler
from store.statecommit import Batch, Frames, Left, Work, check_keys, next_mark, with_records

_NOTHING: Final[Mapping[bytes, bytes | None]] = {}
_NO_NOTES: Final[Mapping[str, bytes | None]] = {}

End = tuple[int, StoreError | None]


class Appends(Protocol):
    """What the writer needs of the store."""

    def append(self, batches: list[Batch]) -> int:
        """All durable, or none; the number of their frame. Raises StoreError."""

    def commit(self, batches: list[Batch], frames: Frames | None = None) -> None:
        """All in one durable commit of the file, or none. Raises StoreError."""

    def place(self) -> Mark:
        """Where the log stands."""


class StateWriter:
    """The one writer of a StateStore.

    ``done(tokens, error)`` is called on the writer's thread, in the order of submission: with
    None after the batches became durable (what they make possible may go out now), else with
    the reason why they are not kept. A batch
    with ``work`` is done when it is in the file. ``submit``, ``reset`` and ``close`` are for one
    thread.
    """

    def __init__(self, store: Appends, done: Done) -> None:
        self._store = store
        self._done = done
        self._generation = 0
        self._broken = -1
        """The newest generation of which a commit failed, and why."""
        self._why: StoreError | None = None
        self._mark = store.place()
        self._settler = Settler(store, done)
        self._batches: Grouping[Batch] = Grouping("state-writer", self._take)

    def submit(
        self,
        token: int,
        writes: Mapping[bytes, bytes | None] = _NOTHING,
        entries: tuple[Entry, ...] = (),
        mark: Mark | None = None,
        *,
        notes: Mapping[str, bytes | None] = _NO_NOTES,
        work: Work | None = None,
    ) -> None:
        """Queue a batch: rows to put (None: delete), records that follow the last submitted
        ones, and the mark after them (needed with records). They are not to be changed later.

        ``notes`` are kept beside rows and log, in neither (a checkpoint of what is not logged);
        ``work`` is done in the same commit. Raises StoreBusy at the limit (nothing is queued;
        submit it again after the next ``done``), StoreClosed after ``close``.
        """
        self._batches.put(Batch(token, self._generation, writes, entries, mark, notes, work))

    def go_on(self, left: Sequence[Left]) -> None:
        """Bring into the file what it had no room for when the store was opened; ``on_settled``
        hears of it. Before the first ``submit``."""
        for frame in left:
            for batch in frame.batches:
                self._mark = next_mark(batch, self._mark)
            self._settler.put(frame.batches, frame.number)

    def reset(self) -> None:
        """Begin anew after a failure: what is submitted from now on was computed on top of what
        the store has (after ``StateStore.renew``), not on what failed."""
        self._generation += 1

    @property
    def waiting(self) -> int:
        """Batches in the queue, about."""
        return self._batches.waiting

    def close(self, timeout_s: float) -> bool:
        """Keep what waits, bring it into the file and end; False where that took too long. What
        is durable by then stays so."""
        until = time.monotonic() + timeout_s
        kept = self._batches.close(timeout_s)
        return self._settler.close(max(until - time.monotonic(), 0.0)) and kept

    def on_settled(self, settled: Settled) -> None:
        """``settled(token, error)`` is called on another thread once the file has all batches up
        to this token (None), or does not take them for now."""
        self._settler.settled = settled

    def settle(self, timeout_s: float) -> bool:
        """Wait until the file has what was done; False where that took too long."""
        return self._settler.wait(timeout_s)

    def _take(self, group: list[Batch]) -> None:
        """Those without work in frames of the journal, those with it to the settler; in order."""
        for works, run in groupby(group, key=lambda batch: batch.work is not None):
            batches = list(run)
            if works:
                for batch in batches:
                    self._settler.put([batch], 0)
                continue
            for error, tokens in _runs(self._keep_group(batches)):
                self._done(tokens, error)

    def _keep_group(self, group: list[Batch]) -> list[End]:
        """What became of each. One that cannot be kept takes those after it with it, not those
        before: they are tried one by one then."""
        live = [batch for batch in group if batch.generation > self._broken]
        kept = len(live) > 1 and self._keep(live) is None
        ends: list[End] = []
        for batch in group:
            error = None
            if batch.generation <= self._broken:
                error = self._why
            elif not kept:
                error = self._keep([batch])
                if error is not None:
                    self._broken, self._why = batch.generation, error
            ends.append((batch.token, error))
        return ends

    def _keep(self, batches: list[Batch]) -> StoreError | None:
        try:
            mark = self._mark
            for batch in batches:
                mark = next_mark(batch, mark)
                check_keys(batch)
            batches = [with_records(batch) for batch in batches]
            number = self._store.append(batches)
        except StoreError as error:
            return error
        except Exception as error:
            # A bug of ours in one batch must not end the thread that all others wait for.
            return StoreFailed(f"{type(error).__name__}: {error}")
        self._mark = mark
        self._settler.put(batches, number)
        return None


def _runs(ends: list[End]) -> Iterator[tuple[StoreError | None, tuple[int, ...]]]:
    """Neighbours with the same end together."""
    for _, run in groupby(ends, key=lambda end: id(end[1])):
        same = list(run)
        yield same[0][1], tuple(token for token, _ in same)
