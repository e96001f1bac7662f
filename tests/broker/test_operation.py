"""Operations: claims, turns, steps, what is kept and told of them."""

from __future__ import annotations

import pytest

from broker.core.operation import KEPT_MAX, Book, Operation, OpState, Progress, Step
from broker.services.oprecords import kept, restored
from shard_node.wire.handover import Phase
from store.records import OperationRecord, read_record, value_of


def steps(*shards: int) -> list[Step]:
    return [Step(f"n{shard}", (shard,)) for shard in shards]


def running(count: int, **options: object) -> Operation:
    return Operation(1, "respawn", steps(*range(count)), state=OpState.RUNNING, **options)  # type: ignore[arg-type]


def test_a_second_operation_on_a_shard_is_refused_by_the_first_ones_name() -> None:
    book = Book()
    book.add("respawn", steps(2, 3), {}, 0)
    assert book.conflict([0, 1]) is None
    error = book.conflict([1, 3])
    assert error is not None
    assert error.code == "E_CONFLICT"
    assert error.message == "shard 3 is being respawned by op-1"
    assert error.hint == "wait for it: shardctl wait op-1, or: --queue"
    assert error.details == {"op": "op-1"}


def test_those_that_wait_begin_in_order_and_none_passes_one_it_conflicts_with() -> None:
    book = Book()
    first, second, third, fourth = (
        book.add("respawn", steps(*shards), {}, 0) for shards in ((0, 1), (1, 2), (2,), (5,))
    )
    assert book.begin() == [first, fourth]
    assert book.begin() == []
    for step in first.steps:
        first.ended(step, OpState.DONE)
    assert book.begin() == [second]
    assert third.state is OpState.WAITING
    for step in second.steps:
        second.ended(step, OpState.FAILED, "no")
    assert book.begin() == [third]


@pytest.mark.parametrize("most", [1, 2, 5])
def test_so_many_steps_run_at_a_time(most: int) -> None:
    operation = running(4, max_unavailable=most)
    ran = []
    while not operation.over:
        for step in operation.due_steps():
            step.state = OpState.RUNNING
        now = [step for step in operation.steps if step.state is OpState.RUNNING]
        assert len(now) <= most
        assert operation.due_steps() == []
        ran.append(now[0].node)
        operation.ended(now[0], OpState.DONE)
    assert ran == ["n0", "n1", "n2", "n3"]
    assert operation.state is OpState.DONE


@pytest.mark.parametrize("abort", [False, True])
def test_a_step_that_fails(abort: bool) -> None:
    operation = running(3, abort_on_fail=abort)
    operation.ended(operation.steps[0], OpState.REVERTED, "it ended")
    assert operation.over is abort
    for step in operation.due_steps():
        operation.ended(step, OpState.DONE)
    for step in operation.due_steps():
        operation.ended(step, OpState.DONE)
    states = [step.state.value for step in operation.steps]
    assert states == ["reverted", *(["cancelled"] * 2 if abort else ["done"] * 2)]
    assert operation.state is OpState.REVERTED
    assert operation.reason == "node n0: it ended"


def test_what_runs_is_not_dropped_with_what_waits() -> None:
    operation = running(2)
    operation.steps[0].state = OpState.RUNNING
    operation.drop_waiting("cancelled")
    assert not operation.over
    operation.ended(operation.steps[0], OpState.DONE)
    assert operation.state is OpState.CANCELLED


def test_an_operation_comes_back_from_its_record() -> None:
    operation = running(2, max_unavailable=3, abort_on_fail=True, args={"drain_voice_s": 2.0})
    operation.steps[1] = Step(
        "b", (2, 3), OpState.RUNNING, 5, 6, "c", 9, "why", flipped=True, undone=True
    )
    operation.steps[0].progress = {
        0: Progress(Phase.ARMED, 27.5, identified=True),
        1: Progress(Phase.ARMED),
    }
    record = kept(operation, "boot")
    read = read_record(b"operation/op-1", value_of(record))
    assert isinstance(read, OperationRecord)
    again = restored(read)
    assert again == operation
    assert again.steps[0].progress == {0: Progress(gap_ms=27.5, identified=True)}


def test_a_new_broker_counts_on_and_keeps_the_claims() -> None:
    book = Book([restored(kept(running(2), "boot"))])
    assert book.conflict([1]) is not None
    assert book.add("move", steps(7), {}, 0).id == "op-2"


def test_the_last_ones_that_ended_are_kept() -> None:
    book = Book()
    waits = book.add("respawn", steps(0), {}, 0)
    for _ in range(KEPT_MAX + 3):
        operation = book.add("respawn", steps(1), {}, 0)
        operation.ended(operation.steps[0], OpState.DONE)
    assert book.drop_old() == ["op-2", "op-3", "op-4"]
    assert book.get("op-2") is None
    assert book.get(waits.id) is waits
    assert len(list(book)) == KEPT_MAX + 1


def test_what_is_told_of_one() -> None:
    told = running(1).plain()
    assert told["op"] == "op-1"
    (step,) = told["steps"]
    assert step == {
        "node": "n0",
        "target": "n0",
        "shards": [0],
        "state": "waiting",
        "reason": "",
        "old_epoch": 0,
        "new_epoch": 0,
        "voice": 0,
        "tail": [],
        "progress": [{"shard": 0, "phase": "", "gap_ms": -1.0, "identified": False}],
    }


def test_a_node_takes_part_in_one_operation_at_a_time() -> None:
    book = Book()
    book.add("move", [Step("a", (1,), target="c")], {}, 0)
    error = book.conflict([5], ["c"])
    assert error is not None
    assert error.message == "node c is in use by op-1"
    second = book.add("respawn", [Step("c", (5,))], {}, 0)
    assert [operation.id for operation in book.begin()] == ["op-1"]
    assert second.state is OpState.WAITING


def test_what_waits_is_looked_at_anew_when_its_turn_comes() -> None:
    book = Book()
    first = book.add("move", [Step("a", (1,), target="b")], {}, 0)
    second = book.add("respawn", [Step("b", (2,))], {}, 0)
    third = book.add("move", [Step("a", (1,), target="c")], {}, 0)

    def renew(operation: Operation) -> None:
        if first.over and operation is second:
            operation.steps[0].shards = (1, 2)

    assert book.begin(renew) == [first]
    first.ended(first.steps[0], OpState.DONE)
    assert book.begin(renew) == [second]
    assert third.state is OpState.WAITING


def test_what_is_not_durable_does_not_begin() -> None:
    book = Book()
    operation = book.add("respawn", steps(1), {}, 0)
    operation.held = True
    assert book.begin() == []
    operation.held = False
    assert book.begin() == [operation]
