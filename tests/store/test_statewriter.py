"""One thread, one commit for what waits; what stands on a failed commit fails with it."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest

import store.grouping
from shard_node.state.economy import Deposit
from shard_node.state.files import LOG, Mark, lsn_key
from store.errors import StoreBusy, StoreClosed, StoreDamaged, StoreError, StoreFailed, StoreFull
from store.state import StateStore
from store.statecommit import Batch, Frames
from store.statewriter import StateWriter
from tests.support.state_store import WAIT_S, Ends, opened, plant


class Gate:
    """A store whose commits wait until the test lets them; ``bad`` tokens cannot be kept."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.bad: dict[int, Exception] = {}
        self.kept: list[list[int]] = []
        self.settled: list[tuple[list[int], Frames | None]] = []

    def place(self) -> Mark:
        return Mark()

    def commit(self, batches: list[Batch], frames: Frames | None = None) -> None:
        self.settled.append(([batch.token for batch in batches], frames))

    def append(self, batches: list[Batch]) -> int:
        self.entered.release()
        assert self.open.wait(WAIT_S)
        for batch in batches:
            if batch.token in self.bad:
                raise self.bad[batch.token]
        self.kept.append([batch.token for batch in batches])
        return len(self.kept)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def fill(gate: Gate, writer: StateWriter, count: int) -> None:
    """The first batch is in its commit, the others wait."""
    writer.submit(0)
    assert gate.entered.acquire(timeout=WAIT_S)
    for token in range(1, count):
        writer.submit(token)


def codes(ends: list[tuple[int, StoreError | None]]) -> list[tuple[int, str]]:
    return [(token, "" if error is None else type(error).__name__) for token, error in ends]


def test_what_waits_goes_into_one_commit_in_order(gate: Gate) -> None:
    ends = Ends()
    writer = StateWriter(gate, ends)
    fill(gate, writer, 5)
    assert writer.waiting == 4
    gate.open.set()
    assert codes(ends.wait(5)) == [(n, "") for n in range(5)]
    assert gate.kept == [[0], [1, 2, 3, 4]]
    assert writer.close(WAIT_S)


def test_a_failure_takes_what_stands_on_it_and_nothing_before(gate: Gate) -> None:
    gate.bad[3] = StoreFull("full")
    ends = Ends()
    writer = StateWriter(gate, ends)
    fill(gate, writer, 6)
    gate.open.set()
    ended = ends.wait(6)
    assert codes(ended) == [(0, ""), (1, ""), (2, "")] + [(n, "StoreFull") for n in (3, 4, 5)]
    writer.submit(6)
    assert codes(ends.wait(7))[-1] == (6, "StoreFull")
    writer.reset()
    writer.submit(7)
    assert codes(ends.wait(8))[-1] == (7, "")
    assert gate.kept == [[0], [1], [2], [7]]
    assert writer.close(WAIT_S)


def test_a_reset_spares_only_what_comes_after_it(gate: Gate) -> None:
    """All of it waits in the queue at once: failed, submitted before the reset, and after."""
    gate.bad[0] = StoreFull("full")
    ends = Ends()
    writer = StateWriter(gate, ends)
    fill(gate, writer, 3)
    writer.reset()
    writer.submit(3)
    writer.submit(4)
    gate.open.set()
    assert codes(ends.wait(5)) == [(n, "StoreFull") for n in range(3)] + [(3, ""), (4, "")]
    assert writer.close(WAIT_S)


def test_a_bug_in_one_batch_does_not_end_the_thread(gate: Gate) -> None:
    gate.bad[0] = ZeroDivisionError("planted")
    gate.open.set()
    ends = Ends()
    writer = StateWriter(gate, ends)
    writer.submit(0)
    (_, error), *_ = ends.wait(1)
    assert isinstance(error, StoreFailed)
    assert "planted" in str(error)
    writer.reset()
    writer.submit(1)
    assert codes(ends.wait(2))[-1] == (1, "")
    assert writer.close(WAIT_S)


def test_the_queue_has_a_limit(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.grouping, "WAITING_MAX", 2)
    ends = Ends()
    writer = StateWriter(gate, ends)
    fill(gate, writer, 3)
    with pytest.raises(StoreBusy):
        writer.submit(3)
    gate.open.set()
    ends.wait(3)
    writer.submit(3)
    assert codes(ends.wait(4)) == [(n, "") for n in range(4)]
    assert writer.close(WAIT_S)


def test_close_commits_what_waits_and_refuses_more(gate: Gate) -> None:
    ends = Ends()
    writer = StateWriter(gate, ends)
    fill(gate, writer, 4)
    assert not writer.close(0.01)
    with pytest.raises(StoreClosed):
        writer.submit(9)
    gate.open.set()
    assert writer.close(WAIT_S)
    assert codes(ends.ends) == [(n, "") for n in range(4)]


def test_records_that_do_not_follow_are_refused(tmp_path: object) -> None:
    with opened(tmp_path / "state") as rig:  # type: ignore[operator]
        rig.fill(10)
        applied = rig.model.submit(rig.tx(*rig.model.entries[1].payload().ops), 1)
        follows = (applied.entry,)
        skipped = rig.model.entries[5]
        for entries, mark in (
            ((skipped,), Mark(5)),
            (follows, None),
            (follows, Mark(10)),
            ((), Mark(12)),
        ):
            rig.give(applied.writes, entries, mark)
            assert isinstance(rig.ends.wait(rig.submitted)[-1][1], StoreFailed)
            rig.ends.ends[-1] = (0, None)
            rig.writer.reset()
        rig.give(applied.writes, follows, Mark(*rig.model.place))
        rig.flush()
        assert dict(rig.store.view.scan(b"")) == rig.model.view.rows


def test_a_record_that_finds_its_place_taken_waits_in_the_journal_and_is_not_lost(
    tmp_path: Path,
) -> None:
    """A log that goes on behind its mark is damaged; LMDB says no to what is appended there."""
    with opened(tmp_path / "state") as rig:
        rig.fill(20)
    plant(tmp_path / "state", LOG, lsn_key(30), b"of another time")
    again = StateStore.open(tmp_path / "state")
    ends = Ends()
    writer = StateWriter(again, ends)
    applied = rig.model.submit(rig.tx(Deposit("a", 1)), 10_000_000)
    heard: queue.SimpleQueue[StoreError | None] = queue.SimpleQueue()
    writer.on_settled(lambda _, error: heard.put(error))
    writer.submit(1, applied.writes, (applied.entry,), Mark(*rig.model.place))
    assert codes(ends.wait(1)) == [(1, "")]
    assert isinstance(heard.get(timeout=WAIT_S), StoreDamaged)
    assert writer.close(WAIT_S)
    again.renew()
    assert again.place().lsn == 20
    again.close()
    with pytest.raises(StoreDamaged):
        StateStore.open(tmp_path / "state")
    plant(tmp_path / "state", LOG, lsn_key(30), None)
    with opened(tmp_path / "state") as mended:
        assert mended.store.entry(21) == applied.entry
