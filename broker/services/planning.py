"""The fleet's plan: made anew at a fresh start, taken over where node processes live.

`shards: auto` is what Discord recommends. The budget is checked before anything starts.
"""

from __future__ import annotations

from typing import Final

from broker.core import plan
from broker.core.effects import Effects, Emit, Keep, Log
from broker.core.events import (
    Event,
    GatewayFailed,
    GatewayInfo,
    InfoWanted,
    PlanStored,
    Process,
    SpawnWanted,
    StopWanted,
    SupervisorHello,
    Tick,
)
from broker.core.fleet import LINGER_GRACE_S, Fleet, FleetState, Node
from broker.core.processes import signal
from broker.core.procs import Proc, Role
from broker.core.states import NodeState
from broker.services.living import part_of_each
from broker.services.plans import standing
from broker.services.resuming import starts_needed
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.sizing import node_count
from store.records import Durable, EpochRecord, PlanNode, PlanRecord

ADOPT_S: Final = 10.0
"""A living process that does not register with a new broker within this is given up."""
RECONNECTED_S: Final = 3.0
"""One that does not hang has found a new broker, and registered, within this: the longest waits
for a connection (0.5 s) and for the answer to a registration (2 s), and some."""
STORE_RETRY_S: Final = 1.0
MISSED_EXIT_S: Final = 0.25
"""The supervisor's word on a node that ended while the broker was away comes within this."""
WARNING: Final = "recommended_shards"


class Planning:
    """Decides once, at the supervisor's hello or at Discord's first answer."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._epochs = durable.epochs
        self._plan = durable.plan
        self._operations = durable.operations.values()
        self._planned = False
        self._awaiting = False
        self._retry_at: float | None = None

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case SupervisorHello() if not self._planned and not self._awaiting:
                return self._hello(event, now)
            case GatewayInfo():
                return self._info(event, now)
            case PlanStored(error=error):
                return self._stored(error, now)
            case Tick() if self._retry_at is not None and now >= self._retry_at:
                return self._store()
            case GatewayFailed(fatal=True) if self._awaiting:
                self._awaiting = False
                reason = f"{event.code}: {event.message}"
                return [Emit(StopWanted(f"{reason}; hint: {event.hint}", 1))]
        return []

    def next_deadline(self) -> float | None:
        """When a plan that could not be kept is tried again; asking is identify's matter."""
        return self._retry_at

    # --- processes that live

    def _hello(self, event: SupervisorHello, now: float) -> Effects:
        if not event.processes:
            self._awaiting = True
            return [Emit(InfoWanted())]
        self._planned = True
        parts = part_of_each(event.processes, self._operations)
        record = self._plan or _plan_of(parts.current)
        self._take_over(record)
        current = {process.name: process for process in parts.current}
        strangers = [*parts.strangers]
        effects: Effects = []
        for node in self._fleet.nodes.values():
            effects += self._adopt(node, current.pop(node.name, None), now)
        for process, role, op in parts.beside:
            if process.name in self._fleet.nodes:
                effects += self._adopt_beside(process, role, op, now)
            else:
                strangers.append(process)
        strangers += current.values()
        effects += [signal(_stranger(process), "TERM") for process in strangers]
        return [*effects, Keep((record,)), Emit(InfoWanted())]

    def _take_over(self, record: PlanRecord) -> None:
        self._fleet.resize(record.num_shards)
        for planned in record.nodes:
            self._add(planned.name, planned.index, planned.shards)

    def _adopt(self, node: Node, process: Process | None, now: float) -> Effects:
        if process is None:
            decided = node.name in self._fleet.deciding
            node.move(NodeState.BACKOFF, None if decided else now + MISSED_EXIT_S)
            return []
        node.epoch = process.epoch
        node.last_epoch = max(node.last_epoch, process.epoch)
        node.pid = process.pid
        node.spawned_at = now - process.uptime_s
        node.heard_at = now
        node.move(NodeState.STARTING, now + self._adopted_within_s())
        fields = {"node": node.name, "epoch": node.epoch, "pid": node.pid}
        return [Log("INFO", f"node {node.name}#{node.epoch} lives on", fields)]

    def _adopted_within_s(self) -> float:
        """A process that hung while there was no broker, or does so before it has registered with
        this one, is noticed as soon as any other that hangs."""
        return min(ADOPT_S, self._fleet.settings.lifecycle.hang_s + RECONNECTED_S)

    def _adopt_beside(self, process: Process, role: Role, op: str, now: float) -> Effects:
        limits = self._fleet.settings.lifecycle
        lingers = role is Role.LINGERING
        due_at = now + (limits.linger_s + LINGER_GRACE_S if lingers else limits.ready_s)
        proc = Proc(process.name, process.epoch, role, op, pid=process.pid, due_at=due_at)
        proc.heard_at, proc.spawned_at = now, now - process.uptime_s
        self._fleet.procs[proc.name, proc.epoch] = proc
        node = self._fleet.nodes[proc.name]
        node.last_epoch = max(node.last_epoch, proc.epoch)
        fields = {"node": proc.name, "epoch": proc.epoch, "pid": proc.pid}
        return [Log("INFO", f"node {proc.label} lives on ({role.value})", fields)]

    # --- a fresh start

    def _info(self, info: GatewayInfo, now: float) -> Effects:
        if self._awaiting:
            self._awaiting = False
            return self._start(info, now)
        self._compare(info)
        return []

    def _start(self, info: GatewayInfo, now: float) -> Effects:
        if self._fleet.state is FleetState.STOPPING:
            return []
        fleet = self._fleet
        journals = fleet.settings.journals()
        kept = max(journals, key=lambda count: len(journals[count]), default=None)
        shards = fleet.settings.shards or kept or info.shards
        fleet.resumable = set(journals.get(shards, ()))
        problem = budget_problem(fleet, starts_needed(fleet, range(shards), now), now)
        if problem is not None:
            text = f"{problem.code}: {problem.message} hint: {problem.hint}"
            return [Emit(StopWanted(text, 1))]
        record = standing(self._plan, shards, fleet.settings.nodes) or self._make_plan(shards)
        self._take_over(record)
        self._planned = True
        for node in self._fleet.nodes.values():
            node.restarts = 0
        self._compare(info)
        self._plan = record
        text = f"{shards} shards on {len(record.nodes)} nodes"
        if fleet.resumable:
            text += f", {len(fleet.resumable)} of them with a session to resume"
        return [Log("INFO", text), *self._store()]

    def _store(self) -> Effects:
        """No node is started before its plan is durable: the next broker would have another,
        and send the living nodes away."""
        self._retry_at = None
        if self._plan is None or self._fleet.state is FleetState.STOPPING:
            return []
        return [Keep((self._plan,), PlanStored())]

    def _stored(self, error: str, now: float) -> Effects:
        if error:
            self._retry_at = now + STORE_RETRY_S
            return []
        planned = self._fleet.nodes.values()
        fresh = [node for node in planned if node.state is NodeState.PLANNED]
        return [Emit(SpawnWanted(node.name, again=False)) for node in fresh]

    def _make_plan(self, shards: int) -> PlanRecord:
        settings = self._fleet.settings
        nodes = node_count(
            shards,
            asked=settings.nodes,
            nodes_max=settings.nodes_max,
            sandbox=settings.sandbox,
        )
        planned = plan.plan(shards, nodes)
        return PlanRecord(shards, tuple(PlanNode(n.name, n.place, n.shards) for n in planned))

    def _add(self, name: str, place: int, shards: tuple[int, ...]) -> None:
        node = self._fleet.add(name, place, shards)
        known = self._epochs.get(name, EpochRecord(name, 0))
        node.last_epoch = known.epoch
        node.restarts = known.restarts

    def _compare(self, info: GatewayInfo) -> None:
        fleet = self._fleet
        differs = fleet.settings.shards is None and fleet.num_shards not in (0, info.shards)
        text = f"Discord recommends {info.shards} shards; the fleet runs {fleet.num_shards}"
        fleet.warn(WARNING, text if differs else None)


def budget_problem(fleet: Fleet, starts: int, now: float) -> ErrorBody | None:
    """What is wrong with ``starts`` more IDENTIFYs now; None where they are left."""
    budget = fleet.budget
    if budget is None or starts <= budget.remaining:
        return None
    wait = duration(max(0.0, budget.reset_at - now))
    text = (
        f"needs {starts} session starts; {budget.remaining} remain (reset in {wait}). "
        "Going over makes Discord reset your token."
    )
    details = {"needed": starts, "remaining": budget.remaining}
    return ErrorBody("E_IDENTIFY_BUDGET", text, f"retry in {wait}", True, details)


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(7440), duration(61), duration(0.2)
    ('2 h 04 min', '1 min 01 s', '1 s')
    """
    whole = max(1, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def _plan_of(processes: tuple[Process, ...]) -> PlanRecord:
    """The plan that living processes follow, where the store has none."""
    ordered = sorted(processes, key=lambda process: process.index)
    nodes = tuple(PlanNode(p.name, p.index, p.shards) for p in ordered)
    return PlanRecord(max(p.num_shards for p in processes), nodes)


def _stranger(process: Process) -> Node:
    return Node(process.name, process.index, process.shards, {}, epoch=process.epoch)
