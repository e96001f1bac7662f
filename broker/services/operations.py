"""Operations: begun, taken in turns, kept at each transition, shown, cancelled, gone on with by
a new broker.

What a step does is its kind's matter: respawns, or moving. Both say in ``ended`` how a step went.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broker.core.effects import Effects, Emit, Keep, Log, Refuse, Reply
from broker.core.events import (
    Asked,
    Event,
    Exited,
    NodeGone,
    NodeRegistered,
    OperationStored,
    StepFlipped,
    SuccessorSpawned,
    SupervisorHello,
    Tick,
)
from broker.core.fleet import Fleet, FleetState
from broker.core.inflight import Ref
from broker.core.operation import GUILD_KINDS, Book, Operation, OpState, Step
from broker.core.opevents import GuildSaid, OperationEnded, OperationWanted, ShardSaid
from broker.core.procs import Role
from broker.core.states import NodeState
from broker.services.oprecords import (
    kept,
    late_words,
    page_of,
    restored,
    shown,
    unknown_operation,
)
from broker.services.scaling import SCALE
from broker.services.transfers import LOOK_S, log_end
from broker.services.works import RESPAWN, Works
from shard_node.wire.bodies import Body, ErrorBody, RespawnReply, RespawnRequest
from shard_node.wire.handover import ShardMoved
from shard_node.wire.migration import MigrateRequest
from shard_node.wire.operations import (
    MoveRequest,
    OpReply,
    OpRequest,
    OpsRequest,
    ScaleRequest,
)
from store.records import Durable, Forget, OperationRecord

INTERRUPTED: Final = "interrupted: the fleet was stopped meanwhile"
FLEET_STOPS: Final = "the fleet stops"


class Operations:
    """The book of operations, and everybody who works on their steps."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._book = Book(map(restored, durable.operations.values()))
        self._works = works = Works(fleet, durable)
        self._transfers, self._ended = works.transfers, works.transfers.ended
        fleet.conflict = lambda shard, *nodes: self._book.conflict([shard], nodes)
        self._boots = {record.id: record.boot_id for record in durable.operations.values()}
        self._pending: dict[str, tuple[Ref | None, Body]] = {}
        """Replies that wait until their operation is durable."""
        self._open = {operation.id for operation in self._book if not operation.over}
        """Those of whose end nobody was told."""
        self._unkept: set[str] = set()
        """Those whose last transition the store would not have; tried again at each look."""
        self._looked_at = fleet.started_at
        self._greeted = False

    def on(self, event: Event, now: float) -> Effects:
        if self._fleet.state is FleetState.STOPPING:
            effects = self._stop(event)
        else:
            effects = self._on(event, now)
            effects += self._settle(now)
        return effects

    def next_deadline(self) -> float | None:
        """When somebody is to be looked at."""
        if self._fleet.state is FleetState.STOPPING:
            return None
        times = self._works.deadlines()
        if self._works.busy:
            times.append(self._looked_at + LOOK_S)
        known = [time for time in times if time is not None]
        # What is due already and waits for something else is not looked at without end.
        return max(min(known), self._looked_at + LOOK_S / 10) if known else None

    def _on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=body):
                return self._asked(ref, body, now)
            case OperationWanted():
                return self._wanted(event, now)
            case OperationStored():
                return self._stored(event)
            case StepFlipped():
                return self._works.flipped(event, now)
            case GuildSaid():
                return self._works.migrating.look(now)
            case SuccessorSpawned():
                return self._works.respawns.spawned(event, now)
            case SupervisorHello():
                return self._restore(event, now)
            case Exited():
                self._works.exited(event)
                late_words(self._book, event)
            case NodeGone() | NodeRegistered() | Tick():
                return self._look(now)
        return []

    def _look(self, now: float) -> Effects:
        self._looked_at = now
        return self._works.look(now)

    # --- requests

    def _asked(self, ref: Ref, body: Any, now: float) -> Effects:
        match body:
            case ShardMoved():
                who = (ref.peer.name, ref.peer.epoch)
                if body.num_shards != self._fleet.num_shards:
                    self._fleet.reject("shard")
                    return []
                proc = self._fleet.procs.get(who)
                if not body.op and proc is not None and proc.role is Role.SUCCESSOR:
                    # It has not been told yet what it was started for.
                    body = msgspec.structs.replace(body, op=proc.op)
                if self._book.get(body.op) is None:
                    return [Emit(ShardSaid(*who, body))]
                return self._transfers.moved(who, body, now)
            case RespawnRequest():
                return self._works.respawns.asked(ref, body, now)
            case MoveRequest():
                return self._works.moving.asked(ref, body)
            case MigrateRequest():
                return self._works.migrating.asked(ref, body)
            case ScaleRequest():
                return self._works.scaling.asked(ref, body)
            case OpsRequest(page=page):
                return [Reply(ref, page_of(self._book, page))]
        return self._about(ref, body, ref.topic, now)

    def _about(self, ref: Ref, body: OpRequest, topic: str, now: float) -> Effects:
        operation = self._book.get(body.op)
        if operation is None:
            return [Refuse(ref, unknown_operation(self._book, body.op))]
        if topic == "op.cancel":
            return self._cancel(ref, operation, now)
        return [Reply(ref, shown(operation))]

    # --- begin

    def _wanted(self, event: OperationWanted, now: float) -> Effects:
        steps = [_own(step) for step in event.steps]
        args = dict(event.args)
        problem = self._book.problem(Operation(0, event.kind, steps, args), queue=event.queue)
        if problem is not None:
            return self._refuse(event.ref, event.kind, event.args, problem)
        started_ms = self._fleet.shared.clock.at_ms(now)
        operation = self._book.add(event.kind, steps, args, started_ms)
        operation.max_unavailable = max(1, event.max_unavailable)
        operation.abort_on_fail = event.abort_on_fail
        operation.held = True
        self._open.add(operation.id)
        self._pending[operation.id] = (event.ref, event.reply or OpReply(""))
        return [self._keep(operation)]

    def _refuse(
        self, ref: Ref | None, kind: str, args: dict[str, Any], error: ErrorBody
    ) -> Effects:
        if ref is not None:
            return [Refuse(ref, error)]
        ended = OperationEnded("", kind, "refused", error.message, args)
        return [Log("INFO", f"{kind} does not begin: {error.message}"), Emit(ended)]

    def _keep(self, operation: Operation) -> Keep:
        record = kept(operation, self._fleet.settings.boot_id)
        return Keep((record,), OperationStored(operation.id))

    def _stored(self, event: OperationStored) -> Effects:
        """Only what is durable begins, and is promised."""
        pending = self._pending.pop(event.op, None)
        operation = self._book.get(event.op)
        if operation is None:
            return []
        if pending is None:
            if event.error:
                self._unkept.add(event.op)
            return []
        ref, reply = pending
        if event.error:
            self._book.drop(event.op)
            self._open.discard(event.op)
            error = ErrorBody("E_STORE", event.error, "retry", retryable=True)
            return self._refuse(ref, operation.kind, operation.args, error)
        operation.held = False
        if isinstance(reply, RespawnReply | OpReply):
            reply = msgspec.structs.replace(reply, op=operation.id)
        return [Reply(ref, reply)] if ref is not None else []

    def _settle(self, now: float) -> Effects:
        """Steps that have ended are booked, and those begin whose turn it is, until nothing
        more follows. A new broker knows no process before its supervisor has named them."""
        if not self._greeted:
            return []
        effects: Effects = []
        changed: dict[str, Operation] = {}
        if self._looked_at == now:
            changed = {one.id: one for one in self._book if one.id in self._unkept}
            self._unkept.clear()
        while True:
            ended = list(self._ended)
            self._ended.clear()
            for operation, step, state, reason in ended:
                effects += self._book_end(operation, step, state, reason)
                changed[operation.id] = operation
            for operation in self._book.begin(self._renew):
                changed[operation.id] = operation
            begun = self._begin_steps(changed, now)
            effects += begun
            if not ended and not self._ended:
                break
        closed = self._close(changed)
        keeps = [self._keep(operation) for operation in changed.values()]
        # What follows from a step's begin is in the store after the step itself.
        return [*keeps, *effects, *closed]

    def _book_end(self, operation: Operation, step: Step, state: OpState, reason: str) -> Effects:
        if step.over:
            return []
        operation.ended(step, state, reason)
        if operation.over and operation.kind == SCALE:
            operation.go_on(self._works.scaling.undone(operation))
        return [log_end(operation, step)]

    def _begin_steps(self, changed: dict[str, Operation], now: float) -> Effects:
        effects: Effects = []
        for operation in self._book:
            for step in operation.due_steps():
                if operation.kind == RESPAWN and self._works.respawns.waits(operation, step, now):
                    continue
                step.state = OpState.RUNNING
                changed[operation.id] = operation
                effects += self._works.of(operation).begin(operation, step, now)
        return effects

    def _renew(self, operation: Operation) -> None:
        """Where the shards are, and what the nodes have, as of now."""
        if operation.kind in GUILD_KINDS:
            return
        if operation.kind == SCALE:
            self._works.scaling.renew(operation)
            return
        for step in operation.steps:
            if step.over:
                continue
            node = self._fleet.nodes.get(step.node)
            if operation.kind == RESPAWN and node is not None:
                step.shards = node.shards
                continue
            holder = self._fleet.holder(step.shards[0]) if step.shards else None
            if holder is not None:
                step.node = holder.name
            if step.node == step.target:
                operation.ended(step, OpState.DONE, "it is there already")

    def _close(self, changed: dict[str, Operation]) -> Effects:
        """Operations that have ended now: said so, and old ones forgotten."""
        effects: Effects = []
        for operation in self._book:
            if operation.over and operation.id in self._open:
                self._open.discard(operation.id)
                changed[operation.id] = operation
                args = (operation.state.value, operation.reason, operation.args)
                effects.append(Emit(OperationEnded(operation.id, operation.kind, *args)))
        if effects:
            old = self._book.drop_old()
            effects += [Keep((Forget(OperationRecord, op),)) for op in old]
        return effects

    # --- cancel

    def _cancel(self, ref: Ref, operation: Operation, now: float) -> Effects:
        if operation.over:
            text = f"{operation.id} is {operation.state.value} already"
            return [Refuse(ref, ErrorBody("E_TOO_LATE", text))]
        effects: Effects = []
        running = [step for step in operation.steps if step.state is OpState.RUNNING]
        waiting = any(step.state is OpState.WAITING for step in operation.steps)
        operation.drop_waiting("cancelled")
        back = [self._take_back(operation, step, effects, now) for step in running]
        if not any(back) and not waiting:
            names = ", ".join(step.node for step in running)
            text = f"{operation.id} cannot be taken back any more: node {names}"
            return [Refuse(ref, ErrorBody("E_TOO_LATE", text, "it ends by itself"))]
        effects += self._transfers.look(now)
        return [*effects, self._keep(operation), Reply(ref, shown(operation))]

    def _take_back(self, operation: Operation, step: Step, effects: Effects, now: float) -> bool:
        if self._transfers.cancel(operation, step, "cancelled", now):
            return True
        found = self._works.of(operation).cancel(operation, step, "cancelled")
        effects += found or []
        return found is not None

    # --- a new broker, and the end

    def _restore(self, event: SupervisorHello, now: float) -> Effects:
        """Goes on with what the one before had begun."""
        if self._greeted:
            return []
        self._greeted = True
        effects: Effects = []
        alive = bool(event.processes)
        for operation in self._book:
            if operation.over:
                continue
            same_boot = self._boots.get(operation.id) == self._fleet.settings.boot_id
            if not alive or not same_boot:
                effects += self._interrupt(operation)
                continue
            for step in operation.steps:
                if step.state is OpState.RUNNING:
                    effects += self._resume(operation, step, now)
        return effects

    def _interrupt(self, operation: Operation) -> Effects:
        operation.drop_waiting(INTERRUPTED)
        for step in operation.steps:
            if not step.over:
                operation.ended(step, OpState.FAILED, INTERRUPTED)
        return [Log("WARNING", f"{operation.id} {INTERRUPTED}"), self._keep(operation)]

    def _resume(self, operation: Operation, step: Step, now: float) -> Effects:
        names = {step.node, step.gets}
        if step.shards and not names <= self._fleet.nodes.keys():
            self._ended.append((operation, step, OpState.FAILED, "its node is not in the fleet"))
            return []
        effects: Effects = [Log("INFO", f"{operation.id} goes on: node {step.node}")]
        effects += self._works.of(operation).resume(operation, step, now)
        for name in names & self._fleet.deciding.keys():
            node = self._fleet.nodes[name]
            if node.state is NodeState.BACKOFF:
                # It ended while no broker was there; what becomes of it is decided here.
                node.due_at = None
        return effects

    def _stop(self, event: Event) -> Effects:
        """The fleet stops: nobody begins anything, and nothing goes on."""
        effects: Effects = []
        self._ended.clear()
        self._works.forget()
        for operation in self._book:
            if operation.over:
                continue
            for step in operation.steps:
                if not step.over:
                    operation.ended(step, OpState.CANCELLED, FLEET_STOPS)
            effects.append(self._keep(operation))
        stopping = ErrorBody("E_STOPPING", "the fleet is stopping")
        if isinstance(event, OperationWanted) and event.ref is not None:
            return [*effects, Refuse(event.ref, stopping)]
        if isinstance(event, OperationStored):
            return effects + self._stored(event)
        if isinstance(event, Asked) and event.ref.id:
            return effects + self._asked_late(event, stopping)
        return effects

    def _asked_late(self, event: Asked, stopping: ErrorBody) -> Effects:
        """What only shows is answered to the end."""
        if isinstance(event.body, OpsRequest):
            return [Reply(event.ref, page_of(self._book, event.body.page))]
        if isinstance(event.body, OpRequest):
            return self._about(event.ref, event.body, "op.show", 0.0)
        return [Refuse(event.ref, stopping)]


def _own(step: Step) -> Step:
    """A step of our own: the one that wanted it may keep its."""
    return Step(step.node, tuple(step.shards), target=step.target)
