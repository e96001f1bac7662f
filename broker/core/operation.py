"""Operations: what takes long, has an id, and claims shards while it runs.

Two of them never touch the same shard at a time: the second is refused by the name of the
first, or waits behind it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from shard_node.wire.bodies import ErrorBody
from shard_node.wire.handover import Phase

OPEN_MAX: Final = 64
"""Operations that run or wait at a time."""
KEPT_MAX: Final = 64
"""Operations that have ended, of which anybody may still ask."""
DOING: Final = {
    "respawn": "is being respawned",
    "move": "is being moved",
    "balance": "is being moved",
    "scale": "is being moved",
    "return": "is going back",
    "adopt": "is being taken over",
}
"""What each kind does to its shards, for people."""
WHOLE: Final = {
    "balance": "the fleet is being balanced",
    "scale": "the fleet is being scaled",
}
"""Kinds of which one at a time is enough: they look at all shards to decide."""
GUILD_KINDS: Final = frozenset({"migrate", "follow"})
"""Those of one guild, ``args["guild"]``: as asked, and because who has it is not there."""
ALL_NODES: Final = "*"


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
class Progress:
    """How far a shard is, as it was last said; see ShardMoved."""

    phase: Phase = Phase.NONE
    gap_ms: float = -1.0
    identified: bool = False


@dataclass(slots=True)
class Step:
    """One process's part. ``flipped``: the shards are the target's by the records; ``undone``:
    it was cancelled and goes back, which a new broker has to know. What is not kept: the phases
    in ``progress``, the last lines (``tail``) of a process that failed."""

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
    progress: dict[int, Progress] = field(default_factory=dict, compare=False)
    tail: tuple[str, ...] = field(default=(), compare=False)
    voice: int = field(default=0, compare=False)
    begins_by: float | None = field(default=None, compare=False)
    """Its turn has come; so long it waits for a process that has not reported yet."""

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _ENDED

    @property
    def gets(self) -> str:
        """The node that has the shards in the end."""
        return self.target or self.node

    def plain(self) -> dict[str, Any]:
        """As `operations --json` has it."""
        told = {shard: self.progress.get(shard, Progress()) for shard in self.shards}
        return {
            "node": self.node,
            "target": self.gets,
            "shards": list(self.shards),
            "state": self.state.value,
            "reason": self.reason,
            "old_epoch": self.old_epoch,
            "new_epoch": self.new_epoch,
            "voice": self.voice,
            "tail": list(self.tail),
            "progress": [
                {
                    "shard": shard,
                    "phase": one.phase.value,
                    "gap_ms": one.gap_ms,
                    "identified": one.identified,
                }
                for shard, one in told.items()
            ],
        }


@dataclass(slots=True)
class Operation:
    """``max_unavailable`` steps run at a time, in their order; with ``abort_on_fail`` those
    that wait are cancelled when one did not succeed. ``held``: it is not durable yet, and does
    not begin before it is."""

    number: int
    kind: str
    steps: list[Step]
    args: dict[str, Any] = field(default_factory=dict)
    state: OpState = OpState.WAITING
    started_ms: int = 0
    reason: str = ""
    max_unavailable: int = 1
    abort_on_fail: bool = False
    held: bool = field(default=False, compare=False)

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

    def nodes(self) -> frozenset[str]:
        """The nodes whose shards nobody else may change; of a guild's way that guild alone."""
        if self.over:
            return frozenset()
        if self.kind in GUILD_KINDS:
            return frozenset({guild_claim(int(self.args["guild"]))})
        names = {name for step in self.steps for name in (step.node, step.gets)}
        return frozenset(names | {ALL_NODES} if self.kind in WHOLE else names)

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
            self.reason = self.reason or f"{self.about(step)}: {reason}"
            if self.abort_on_fail:
                self.drop_waiting(f"after node {step.node} failed")
        self._look()

    def about(self, step: Step) -> str:
        """What a step is about, for people."""
        if self.kind in GUILD_KINDS:
            return guild_claim(int(self.args["guild"]))
        return f"node {step.node}"

    def go_on(self, more: list[Step]) -> None:
        """It is not over after all: these follow."""
        if more:
            self.steps += more
            self.state = OpState.RUNNING

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
                break
        else:
            self.state = OpState.DONE
        if self.state is OpState.CANCELLED:
            self.reason = self.reason or self.steps[-1].reason

    def plain(self) -> dict[str, Any]:
        """As `operations --json` has it."""
        return {
            "op": self.id,
            "kind": self.kind,
            "state": self.state.value,
            "reason": self.reason,
            "started_ms": self.started_ms,
            "steps": [step.plain() for step in self.steps],
        }


def guild_claim(guild: int) -> str:
    """What an operation of one guild has to itself; no node has such a name."""
    return f"guild {guild}"


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

    def conflict(self, shards: Iterable[int], nodes: Iterable[str] = ()) -> ErrorBody | None:
        """Why an operation on these shards and nodes would have to wait."""
        wanted, names = frozenset(shards), frozenset(nodes)
        for operation in self._operations.values():
            both = sorted(operation.claims() & wanted)
            common = sorted(operation.nodes() & names)
            if not both and not common:
                continue
            doing = DOING.get(operation.kind, "is in use")
            text = f"shard {both[0]} {doing}" if both else f"node {common[-1]} is in use"
            if operation.kind in GUILD_KINDS:
                text = f"{common[-1]} is being migrated"
            elif ALL_NODES in common:
                text = WHOLE[operation.kind]
            hint = f"wait for it: shardctl wait {operation.id}, or: --queue"
            return ErrorBody(
                "E_CONFLICT", f"{text} by {operation.id}", hint, True, {"op": operation.id}
            )
        return None

    def problem(self, wanted: Operation, *, queue: bool) -> ErrorBody | None:
        """Why an operation does not begin; with ``queue`` it may wait behind others."""
        if not wanted.steps:
            return ErrorBody("E_BAD_REQUEST", "there is nothing to be done")
        if queue:
            return self._full()
        return self.conflict(wanted.claims(), wanted.nodes())

    def _full(self) -> ErrorBody | None:
        open_ones = [operation for operation in self._operations.values() if not operation.over]
        if len(open_ones) < OPEN_MAX:
            return None
        first = open_ones[0].id
        text = f"{len(open_ones)} operations run or wait already, {OPEN_MAX} at most"
        hint = f"wait for the first: shardctl wait {first}, or: shardctl operations cancel OP"
        return ErrorBody("E_BUSY", text, hint, True, {"op": first})

    def add(self, kind: str, steps: list[Step], args: dict[str, Any], started_ms: int) -> Operation:
        """A new one, which waits."""
        operation = Operation(self._next, kind, steps, args, started_ms=started_ms)
        self._next += 1
        self._operations[operation.id] = operation
        return operation

    def drop(self, op: str) -> None:
        """One that never was: it could not be kept."""
        self._operations.pop(op, None)

    def begin(
        self, renew: Callable[[Operation], None] = lambda _operation: None
    ) -> list[Operation]:
        """Those whose turn it is run from now on. ``renew`` looks anew, before that, which shards
        and nodes they are about: those before may have changed it."""
        claimed: set[int | str] = set()
        begun = []
        for operation in self._operations.values():
            if operation.state is OpState.WAITING:
                renew(operation)
                claims = operation.claims() | operation.nodes()
                if not operation.held and not claims & claimed and not operation.over:
                    operation.state = OpState.RUNNING
                    begun.append(operation)
            claimed |= operation.claims() | operation.nodes()
        return begun

    def drop_old(self) -> list[str]:
        """Only the last ones that have ended are kept: the ids of those that are not."""
        ended = [operation.id for operation in self._operations.values() if operation.over]
        old = ended[: max(0, len(ended) - KEPT_MAX)]
        for op in old:
            del self._operations[op]
        return old
