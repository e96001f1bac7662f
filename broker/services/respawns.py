"""Nodes' processes replaced: planned, and each step on its way.

A node that is up gets a successor beside its old process, which takes the shards over
(broker.services.transfers). In sequence, that is: the old one ends before the new one starts,
where memory is short, where it was asked for, and where there is no process to take from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from broker.core.effects import Effects, Emit, Refuse, Reply
from broker.core.events import Exited, SpawnWanted, SuccessorSpawned, SuccessorWanted
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.inflight import Ref
from broker.core.last_words import how_ended
from broker.core.operation import Operation, OpState, Progress, Step
from broker.core.opevents import OperationWanted
from broker.core.processes import STOP_GRACE_S, ask_stop
from broker.core.states import ALIVE, DOWN, NodeState
from broker.services.planning import budget_problem
from broker.services.resuming import starts_needed
from broker.services.transfers import Ended, Transfers
from shard_node.wire.bodies import ErrorBody, RespawnReply, RespawnRequest, ShardState
from shard_node.wire.handover import NO_JOURNAL, Phase

IN_SEQUENCE: Final = "in_sequence"
"""In an operation's args: the nodes whose old process ends first."""
MIB: Final = 1 << 20
EXISTING_SHOWN_MAX: Final = 64
_COMES: Final = frozenset({NodeState.STORING, NodeState.SPAWNING, NodeState.STARTING, NodeState.UP})
"""A process of the node is there, or will be, and may have something to hand over."""


@dataclass(slots=True)
class Sequence:
    """A step in which the old process ends first. It has no ``new_epoch``: that would be a
    successor's."""

    operation: Operation
    step: Step
    begun_at: float
    due_at: float
    asked: bool = False
    """The old process is to end, or the new one to start: no way back."""


class Respawns:
    """Plans respawns, and runs their steps."""

    def __init__(self, fleet: Fleet, transfers: Transfers) -> None:
        self._fleet = fleet
        self._limits = fleet.settings.lifecycle
        self._transfers = transfers
        self._sequences: list[Sequence] = []
        self._wanted: dict[tuple[str, str], tuple[Operation, Step]] = {}
        """Steps that wait for their successor's epoch, by node and operation."""

    def next_deadline(self) -> float | None:
        """When a step in sequence has taken too long, or has waited for voice."""
        times = [sequence.due_at for sequence in self._sequences]
        times += [self._voice_until(one) for one in self._sequences if not one.asked]
        return min(times, default=None)

    @property
    def busy(self) -> bool:
        """Whether steps in sequence are to be looked at."""
        return bool(self._sequences)

    # --- the plan

    def asked(self, ref: Ref, body: RespawnRequest, now: float) -> Effects:
        """An operator wants processes replaced."""
        nodes, problem = self._chosen(body)
        problem = problem or self._problem(body, nodes, now)
        if problem is not None:
            return [Refuse(ref, problem)]
        reply = RespawnReply(
            {node.name: node.shards for node in nodes}, "", self._plan(body, nodes)
        )
        steps = tuple(Step(node.name, node.shards) for node in nodes)
        if body.dry_run:
            conflict = None if body.queue else self._conflict(nodes)
            return [Refuse(ref, conflict) if conflict is not None else Reply(ref, reply)]
        args: dict[str, Any] = {IN_SEQUENCE: sorted(reply.plan[IN_SEQUENCE])}
        if body.drain_voice_s > 0:
            args["drain_voice_s"] = body.drain_voice_s
        return [
            Emit(
                OperationWanted(
                    "respawn",
                    steps,
                    args,
                    ref,
                    reply,
                    queue=body.queue,
                    max_unavailable=body.max_unavailable,
                    abort_on_fail=body.abort_on_fail,
                )
            )
        ]

    def _chosen(self, body: RespawnRequest) -> tuple[list[Node], ErrorBody | None]:
        """The nodes that a request is about, in order of place."""
        fleet = self._fleet
        if fleet.state is FleetState.STOPPING:
            return [], ErrorBody("E_STOPPING", "the fleet is stopping")
        if not fleet.num_shards:
            return [], ErrorBody("E_NOT_READY", "the fleet has no plan yet", "retry", True)
        if sum(map(bool, (body.shards, body.nodes, body.everything))) != 1:
            text = "name shards, or nodes, or everything: one of them"
            return [], ErrorBody("E_BAD_REQUEST", text)
        holders = {shard: fleet.holder(shard) for shard in body.shards}
        unknown = sorted(shard for shard, node in holders.items() if node is None)
        if unknown:
            exists = [row.id for _, row in fleet.shard_rows()]
            text = f"no shard {', '.join(map(str, unknown))} in the fleet"
            return [], ErrorBody("E_NOT_FOUND", text, details={"exists": exists})
        absent = [name for name in body.nodes if name not in fleet.nodes]
        if absent:
            text = f"no node {', '.join(absent)} in the fleet"
            known = {"exists": list(fleet.nodes)[:EXISTING_SHOWN_MAX]}
            return [], ErrorBody("E_NOT_FOUND", text, details=known)
        names = {node.name for node in holders.values() if node is not None} | set(body.nodes)
        nodes = [node for node in fleet.nodes.values() if body.everything or node.name in names]
        return sorted(nodes, key=lambda node: node.place), None

    def _problem(self, body: RespawnRequest, nodes: list[Node], now: float) -> ErrorBody | None:
        if body.max_unavailable < 1 or not 0 <= body.drain_voice_s < float("inf"):
            text = "max_unavailable is 1 or more, drain_voice_s 0 or more"
            return ErrorBody("E_BAD_REQUEST", text)
        shards = chain.from_iterable(node.shards for node in nodes)
        return budget_problem(self._fleet, starts_needed(self._fleet, shards, now), now)

    def _conflict(self, nodes: list[Node]) -> ErrorBody | None:
        """Why it would be refused, before anybody is told that it begins."""
        conflict = self._fleet.conflict
        found = (conflict(shard, node.name) for node in nodes for shard in node.shards)
        return next((error for error in found if error is not None), None)

    def _plan(self, body: RespawnRequest, nodes: list[Node]) -> dict[str, Any]:
        asked = frozenset(body.shards)
        along = {shard: node.name for node in nodes for shard in node.shards if shard not in asked}
        voice = {node.name: count for node in nodes if (count := _voice(node))}
        return {
            "nodes": {node.name: list(node.shards) for node in nodes},
            "moves_along": {str(shard): name for shard, name in along.items() if asked},
            "voice": voice,
            IN_SEQUENCE: self._in_sequence(nodes, body),
        }

    def _in_sequence(self, nodes: list[Node], body: RespawnRequest) -> dict[str, str]:
        """The nodes whose old process ends first, and why."""
        reasons = {}
        available = self._fleet.settings.memory()
        for node in nodes:
            why = "as asked" if body.in_sequence else self._alone(node)
            why = why or self._too_large(node, available, body.max_unavailable)
            if why:
                reasons[node.name] = why
        return reasons

    def _alone(self, node: Node) -> str:
        """Why there is nothing to hand over by two processes."""
        if node.state is not NodeState.UP or not node.reported:
            return f"its process is {node.state.value}, and has nothing to hand over"
        if node.troubles.get(NO_JOURNAL):
            return "it keeps no journal, so nothing can be handed over"
        return "" if node.shards else "it has no shards"

    def _too_large(self, node: Node, available: int | None, at_a_time: int) -> str:
        """Why memory does not do for a second process, with figures."""
        most = max((other.rss_bytes for other in self._fleet.nodes.values()), default=0)
        others = (at_a_time - 1) * most
        needed = node.rss_bytes + others + self._limits.spare_bytes
        if available is None or not node.rss_bytes or needed <= available:
            return ""
        lingering = sum(proc.rss_bytes for proc in self._fleet.procs.values())
        held = f" ({_mib(lingering)} in processes that linger)" if lingering else ""
        second = f"a second process needs about {_mib(needed)}"
        return f"{second}, {_mib(available)} are free{held}"

    # --- steps

    def waits(self, operation: Operation, step: Step, now: float) -> bool:
        """Whether a step that is planned with two processes begins later: the old one has not
        reported yet, to a new broker perhaps, and can hand over once it has."""
        node = self._fleet.nodes.get(step.node)
        if node is None or step.node in operation.args.get(IN_SEQUENCE, ()):
            return False
        if node.state not in _COMES or (node.state is NodeState.UP and node.reported):
            return False
        if step.begins_by is None:
            step.begins_by = now + self._limits.ready_max_s
        return now < step.begins_by

    def begin(self, operation: Operation, step: Step, now: float) -> Effects:
        """A step's turn has come."""
        node = self._fleet.nodes[step.node]
        step.old_epoch, step.voice = node.epoch, _voice(node)
        first = step.node in operation.args.get(IN_SEQUENCE, ())
        if not first and not self._alone(node):
            # What was planned may have been long ago.
            first = bool(self._too_large(node, self._fleet.settings.memory(), 1))
        if first or self._alone(node):
            _note(operation, step.node)
            return self.resume(operation, step, now)
        step.new_epoch = node.last_epoch + 1
        self._transfers.decide(operation, step)
        self._wanted[node.name, operation.id] = (operation, step)
        return [Emit(SuccessorWanted(node.name, operation.id))]

    def resume(self, operation: Operation, step: Step, now: float) -> Effects:
        """Goes on with a step that runs, as its record says."""
        node = self._fleet.nodes[step.node]
        if step.node not in operation.args.get(IN_SEQUENCE, ()):
            there = self._fleet.lives(step.node, step.new_epoch)
            if there or step.flipped or step.undone or node.epoch != step.old_epoch:
                return self._transfers.start(operation, step, now)
            # The broker before this one died before it could ask for the successor; or that one
            # died too, and another one is tried.
            if self.waits(operation, step, now):
                step.state = OpState.WAITING
                return []
            return self.begin(operation, step, now)
        drain_s = self._fleet.settings.drain_s + STOP_GRACE_S
        voice_s = float(operation.args.get("drain_voice_s", 0.0))
        due_at = now + voice_s + drain_s + self._limits.ready_max_s
        sequence = Sequence(operation, step, now, due_at)
        self._sequences.append(sequence)
        self._fleet.nodes[step.node].failures.clear()
        return self._look(sequence, now)

    def spawned(self, event: SuccessorSpawned, now: float) -> Effects:
        """There is a successor, or there will be none."""
        found = self._wanted.pop((event.name, event.op), None)
        if found is None:
            return []
        operation, step = found
        if event.error:
            return self._give_up(operation, step, f"no second process: {event.error}", now)
        step.new_epoch = event.epoch
        if step.undone:
            effects = self._transfers.end_successor(step, step.reason, now)
            return effects + self._give_up(operation, step, step.reason, now)
        return self._transfers.start(operation, step, now)

    def cancel(self, operation: Operation, step: Step, reason: str) -> Effects | None:
        """Takes back what has not begun in earnest; None where it is too late."""
        if (step.node, operation.id) in self._wanted:
            step.undone, step.reason = True, reason
            return []
        for sequence in self._sequences:
            if sequence.step is step and not sequence.asked:
                self._over(sequence, OpState.CANCELLED, reason)
                return []
        return None

    def forget(self) -> None:
        """The fleet stops."""
        self._sequences.clear()
        self._wanted.clear()

    def _give_up(self, operation: Operation, step: Step, reason: str, _now: float) -> Effects:
        state = OpState.CANCELLED if step.undone else OpState.FAILED
        self._transfers.ended.append((operation, step, state, reason))
        return self._transfers.release(operation, step)

    # --- in sequence

    def look(self, now: float) -> Effects:
        """Looks at the steps in sequence."""
        return [effect for one in list(self._sequences) for effect in self._look(one, now)]

    def exited(self, event: Exited) -> None:
        """A new process that ends has failed; it is started again all the same."""
        for sequence in list(self._sequences):
            step = sequence.step
            if step.node == event.name and event.epoch > step.old_epoch and sequence.asked:
                step.tail = event.tail
                who = f"{event.name}#{event.epoch}"
                text = f"{who} ended before it was ready ({how_ended(event)})"
                self._over(sequence, OpState.FAILED, text)

    def _look(self, sequence: Sequence, now: float) -> Effects:
        step = sequence.step
        node = self._fleet.nodes.get(step.node)
        if node is None:
            self._over(sequence, OpState.FAILED, "the node is no longer in the fleet")
            return []
        if now >= sequence.due_at:
            reason = f"not ready within {self._limits.ready_max_s:g} s; it is {node.state.value}"
            self._over(sequence, OpState.FAILED, reason)
            return []
        if node.epoch and node.epoch == step.old_epoch:
            return self._end_old(sequence, node, now)
        if node.state in (NodeState.BACKOFF, NodeState.FAILED):
            return self._start_new(sequence, node)
        sequence.asked = True
        self._note_ready(sequence, node)
        return []

    def _end_old(self, sequence: Sequence, node: Node, now: float) -> Effects:
        if node.state is NodeState.STOPPING:
            sequence.asked = True
        if sequence.asked or node.state not in ALIVE:
            return []
        if _voice(node) and now < self._voice_until(sequence):
            return []
        sequence.asked = True
        return ask_stop(self._fleet, node, "respawn", now)

    def _start_new(self, sequence: Sequence, node: Node) -> Effects:
        if sequence.asked:
            if node.state in DOWN:
                self._over(sequence, OpState.FAILED, node.reason)
            return []
        sequence.asked = True
        self._fleet.warn(f"node_{node.name}", None)
        return [Emit(SpawnWanted(node.name, again=True))]

    def _note_ready(self, sequence: Sequence, node: Node) -> None:
        step = sequence.step
        for shard, row in node.rows.items():
            ready = row.state is ShardState.READY and node.reported
            phase = Phase.HELD if ready else Phase.TAKING
            step.progress.setdefault(shard, Progress()).phase = phase
        up = node.state is NodeState.UP and node.reported
        if up and all(row.state is ShardState.READY for row in node.rows.values()):
            self._over(sequence, OpState.DONE, "")

    def _voice_until(self, sequence: Sequence) -> float:
        return sequence.begun_at + float(sequence.operation.args.get("drain_voice_s", 0.0))

    def _over(self, sequence: Sequence, state: OpState, reason: str) -> None:
        self._sequences.remove(sequence)
        ended: Ended = (sequence.operation, sequence.step, state, reason)
        self._transfers.ended.append(ended)


def _note(operation: Operation, name: str) -> None:
    """That a node's old process ends first, for a broker to come."""
    names = {*operation.args.get(IN_SEQUENCE, ()), name}
    operation.args[IN_SEQUENCE] = sorted(names)


def _voice(node: Node) -> int:
    return sum(row.voice for row in node.rows.values())


def _mib(size_bytes: int) -> str:
    return f"{max(0, size_bytes) // MIB} MiB"
