"""More nodes, which take shards over, or fewer: the last ones give theirs up and end.

A scale is an operation of three kinds of steps: a node starts, a shard moves, a node ends. The
plan is durable with each node that comes into it, each shard that changes hands and each
node that leaves it, so whatever dies in between, the plan is one that was meant. Where a step
does not succeed, new nodes that have no shard by then end again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from broker.core.effects import Effects, Emit, Keep, Log, Refuse, Reply
from broker.core.events import Exited, SpawnWanted, StepFlipped
from broker.core.fleet import Fleet, Node
from broker.core.inflight import Ref
from broker.core.last_words import how_ended
from broker.core.operation import Operation, OpState, Step
from broker.core.opevents import OperationWanted
from broker.core.processes import ask_stop
from broker.core.states import ALIVE, DOWN, NodeState
from broker.services.moving import Moving
from broker.services.oprecords import kept
from broker.services.plans import plan_after
from broker.services.scaleplans import are, change_to, some
from broker.services.transfers import Transfers
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.operations import OpReply, ScaleRequest
from store.records import Durable, EpochRecord, PlanNode

SCALE: Final = "scale"
LINGERS_S: Final = 2.5
"""Within this a process has said whether something waits in it, for users of shards that it had."""


@dataclass(slots=True)
class Turn:
    """A step under way in which a node starts or ends. ``asked``: the plan with it (or without)
    is under way to the store."""

    operation: Operation
    step: Step
    due_at: float
    asked: bool = False

    @property
    def ends(self) -> bool:
        """Whether its node ends, be it that it was started for nothing."""
        return self.step.undone or self.step.node in self.operation.args["end"]


class Scaling:
    """Plans scales, and runs those of their steps that are no moves."""

    def __init__(
        self, fleet: Fleet, durable: Durable, transfers: Transfers, moving: Moving
    ) -> None:
        self._fleet = fleet
        self._epochs = dict(durable.epochs)
        self._transfers = transfers
        self._moving = moving
        self._turns: list[Turn] = []
        self._left: dict[str, float] = {}
        """When nodes that may still live came out of the plan."""
        self._latest: tuple[object, ...] = ()
        self._seen: dict[str, tuple[object, ...]] = {}
        """By operation that waits, the nodes for which it was planned."""

    @property
    def busy(self) -> bool:
        """Whether nodes that start or end are to be looked at."""
        return bool(self._turns) or any(node.retired for node in self._fleet.nodes.values())

    # --- the plan

    def asked(self, ref: Ref, body: ScaleRequest) -> Effects:
        """An operator wants so many nodes."""
        change = change_to(self._fleet, body.nodes)
        if isinstance(change, ErrorBody):
            return [Refuse(ref, change)]
        reply, steps = OpReply("", change.plain()), tuple(change.steps())
        if body.dry_run or not steps:
            return [Reply(ref, reply)]
        args, self._latest = change.args(body.nodes), self._shape_of_fleet()
        wanted = OperationWanted(
            SCALE, steps, args, ref, reply, queue=body.queue, abort_on_fail=True
        )
        return [Emit(wanted)]

    def renew(self, operation: Operation) -> None:
        """Plans anew, in a fleet that others may have changed while it waited."""
        fleet = self._shape_of_fleet()
        if self._seen.setdefault(operation.id, self._latest) == fleet:
            return
        self._seen[operation.id] = fleet
        change = change_to(self._fleet, int(operation.args["nodes"]))
        if isinstance(change, ErrorBody):
            if not change.retryable:
                operation.drop_waiting(change.message)
                operation.reason = change.message
            return
        operation.steps = change.steps()
        operation.args |= change.args(operation.args["nodes"])
        if not operation.steps:
            operation.state = OpState.DONE

    def _shape_of_fleet(self) -> tuple[object, ...]:
        return tuple((node.name, node.shards) for node in self._fleet.nodes.values())

    # --- steps

    def begin(self, operation: Operation, step: Step, now: float) -> Effects:
        """A step's turn has come."""
        if step.shards:
            return self._moving.begin(operation, step, now)
        due_at = now + self._fleet.settings.lifecycle.ready_max_s
        self._turns.append(Turn(operation, step, due_at))
        return self.look(now)

    def resume(self, operation: Operation, step: Step, now: float) -> Effects:
        """Goes on with a step that runs, as its record says."""
        if not step.shards:
            return self.begin(operation, step, now)
        return self._moving.resume(operation, step, now)

    def cancel(self, operation: Operation, step: Step, reason: str) -> Effects | None:
        """Takes back what can be; None where it cannot."""
        if step.shards:
            return self._moving.cancel(operation, step, reason)
        for turn in self._turns:
            if turn.step is step and not turn.ends and not turn.asked:
                self._over(turn, OpState.CANCELLED, reason)
                return []
        return None

    def forget(self) -> None:
        """The fleet stops."""
        self._turns.clear()

    def undone(self, operation: Operation) -> list[Step]:
        """When all steps are over: those by which nodes that are of no use end."""
        self._seen.pop(operation.id, None)
        names = [*operation.args["start"], *operation.args["end"]]
        nodes = [node for name in names if (node := self._fleet.nodes.get(name)) is not None]
        idle = [node.name for node in nodes if not node.shards and not node.retired]
        return [Step(name, (), undone=True) for name in reversed(idle)]

    def look(self, now: float) -> Effects:
        """Looks at the nodes that start and end, and forgets those that have ended."""
        effects: Effects = []
        for turn in list(self._turns):
            effects += self._look(turn, now)
        for node in list(self._fleet.nodes.values()):
            if node.retired:
                effects += self._end(node, now)
        return effects

    def exited(self, event: Exited) -> None:
        """A new node whose process ends before it was ready is none."""
        for turn in list(self._turns):
            node = self._fleet.current(event.name, event.epoch)
            if node is None or node.retired or turn.ends:
                continue
            if turn.step.node == node.name:
                turn.step.tail = event.tail
                text = f"{event.name}#{event.epoch} {how_ended(event)} before it was ready"
                self._over(turn, OpState.FAILED, text)

    def flipped(self, event: StepFlipped, now: float) -> Effects:
        """The plan is durable with what a step brings, or takes away; or it is not."""
        for turn in self._turns:
            operation = turn.operation
            if (operation.id, operation.steps.index(turn.step)) != (event.op, event.step):
                continue
            turn.asked = self._transfers.reshaping = False
            if event.error:
                return []
            turn.step.flipped = True
            return self._leave(turn, now) if turn.ends else self._enter(turn)
        return []

    def _look(self, turn: Turn, now: float) -> Effects:
        node = self._fleet.nodes.get(turn.step.node)
        if turn.ends:
            return self._look_at_end(turn, node, now)
        if node is not None and node.retired and node.state is not NodeState.GONE:
            self._left.pop(node.name, None)  # its name is wanted: it lingers no longer
            return self._end(node, now)
        if node is None or node.retired:
            return self._shape(turn)
        if node.state is NodeState.UP and node.reported:
            self._over(turn, OpState.DONE, "")
        elif node.state in DOWN:
            turn.step.tail = node.tail
            self._over(turn, OpState.FAILED, node.reason)
        elif now >= turn.due_at:
            limit_s = self._fleet.settings.lifecycle.ready_max_s
            reason = f"not ready within {limit_s:g} s; it is {node.state.value}"
            self._over(turn, OpState.FAILED, reason)
        return []

    def _look_at_end(self, turn: Turn, node: Node | None, now: float) -> Effects:
        if node is None or (node.retired and node.state is NodeState.GONE):
            self._over(turn, OpState.DONE, "")
        elif node.retired and node.lingers and self._may_linger(node, now, LINGERS_S):
            linger_s = self._fleet.settings.lifecycle.linger_s
            reason = f"{node.lingers} views, modals or handlers wait in it, {linger_s:g} s at most"
            self._over(turn, OpState.DONE, reason)
        elif node.shards:
            reason = f"{some(node.shards)} {are(node.shards)} still on it"
            self._over(turn, OpState.FAILED, reason)
        elif not node.retired:
            return self._shape(turn)
        return []

    def _shape(self, turn: Turn) -> Effects:
        """Makes the plan durable as the step wants it, once no other is under way."""
        if turn.asked or self._transfers.plan_asked:
            return []
        turn.asked = self._transfers.reshaping = True
        operation, step = turn.operation, turn.step
        if turn.ends:
            plan = plan_after(self._fleet, without=step.node)
        else:
            plan = plan_after(self._fleet, more=self._coming(operation))
        at = operation.steps.index(step)
        steps = [*operation.steps[:at], replace(step, flipped=True), *operation.steps[at + 1 :]]
        record = kept(replace(operation, steps=steps), self._fleet.settings.boot_id)
        return [Keep((plan, record), StepFlipped(operation.id, at))]

    def _coming(self, operation: Operation) -> list[PlanNode]:
        """All that the operation starts, at once: they start side by side."""
        known = self._fleet.nodes
        names = operation.args["start"]
        coming = [name for name in names if name not in known or known[name].retired]
        stays = [node.place for node in known.values() if not node.retired]
        first = max(stays, default=-1) + 1
        return [PlanNode(name, first + at, ()) for at, name in enumerate(coming)]

    def _enter(self, turn: Turn) -> Effects:
        """The plan has the new nodes: their processes start."""
        effects: Effects = []
        for planned in self._coming(turn.operation):
            old = self._fleet.nodes.get(planned.name)
            if old is not None:
                self._remember(old)
            known = self._epochs.get(planned.name, EpochRecord(planned.name, 0))
            node = self._fleet.add(planned.name, planned.index, ())
            node.last_epoch = known.epoch
            effects.append(Emit(SpawnWanted(node.name, again=False)))
        return effects

    def _leave(self, turn: Turn, now: float) -> Effects:
        """The plan is without the node: its process ends."""
        node = self._fleet.nodes[turn.step.node]
        node.retired = True
        self._left[node.name] = now
        text = f"node {node.name} is no longer in the plan"
        return [Log("INFO", text), *self._end(node, now)]

    def _end(self, node: Node, now: float) -> Effects:
        """Brings a node that is not in the plan to its end, from whatever state."""
        if node.state is NodeState.GONE:
            if not self._fleet.beside(node.name):
                self._left.pop(node.name, None)
                self._remember(node)
                self._fleet.drop(node.name)
        elif node.state not in ALIVE | {NodeState.STORING}:
            node.move(NodeState.GONE)
        elif node.state in (NodeState.STORING, NodeState.STOPPING):
            pass
        elif not self._may_linger(node, now):
            return ask_stop(self._fleet, node, SCALE, now)
        return []

    def _may_linger(self, node: Node, now: float, since_s: float = 0.0) -> bool:
        """Whether a node's process goes on without a shard, for what waits in it, or because it
        is not known yet whether something does. ``since_s``: it has done so for so long."""
        passed_s = now - self._left.get(node.name, -math.inf)
        linger_s = self._fleet.settings.lifecycle.linger_s
        if node.state is not NodeState.UP or not since_s <= passed_s < linger_s:
            return False
        return passed_s < LINGERS_S or node.lingers > 0

    def _remember(self, node: Node) -> None:
        self._epochs[node.name] = EpochRecord(node.name, node.last_epoch, node.restarts)

    def _over(self, turn: Turn, state: OpState, reason: str) -> None:
        self._turns.remove(turn)
        self._transfers.ended.append((turn.operation, turn.step, state, reason))
