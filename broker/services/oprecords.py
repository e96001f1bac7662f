"""Operations as the store keeps them, and as they are shown."""

from __future__ import annotations

import math
from typing import Any, Final

from broker.core.events import Exited
from broker.core.operation import Book, Operation, OpState, Progress, Step
from shard_node.wire.bodies import ErrorBody
from store.records import OperationRecord, StepRecord

SHOWN_MAX: Final = 16
"""Operations that are named where one is not known."""
PAGE: Final = 16
"""Operations in one answer of `op.list`."""


def shown(operation: Operation) -> dict[str, Any]:
    """As `op.show` answers."""
    tails = [step.tail for step in operation.steps if step.tail]
    return operation.plain() | {
        "tail": list(tails[-1]) if tails else [],
        "voice": sum(step.voice for step in operation.steps),
        "args": operation.args,
    }


def unknown_operation(book: Book, op: str) -> ErrorBody:
    """No operation has this id."""
    exists = [one.id for one in book][-SHOWN_MAX:]
    text = f"no operation {op[:64]!r}"
    return ErrorBody("E_NOT_FOUND", text, "run: shardctl operations", details={"exists": exists})


def page_of(book: Book, page: int) -> dict[str, Any]:
    """As `op.list` answers: latest first."""
    latest = list(book)[::-1]
    pages = max(1, math.ceil(len(latest) / PAGE))
    at = min(max(0, page), pages - 1) * PAGE
    found = [shown(operation) for operation in latest[at : at + PAGE]]
    return {"operations": found, "page": at // PAGE, "pages": pages}


def late_words(book: Book, event: Exited) -> None:
    """A successor that was ended for its failure ends after its step did."""
    for operation in book:
        for step in operation.steps:
            mine = (step.node, step.new_epoch) == (event.name, event.epoch)
            if mine and step.over and step.state is not OpState.DONE and not step.tail:
                step.tail = event.tail


def kept(operation: Operation, boot_id: str) -> OperationRecord:
    """As it is kept."""
    steps = tuple(
        StepRecord(
            step.node,
            step.shards,
            step.state.value,
            step.old_epoch,
            step.new_epoch,
            step.target,
            step.target_epoch,
            step.reason,
            step.flipped,
            step.undone,
            _told(step),
        )
        for step in operation.steps
    )
    args = operation.args | {
        "max_unavailable": operation.max_unavailable,
        "abort_on_fail": operation.abort_on_fail,
    }
    return OperationRecord(
        operation.id,
        operation.kind,
        operation.state.value,
        args,
        steps,
        operation.number,
        operation.started_ms,
        boot_id,
        operation.reason,
    )


def _told(step: Step) -> tuple[tuple[int, float, bool], ...]:
    return tuple(
        (shard, one.gap_ms, one.identified)
        for shard, one in step.progress.items()
        if one.gap_ms >= 0 or one.identified
    )


def restored(record: OperationRecord) -> Operation:
    """As it was kept."""
    args = dict(record.args)
    most, abort = int(args.pop("max_unavailable", 1)), bool(args.pop("abort_on_fail", False))
    steps = [
        Step(
            step.node,
            step.shards,
            OpState(step.state),
            step.old_epoch,
            step.new_epoch,
            step.target,
            step.target_epoch,
            step.reason,
            step.flipped,
            step.undone,
            {shard: Progress(gap_ms=gap, identified=again) for shard, gap, again in step.told},
        )
        for step in record.steps
    ]
    return Operation(
        record.number,
        record.kind,
        steps,
        args,
        OpState(record.state),
        record.started_ms,
        record.reason,
        most,
        abort,
    )
