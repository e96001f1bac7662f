"""More nodes, which take shards over, or fewer: the last ones give theirs up and end.

A scale is an operation of three kinds of steps: a node starts, a shard moves, a node ends. The
plan is durable with each node that comes into it, each shard that changes hands and each
node that leaves it, so whatever dies in between, the plan is one that was meant. Where a step
does not succeed, new nodes that have no shard by then end again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from broker.core.balance import Load, Move, balanced, emptied
from broker.core.effects import Effects, Emit, Keep, Log, Refuse, Reply
from broker.core.events import Exited, SpawnWanted, StepFlipped
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.inflight import Ref
from broker.core.last_words import how_ended
from broker.core.loads import loads_of, serving, told
from broker.core.operation import Operation, OpState, Step
from broker.core.opevents import OperationWanted
from broker.core.plan import node_name, ranges
from broker.core.processes import ask_stop
from broker.core.states import ALIVE, DOWN, NodeState
from broker.services.moving import Moving
from broker.services.oprecords import kept
from broker.services.plans import plan_after
from broker.services.transfers import Transfers
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.operations import OpReply, ScaleRequest
from store.records import Durable, EpochRecord, PlanNode

SCALE: Final = "scale"
MIB: Final = 1 << 20


class Change(NamedTuple):
    """What a scale comes to: nodes that start and end, in order of place, and who moves."""

    start: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    loads: tuple[Load, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As the reply has it."""
        moves = told(self.moves, self.loads)
        return {"start": list(self.start), "end": list(self.end), "moves": moves}

    def args(self, nodes: int) -> dict[str, Any]:
        """As the operation has it."""
        return {"nodes": nodes, "start": list(self.start), "end": list(self.end)}

    def steps(self) -> list[Step]:
        """In their order. Of nodes that end the last one is emptied first, and ends first."""
        steps = [Step(name, ()) for name in self.start]
        moves = [
            (move, Step(move.source, (move.shard,), target=move.target)) for move in self.moves
        ]
        steps += [step for move, step in moves if move.source not in self.end]
        for name in reversed(self.end):
            steps += [step for move, step in moves if move.source == name]
            steps.append(Step(name, ()))
        return steps


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
        change = self._change(body.nodes)
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
        change = self._change(int(operation.args["nodes"]))
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

    def _change(self, count: int) -> Change | ErrorBody:
        fleet = self._fleet
        if fleet.state is FleetState.STOPPING:
            return ErrorBody("E_STOPPING", "the fleet is stopping")
        if not fleet.num_shards:
            return ErrorBody("E_NOT_READY", "the fleet has no plan yet", "retry", True)
        if not 1 <= count <= fleet.num_shards:
            text = f"{fleet.num_shards} shards cannot be spread over {count} nodes"
            hint = f"from 1 to {fleet.num_shards}: a node has one shard at least"
            return ErrorBody("E_BAD_REQUEST", text, hint)
        nodes = [node for node in fleet.nodes.values() if not node.retired]
        nodes.sort(key=lambda node: node.place)
        if count < len(nodes):
            return self._fewer(nodes[:count], nodes[count:])
        if count > len(nodes):
            return self._more(nodes, count - len(nodes))
        return Change()

    def _more(self, nodes: list[Node], count: int) -> Change | ErrorBody:
        problem = self._too_large(nodes, count)
        if problem is not None:
            return problem
        first = max((node.place for node in nodes), default=-1) + 1
        new = tuple(node_name(place) for place in range(first, first + count))
        up = serving(self._fleet)
        loads = loads_of(up)
        names = [*(node.name for node in up), *new]
        moves: list[Move] = []
        # Where what was measured would leave a node without a shard, they count alike.
        for weighed in (loads, [Load(load.shard, load.node) for load in loads]):
            found = balanced(weighed, names, gain_min=0.0, step_min=0.0, moves_max=None)
            moves = [move for move in found if move.target in new]
            if {move.target for move in moves} == set(new):
                return Change(new, (), tuple(moves), tuple(loads))
        ready = f"{len(loads)} of {self._fleet.num_shards} shards are ready"
        text = f"{ready}, too few for {count} more nodes"
        return ErrorBody("E_NOT_READY", text, "retry when all are", True)

    def _fewer(self, stay: list[Node], end: list[Node]) -> Change | ErrorBody:
        up = serving(self._fleet)
        loads = loads_of(up)
        targets = [node.name for node in up if node in stay]
        ready = {load.shard for load in loads}
        for node in end:
            unready = tuple(shard for shard in node.shards if shard not in ready)
            if unready:
                conflict = self._fleet.conflict(unready[0])
                where = f"node {node.name}, which is {node.shown_state},"
                text = f"{_shards(unready)} of {where} {_are(unready)} not ready"
                hint = f"retry, or: shardctl respawn --node {node.name}"
                return conflict or ErrorBody("E_NOT_READY", text, hint, True)
        if not targets:
            return ErrorBody("E_NOT_READY", "no node that stays is up", "retry", True)
        names = tuple(node.name for node in end)
        return Change((), names, tuple(emptied(loads, names, targets)), tuple(loads))

    def _too_large(self, nodes: list[Node], count: int) -> ErrorBody | None:
        """Why memory does not do for more nodes, with figures: one needs about what one of the
        fleet's has on average."""
        available = self._fleet.settings.memory()
        known = [node.rss_bytes for node in nodes if node.rss_bytes]
        if available is None or not known:
            return None
        each = sum(known) // len(known)
        spare = self._fleet.settings.lifecycle.spare_bytes
        needed = count * each + spare
        if needed <= available:
            return None
        fits = max(0, (available - spare) // each)
        text = (
            f"{count} more {'node needs' if count == 1 else 'nodes need'} about "
            f"{needed // MIB} MiB, {max(0, available) // MIB} MiB are free"
        )
        hint = f"there is room for {fits} more" if fits else "there is room for none"
        details = {"needed": needed, "available": available, "fits": fits}
        return ErrorBody("E_MEMORY", text, hint, details=details)

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
            if node is not None and turn.step.node == node.name and not turn.ends:
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
            return self._look_at_end(turn, node)
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

    def _look_at_end(self, turn: Turn, node: Node | None) -> Effects:
        if node is None or (node.retired and node.state is NodeState.GONE):
            self._over(turn, OpState.DONE, "")
        elif node.shards:
            reason = f"{_shards(node.shards)} {_are(node.shards)} still on it"
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
        text = f"node {node.name} is no longer in the plan"
        return [Log("INFO", text), *self._end(node, now)]

    def _end(self, node: Node, now: float) -> Effects:
        """Brings a node that is not in the plan to its end, from whatever state."""
        if node.state is NodeState.GONE:
            if not self._fleet.beside(node.name):
                self._remember(node)
                self._fleet.drop(node.name)
        elif node.state not in ALIVE | {NodeState.STORING}:
            node.move(NodeState.GONE)
        elif node.state not in (NodeState.STORING, NodeState.STOPPING):
            return ask_stop(self._fleet, node, SCALE, now)
        return []

    def _remember(self, node: Node) -> None:
        self._epochs[node.name] = EpochRecord(node.name, node.last_epoch, node.restarts)

    def _over(self, turn: Turn, state: OpState, reason: str) -> None:
        self._turns.remove(turn)
        self._transfers.ended.append((turn.operation, turn.step, state, reason))


def _shards(shards: tuple[int, ...]) -> str:
    return f"shard{'s' * (len(shards) > 1)} {ranges(shards)}"


def _are(shards: tuple[int, ...]) -> str:
    return "is" if len(shards) == 1 else "are"
