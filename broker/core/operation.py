"""Operations: what takes long, has an id, and claims shards while it runs.

Two of them never touch the same shard at a time: the second is refused by the name of the
first, or waits behind it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from shard_node.wire.bodies import ErrorBody

KEPT_MAX: Final = 64
"""Operations that have ended, of which anybody may still ask."""
DOING: Final = {
    "respawn": "is being respawned",
    "move": "is being moved",
    "reconnect": "is being reconnected",
    "return": "is going back",
    "adopt": "is being taken over",
}
"""What each kind does to its shards, for people."""


class OpState(enum.StrEnum):
    """States of an operation, and of each of its steps."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REVERTED = "reverted"
    CANCELLED = "cancelled"


_ENDED: Final = frozenset({OpState.DONE, OpState.FAILED, OpState.REVERTED, OpState.CANCELLED})


@dataclass(slots=True)
class Step:
    """One process's part. ``flipped``: the shards are the target's by the records; ``undone``:
    it was cancelled and goes back, which a new broker has to know."""

    node: str
    shards: tuple[int, ...]
    state: OpState = OpState.WAITING
    old_epoch: int = 0
    new_epoch: int = 0
    target: str = ""
    target_epoch: int = 0
    reason: str = ""
    flipped: bool = False
    undone: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _ENDED


@dataclass(slots=True)
class Operation:
    """``max_unavailable`` steps run at a time, in their order; with ``abort_on_fail`` those
    that wait are cancelled when one did not succeed."""

    number: int
    kind: str
    steps: list[Step]
    args: dict[str, Any] = field(default_factory=dict)
    state: OpState = OpState.WAITING
    started_ms: int = 0
    reason: str = ""
    max_unavailable: int = 1
    abort_on_fail: bool = False

    @property
    def id(self) -> str:
        """As people type it."""
        return f"op-{self.number}"

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _ENDED

    def claims(self) -> frozenset[int]:
        """The shards that nobody else may touch."""
        if self.over:
            return frozenset()
        return frozenset(shard for step in self.steps for shard in step.shards)

    def due_steps(self) -> list[Step]:
        """The steps to be begun now."""
        if self.state is not OpState.RUNNING:
            return []
        running = sum(step.state is OpState.RUNNING for step in self.steps)
        waiting = [step for step in self.steps if step.state is OpState.WAITING]
        return waiting[: max(0, self.max_unavailable - running)]

    def ended(self, step: Step, state: OpState, reason: str = "") -> None:
        """A step is over; so is the operation after its last one."""
        step.state, step.reason = state, reason
        if state in (OpState.FAILED, OpState.REVERTED):
            self.reason = self.reason or f"node {step.node}: {reason}"
            if self.abort_on_fail:
                self.drop_waiting(f"after node {step.node} failed")
        self._look()

    def drop_waiting(self, reason: str) -> None:
        """What has not begun will not begin."""
        for step in self.steps:
            if step.state is OpState.WAITING:
                step.state, step.reason = OpState.CANCELLED, reason
        self._look()

    def _look(self) -> None:
        if not all(step.over for step in self.steps):
            return
        found = {step.state for step in self.steps}
        for worst in (OpState.FAILED, OpState.REVERTED, OpState.CANCELLED):
            if worst in found:
                self.state = worst
                return
        self.state = OpState.DONE

    def plain(self) -> dict[str, Any]:
        """As `operations --json` has it."""
        return {
            "op": self.id,
            "kind": self.kind,
            "state": self.state.value,
            "reason": self.reason,
            "started_ms": self.started_ms,
            "steps": [
                {
                    "node": step.node,
                    "target": step.target or step.node,
                    "shards": list(step.shards),
                    "state": step.state.value,
                    "reason": step.reason,
                }
                for step in self.steps
            ],
        }


class Book:
    """All operations, oldest first. Those that wait begin in their order, each as soon as no
    older one has a claim on a shard of its own."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        ordered = sorted(operations, key=lambda operation: operation.number)
        self._operations = {operation.id: operation for operation in ordered}
        self._next = max((operation.number for operation in ordered), default=0) + 1

    def __iter__(self) -> Iterator[Operation]:
        return iter(list(self._operations.values()))

    def get(self, op: str) -> Operation | None:
        """One by its id."""
        return self._operations.get(op)

    def conflict(self, shards: Iterable[int]) -> ErrorBody | None:
        """Why an operation on these shards would have to wait."""
        wanted = frozenset(shards)
        for operation in self._operations.values():
            both = sorted(operation.claims() & wanted)
            if both:
                doing = DOING.get(operation.kind, "is in use")
                text = f"shard {both[0]} {doing} by {operation.id}"
                hint = f"wait for it: shardctl wait {operation.id}"
                return ErrorBody("E_CONFLICT", text, hint, True, {"op": operation.id})
        return None

    def add(self, kind: str, steps: list[Step], args: dict[str, Any], started_ms: int) -> Operation:
        """A new one, which waits."""
        operation = Operation(self._next, kind, steps, args, started_ms=started_ms)
        self._next += 1
        self._operations[operation.id] = operation
        return operation

    def begin(self) -> list[Operation]:
        """Those whose turn it is run from now on."""
        claimed: set[int] = set()
        begun = []
        for operation in self._operations.values():
            if operation.state is OpState.WAITING and not operation.claims() & claimed:
                operation.state = OpState.RUNNING
                begun.append(operation)
            claimed |= operation.claims()
        return begun

    def drop_old(self) -> list[str]:
        """Only the last ones that have ended are kept: the ids of those that are not."""
        ended = [operation.id for operation in self._operations.values() if operation.over]
        old = ended[: max(0, len(ended) - KEPT_MAX)]
        for op in old:
            del self._operations[op]
        return old
