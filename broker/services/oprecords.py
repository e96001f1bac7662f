"""Operations as the store keeps them."""

from __future__ import annotations

from broker.core.operation import Operation, OpState, Step
from store.records import OperationRecord, StepRecord


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
