"""One thread, one commit for what waits, and an answer for every batch."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import store.grouping
from store.environment import Environment
from store.errors import StoreBusy, StoreClosed, StoreFailed, StoreFull
from store.records import CommandsRecord, EpochRecord, Forget, Record
from store.writer import Done, Writer

WAIT_S = 10


class Ends:
    """Collects what the writer reports, and lets a test wait for it."""

    def __init__(self) -> None:
        self.groups: list[tuple[Done, ...]] = []
        self._changed = threading.Condition()

    def __call__(self, group: tuple[Done, ...]) -> None:
        with self._changed:
            self.groups.append(group)
            self._changed.notify_all()

    def all(self, count: int) -> list[Done]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._flat()) >= count, WAIT_S)
            return self._flat()

    def _flat(self) -> list[Done]:
        return [done for group in self.groups for done in group]


class Gate:
    """An environment whose commits wait until the test opens them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.commits: list[list[object]] = []

    def write(self, changes: object) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_S)
        self.commits.append(list(changes))  # type: ignore[call-overload]

    def close(self) -> None: ...


def test_a_batch_is_durable_when_its_end_is_reported(tmp_path: Path) -> None:
    environment, ends = Environment.open(tmp_path / "store"), Ends()
    writer = Writer(environment, ends)
    writer.submit(1, (EpochRecord("a", 1), EpochRecord("b", 1)))
    assert ends.all(1) == [Done(1, None)]
    assert environment.read().epochs.keys() == {"a", "b"}
    assert writer.close(WAIT_S)
    environment.close()


def test_what_waits_goes_into_one_commit() -> None:
    gate, ends = Gate(), Ends()
    writer = Writer(gate, ends)  # type: ignore[arg-type]
    writer.submit(0, (EpochRecord("a", 0),))
    assert gate.entered.wait(WAIT_S)
    for n in range(1, 100):
        writer.submit(n, (EpochRecord("a", n),))
    gate.open.set()
    assert [done.token for done in ends.all(100)] == list(range(100))
    assert [len(changes) for changes in gate.commits] == [1, 99]
    assert writer.close(WAIT_S)


def test_more_than_may_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.grouping, "WAITING_MAX", 3)
    gate, ends = Gate(), Ends()
    writer = Writer(gate, ends)  # type: ignore[arg-type]
    writer.submit(0, ())
    assert gate.entered.wait(WAIT_S)
    for n in range(1, 4):
        writer.submit(n, ())
    with pytest.raises(StoreBusy):
        writer.submit(4, ())
    gate.open.set()
    assert writer.close(WAIT_S)


def test_a_batch_that_cannot_be_kept_takes_no_other_with_it(tmp_path: Path) -> None:
    environment, ends = Environment.open(tmp_path / "store", map_max_bytes=1 << 16), Ends()
    gate = threading.Event()
    inner = environment.write

    def held(changes: object) -> None:
        assert gate.wait(WAIT_S)
        inner(changes)  # type: ignore[arg-type]

    environment.write = held  # type: ignore[method-assign,assignment]
    writer = Writer(environment, ends)
    large = tuple(CommandsRecord(str(n), "x" * 1000) for n in range(100))
    for token, changes in enumerate([(EpochRecord("a", 1),), large, (EpochRecord("b", 2),)]):
        writer.submit(token, changes)
    gate.set()
    errors = {done.token: type(done.error) for done in ends.all(3)}
    assert errors == {0: type(None), 1: StoreFull, 2: type(None)}
    assert environment.read().epochs.keys() == {"a", "b"}
    assert writer.close(WAIT_S)
    environment.close()


def test_a_bug_in_a_record_does_not_end_the_thread(tmp_path: Path) -> None:
    class Planted(Record, frozen=True):
        x: int

    environment, ends = Environment.open(tmp_path / "store"), Ends()
    writer = Writer(environment, ends)
    writer.submit(1, (Planted(1),))
    writer.submit(2, (EpochRecord("a", 1), Forget(EpochRecord, "z")))
    errors = {done.token: type(done.error) for done in ends.all(2)}
    assert errors == {1: StoreFailed, 2: type(None)}
    assert writer.close(WAIT_S)
    environment.close()


def test_close_keeps_what_waits_and_refuses_more(tmp_path: Path) -> None:
    environment, ends = Environment.open(tmp_path / "store"), Ends()
    writer = Writer(environment, ends)
    for n in range(500):
        writer.submit(n, (EpochRecord("a", n),))
    assert writer.close(WAIT_S)
    with pytest.raises(StoreClosed):
        writer.submit(500, ())
    assert environment.read().epochs["a"].epoch == 499
    environment.close()
