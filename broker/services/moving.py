"""Single shards handed from node to node: asked for, and begun."""

from __future__ import annotations

from broker.core.effects import Effects, Emit, Refuse, Reply
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.inflight import Ref
from broker.core.operation import Operation, OpState, Step
from broker.core.opevents import OperationWanted
from broker.core.states import DOWN, NodeState
from broker.services.transfers import Transfers
from shard_node.wire.bodies import ErrorBody, ShardState
from shard_node.wire.handover import NO_JOURNAL
from shard_node.wire.operations import MoveRequest, OpReply


class Moving:
    """Moves: `move-shard`, and the steps of whatever else spreads shards anew."""

    def __init__(self, fleet: Fleet, transfers: Transfers) -> None:
        self._fleet = fleet
        self._transfers = transfers
        self._early: list[tuple[Operation, Step, float]] = []
        """Steps whose target is not up yet, and how long that may last."""

    @property
    def busy(self) -> bool:
        """Whether targets are waited for."""
        return bool(self._early)

    def asked(self, ref: Ref, body: MoveRequest) -> Effects:
        """An operator wants a shard on another node."""
        problem = self._problem(body)
        holder = self._fleet.holder(body.shard)
        if problem is not None or holder is None:
            return [Refuse(ref, problem or unknown_shard(self._fleet, body.shard))]
        plan = {"shard": body.shard, "from": holder.name, "to": body.node}
        reply = OpReply("", plan)
        if body.dry_run:
            conflict = (
                None if body.queue else self._fleet.conflict(body.shard, holder.name, body.node)
            )
            return [Reply(ref, reply) if conflict is None else Refuse(ref, conflict)]
        step = Step(holder.name, (body.shard,), target=body.node)
        return [Emit(OperationWanted("move", (step,), {}, ref, reply, queue=body.queue))]

    def _problem(self, body: MoveRequest) -> ErrorBody | None:
        fleet, shard = self._fleet, body.shard
        if fleet.state is FleetState.STOPPING:
            return ErrorBody("E_STOPPING", "the fleet is stopping")
        holder, target = fleet.holder(shard), fleet.nodes.get(body.node)
        if holder is None:
            return unknown_shard(fleet, shard)
        if target is None:
            exists = {"exists": list(fleet.nodes)}
            return ErrorBody("E_NOT_FOUND", f"no node {body.node!r} in the fleet", details=exists)
        if holder is target:
            return ErrorBody("E_SAME", f"shard {shard} is on {target.name} already")
        problem = no_target(target) or no_journal(holder) or no_journal(target)
        if problem is not None:
            return problem
        row = holder.rows[shard]
        if row.state is not ShardState.READY:
            text = (
                f"shard {shard} is {row.state.value} on node {holder.name}; only a ready one moves"
            )
            return ErrorBody("E_NOT_READY", text, "retry", retryable=True)
        return None

    # --- steps

    def begin(self, operation: Operation, step: Step, now: float) -> Effects:
        """A step's turn has come."""
        self._transfers.decide(operation, step)
        due_at = now + self._fleet.settings.lifecycle.ready_max_s
        self._early.append((operation, step, due_at))
        return self.look(now)

    def look(self, now: float) -> Effects:
        """Begins with what can begin."""
        effects: Effects = []
        for early in list(self._early):
            operation, step, due_at = early
            source, target = self._fleet.nodes.get(step.node), self._fleet.nodes.get(step.target)
            # A target that has ended is not started again as long as this step decides over it.
            ended = target is None or target.state in DOWN | {NodeState.BACKOFF}
            if source is None or target is None or ended or now >= due_at:
                self._early.remove(early)
                reason = f"node {step.target} is not up"
                effects += self._give_up(operation, step, OpState.FAILED, reason)
            elif target.state is NodeState.UP and target.reported:
                self._early.remove(early)
                if (problem := no_journal(source) or no_journal(target)) is not None:
                    effects += self._give_up(operation, step, OpState.FAILED, problem.message)
                    continue
                step.old_epoch, step.target_epoch = source.epoch, target.epoch
                step.voice = source.rows[step.shards[0]].voice if step.shards else 0
                effects += self._transfers.start(operation, step, now)
        return effects

    def resume(self, operation: Operation, step: Step, now: float) -> Effects:
        """Goes on with a step that runs, as its record says."""
        if not step.target_epoch:
            return self.begin(operation, step, now)
        return self._transfers.start(operation, step, now)

    def cancel(self, operation: Operation, step: Step, reason: str) -> Effects | None:
        """Takes back what waits for its target; None where it does not."""
        for early in list(self._early):
            if early[1] is step:
                self._early.remove(early)
                return self._give_up(operation, step, OpState.CANCELLED, reason)
        return None

    def forget(self) -> None:
        """The fleet stops."""
        self._early.clear()

    def _give_up(self, operation: Operation, step: Step, state: OpState, reason: str) -> Effects:
        self._transfers.ended.append((operation, step, state, reason))
        return self._transfers.release(operation, step)


def unknown_shard(fleet: Fleet, shard: int) -> ErrorBody:
    """Nobody holds it."""
    exists = [row.id for _, row in fleet.shard_rows()]
    return ErrorBody("E_NOT_FOUND", f"no shard {shard} in the fleet", details={"exists": exists})


def no_journal(node: Node) -> ErrorBody | None:
    """Without it nobody knows who has a shard, nor where its events are."""
    if not node.troubles.get(NO_JOURNAL):
        return None
    text = f"node {node.name} keeps no journal, so nothing can be handed over to it or by it"
    hint = f"its log says why; then: shardctl respawn --node {node.name}"
    return ErrorBody("E_NOT_READY", text, hint)


def no_target(node: Node) -> ErrorBody | None:
    """Why a node cannot be given a shard now."""
    if node.state is NodeState.UP and not node.retired:
        return None
    if node.state is NodeState.STOPPING or node.retired:
        return ErrorBody("E_DRAINING", f"node {node.name} is ending", "choose another node")
    if node.state in DOWN or node.state is NodeState.BACKOFF:
        why = f": {node.reason}" if node.reason else ""
        text = f"node {node.name} is {node.state.value}{why}"
        return ErrorBody(
            "E_LOST", text, f"choose another node, or: shardctl respawn --node {node.name}"
        )
    text = f"node {node.name} is {node.state.value}"
    return ErrorBody("E_NOT_READY", text, "retry", retryable=True)
