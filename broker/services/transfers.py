"""Steps that hand shards over: what their transfers want is carried out, and what the processes
report is shown to them.

A step's two processes are ``node#old_epoch``, which has the shards, and ``target#epoch``, which
gets them; a successor is its own node's target. While a step runs, the nodes stand in
``Fleet.deciding``: what becomes of a dead one's shards is the step's matter until it ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from broker.core.effects import Effects, Emit, Keep, Log, Tell
from broker.core.events import Exited, Given, Promoted, SpawnWanted, StepFlipped
from broker.core.fleet import Fleet, Node
from broker.core.handover import (
    Arm,
    Command,
    Disarm,
    End,
    Facts,
    Flip,
    Flipped,
    Kill,
    Release,
    Settle,
)
from broker.core.last_words import how_ended
from broker.core.operation import Operation, OpState, Progress, Step
from broker.core.processes import ask_stop, end_beside, end_rest, kill, kill_beside
from broker.core.procs import Proc, Role
from broker.core.states import DOWN, NodeState
from broker.core.transfer import Transfer
from broker.services.leftovers import tidy
from broker.services.oprecords import kept
from broker.services.plans import plan_after
from shard_node.wire.handover import (
    Phase,
    ShardArm,
    ShardDisarm,
    ShardMoved,
    ShardRelease,
    ShardSettle,
)
from shard_node.wire.topics import SHARD_ARM, SHARD_DISARM, SHARD_RELEASE, SHARD_SETTLE

LOOK_S: Final = 0.25
"""So often reports are looked at while shards change hands; what nodes say by itself sooner."""
LEFTOVERS_S: Final = 1.0
Ended = tuple[Operation, Step, OpState, str]
"""A step that is over, how, and why."""


@dataclass(slots=True)
class Running:
    """A step under way."""

    operation: Operation
    step: Step
    transfer: Transfer
    flipped: Flipped = Flipped.NO
    how: str = ""
    """How its target ended."""

    @property
    def source(self) -> tuple[str, int]:
        """The process that had the shards."""
        return self.step.node, self.step.old_epoch

    @property
    def target(self) -> tuple[str, int]:
        """The process that gets them."""
        return target_of(self.step)


def target_of(step: Step) -> tuple[str, int]:
    """The process that gets a step's shards; its epoch is 0 as long as there is none."""
    if step.target and step.target != step.node:
        return step.target, step.target_epoch
    return step.node, step.new_epoch


class Transfers:
    """All steps that hand over now. ``ended`` has those that are over, for who began them."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._limits = fleet.settings.lifecycle
        self._running: dict[tuple[str, int], Running] = {}
        self._looked_at = self._tidied_at = fleet.started_at
        self.ended: list[Ended] = []
        self.reshaping = False
        """Nodes come into the plan or leave it: such a plan is under way to the store."""

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._running

    def next_deadline(self) -> float | None:
        """When the next look is due."""
        return self._looked_at + LOOK_S if self._running else None

    def decide(self, operation: Operation, step: Step) -> None:
        """From now on what becomes of the step's dead processes is its matter."""
        for name in {step.node, step.gets}:
            self._fleet.deciding[name] = operation.id

    def start(self, operation: Operation, step: Step, now: float) -> Effects:
        """Both processes of a step are known: it goes on, or (after a broker's death) anew."""
        moves = step.gets != step.node
        source = f"{step.node}#{step.old_epoch}" if step.old_epoch else ""
        name, epoch = target_of(step)
        transfer = Transfer(
            operation.id,
            step.shards,
            source,
            f"{name}#{epoch}",
            self._limits,
            now,
            settle_s=0.0 if moves else self._limits.settle_s,
            warms=not moves,
            drain_voice_s=float(operation.args.get("drain_voice_s", 0.0)),
        )
        flipped = Flipped.YES if step.flipped else Flipped.NO
        running = Running(operation, step, transfer, flipped)
        self._running[operation.id, operation.steps.index(step)] = running
        self.decide(operation, step)
        if step.undone:
            transfer.cancel(step.reason or "cancelled", now)
        return self._look(running, now)

    def cancel(self, operation: Operation, step: Step, reason: str, now: float) -> bool:
        """Takes a step back; False where it is too late, or where it has no transfer."""
        running = self._running.get((operation.id, operation.steps.index(step)))
        if running is None or running.flipped is not Flipped.NO:
            return False
        if not running.transfer.cancel(reason, now):
            return False
        step.undone, step.reason = True, reason
        return True

    def forget(self) -> None:
        """The fleet stops: nobody is told anything any more."""
        self._running.clear()
        self._fleet.deciding.clear()
        self.reshaping = False

    @property
    def plan_asked(self) -> bool:
        """One plan at a time is under way to the store: each is made of what is durable."""
        return self.reshaping or any(
            running.flipped is Flipped.ASKED and running.step.gets != running.step.node
            for running in self._running.values()
        )

    # --- what happens

    def look(self, now: float) -> Effects:
        """Looks at all of them, and at what over ones have left behind."""
        effects: Effects = []
        self._looked_at = now
        for running in list(self._running.values()):
            effects += self._look(running, now)
        if now >= self._tidied_at + LEFTOVERS_S:
            self._tidied_at = now
            effects += tidy(self._fleet, self.busy)
        return effects

    def flipped(self, event: StepFlipped, now: float) -> Effects:
        """The records have it now (or have it not)."""
        running = self._running.get((event.op, event.step))
        if running is None:
            return []
        if event.error:
            running.flipped = Flipped.NO
            return []
        running.flipped = Flipped.YES
        running.step.flipped = True
        return self._hand_over(running, now) + self._look(running, now)

    def exited(self, event: Exited) -> None:
        """What a target said last is why its step failed."""
        for running in self._running.values():
            if running.target == (event.name, event.epoch) and not running.step.flipped:
                running.step.tail = event.tail
                running.how = how_ended(event)

    def moved(self, who: tuple[str, int], body: ShardMoved, now: float) -> Effects:
        """A process says that it has come further with a shard."""
        _note_phase(self._fleet, who, body)
        for running in self._running.values():
            if running.operation.id == body.op and who in (running.source, running.target):
                if body.shard not in running.step.shards:
                    continue
                note_progress(running.step, body, gets=who == running.target)
                return self._look(running, now)
        return []

    # --- facts

    def _look(self, running: Running, now: float) -> Effects:
        effects: Effects = []
        for command in running.transfer.look(self._facts(running, now), now):
            effects += self._do(running, command, now)
        self._note_phases(running)
        return effects

    def _facts(self, running: Running, now: float) -> Facts:
        fleet, step = self._fleet, running.step
        source, target = running.source, running.target
        holder = fleet.nodes.get(step.node)
        rows = holder.rows if holder is not None else {}
        waiters = [fleet.permit_waiter(shard) for shard in step.shards]
        return Facts(
            fleet.lives(*source),
            fleet.lives(*target),
            self._phases(running, source),
            self._phases(running, target),
            voice=sum(rows[shard].voice for shard in step.shards if shard in rows),
            target_due=_is_due(fleet.procs.get(target), now),
            permit=target in waiters,
            flipped=running.flipped,
        )

    def _phases(self, running: Running, who: tuple[str, int]) -> dict[int, Phase]:
        """None at all: it has not reported to this broker yet."""
        node, proc = self._fleet.current(*who), self._fleet.procs.get(who)
        if not (node.reported if node is not None else proc is not None and proc.registered):
            return {}
        op = running.operation.id
        return {shard: self._fleet.phase(*who, shard, op) for shard in running.step.shards}

    def _note_phases(self, running: Running) -> None:
        """What heartbeats say counts for the progress as well."""
        for shard, phase in self._phases(running, running.target).items():
            if phase is not Phase.NONE:
                running.step.progress.setdefault(shard, Progress()).phase = phase

    # --- commands

    def _do(self, running: Running, command: Command, now: float) -> Effects:
        op, count = running.operation.id, self._fleet.num_shards
        source, target = running.source, running.target
        match command:
            case Arm(shards=shards, source=name):
                arm = ShardArm(op, shards, count, name, self._limits.arm_s)
                return [Tell(*target, SHARD_ARM, arm)]
            case Release(shards=shards):
                label = f"{target[0]}#{target[1]}"
                why = running.operation.kind
                release = ShardRelease(op, shards, label, self._limits.retake_s, why)
                return [Tell(*source, SHARD_RELEASE, release)]
            case Disarm(shards=shards, reason=reason):
                return [Tell(*target, SHARD_DISARM, ShardDisarm(op, shards, reason))]
            case Settle(shards=shards):
                return [Tell(*source, SHARD_SETTLE, ShardSettle(op, shards))]
            case Kill(who=who, reason=reason):
                return self._kill(source if who == "source" else target, reason, now)
            case Flip():
                return self._flip(running)
            case End(state=state, reason=reason):
                return self._end(running, OpState(state), reason, now)

    def _kill(self, who: tuple[str, int], reason: str, now: float) -> Effects:
        node, proc = self._fleet.current(*who), self._fleet.procs.get(who)
        if proc is not None:
            return kill_beside(proc, reason, now)
        return kill(self._fleet, node, reason, now) if node is not None else []

    def _flip(self, running: Running) -> Effects:
        step, operation = running.step, running.operation
        moves = step.gets != step.node
        if moves and self.plan_asked:
            return []
        running.flipped = Flipped.ASKED
        at = operation.steps.index(step)
        steps = [*operation.steps[:at], replace(step, flipped=True), *operation.steps[at + 1 :]]
        after = replace(operation, steps=steps)
        changes = [kept(after, self._fleet.settings.boot_id)]
        plan = [plan_after(self._fleet, step.shards, step.gets)] if moves else []
        return [Keep((*plan, *changes), StepFlipped(operation.id, at))]

    def _hand_over(self, running: Running, now: float) -> Effects:
        """The records have it: routing follows."""
        fleet, step = self._fleet, running.step
        if step.gets != step.node:
            given = fleet.give(step.shards, step.gets)
            return [Emit(Given(name, shards, step.gets)) for name, shards in given.items()]
        if running.target not in fleet.procs:
            # It died since: its node has no process, and gets one at the end.
            return []
        old = fleet.nodes[step.node].epoch
        fleet.promote(*running.target, now)
        return [Emit(Promoted(step.node, old, step.new_epoch))]

    def _end(self, running: Running, state: OpState, reason: str, now: float) -> Effects:
        operation, step = running.operation, running.step
        del self._running[operation.id, operation.steps.index(step)]
        self._fleet.counts[f"transfers_{state.value}"] += 1
        if running.how and state is not OpState.DONE:
            reason = f"{reason} ({running.how})"
        if step.undone:
            state = OpState.CANCELLED
        effects = [] if state is OpState.DONE else self.end_successor(step, reason, now)
        effects += self.release(operation, step)
        effects += self._end_empty(step, now)
        self.ended.append((operation, step, state, reason))
        return effects

    def _end_empty(self, step: Step, now: float) -> Effects:
        """A successor that died between its flip and its promotion: the old process has given
        its shards up for good, and makes room for a new one."""
        node = self._fleet.current(step.node, step.old_epoch)
        moves = step.gets != step.node
        if moves or not step.flipped or node is None or node.state is NodeState.STOPPING:
            return []
        return ask_stop(self._fleet, node, "its successor ended", now)

    def end_successor(self, step: Step, reason: str, now: float) -> Effects:
        """A process that was started for nothing ends."""
        proc = self._fleet.procs.get((step.node, step.new_epoch))
        if step.gets != step.node or proc is None or proc.role is not Role.SUCCESSOR:
            return []
        return end_beside(self._fleet, proc, reason, now)

    def release(self, operation: Operation, step: Step) -> Effects:
        """The step decides nothing any more: who has no process gets one."""
        effects: Effects = []
        for name in sorted({step.node, step.gets}):
            if self._fleet.deciding.get(name) != operation.id:
                continue
            del self._fleet.deciding[name]
            node = self._fleet.nodes.get(name)
            if node is None or not _is_left_dead(node):
                continue
            if node.rests_until is not None:
                end_rest(node)
            else:
                effects.append(Emit(SpawnWanted(name, again=True)))
        return effects

    @property
    def busy(self) -> frozenset[tuple[str, int]]:
        """The shards under way, each with its operation."""
        return frozenset(
            (running.operation.id, shard)
            for running in self._running.values()
            for shard in running.step.shards
        )


def note_progress(step: Step, body: ShardMoved, *, gets: bool) -> None:
    """What a process says of a shard, for people. Once held, only its gap is learned."""
    one = step.progress.setdefault(body.shard, Progress())
    if not gets:
        if body.phase in (Phase.RELEASED, Phase.RETAKEN) and one.phase is not Phase.HELD:
            one.phase = body.phase
        return
    one.phase = body.phase
    one.identified |= body.identified
    if body.gap_ms >= 0:
        one.gap_ms = body.gap_ms


def _note_phase(fleet: Fleet, who: tuple[str, int], body: ShardMoved) -> None:
    node, proc = fleet.current(*who), fleet.procs.get(who)
    if node is not None:
        node.phases[body.shard], node.ops[body.shard] = body.phase, body.op
        node.op = body.op
    elif proc is not None and proc.op == body.op:
        proc.phases[body.shard] = body.phase


def _is_due(proc: Proc | None, now: float) -> bool:
    """Whether a successor should have been ready by now."""
    return proc is not None and proc.due_at is not None and now >= proc.due_at


def _is_left_dead(node: Node) -> bool:
    waits = node.state is NodeState.BACKOFF and node.due_at is not None
    return not node.epoch and not waits and node.state not in DOWN | {NodeState.STORING}


def log_end(operation: Operation, step: Step) -> Log:
    """How a step went, for the log."""
    good = step.state in (OpState.DONE, OpState.CANCELLED)
    reason = f": {step.reason}" if step.reason else ""
    text = f"{operation.id}: {operation.about(step)} {step.state.value}{reason}"
    return Log("INFO" if good else "WARNING", text)
