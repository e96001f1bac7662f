"""Shards spread anew over the nodes that are there: asked for, or (``[balance] auto``) unasked."""

from __future__ import annotations

from typing import Any, Final

from broker.core.balance import Move, Unasked, balanced, imbalance
from broker.core.effects import Effects, Emit, Log, Refuse, Reply
from broker.core.events import Asked, Event, Tick
from broker.core.fleet import Fleet, FleetState
from broker.core.inflight import Ref
from broker.core.loads import loads_of, serving, told
from broker.core.operation import Step
from broker.core.opevents import OperationWanted
from broker.core.states import DOWN
from shard_node.wire.bodies import ErrorBody, ShardState
from shard_node.wire.operations import BalanceRequest, OpReply
from store.records import Durable

BALANCE: Final = "balance"


class Balancer:
    """Plans, and has operations carry out what it planned."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        settings = fleet.settings.balancing
        self._unasked = Unasked(settings.every_s, fleet.started_at) if settings.auto else None
        self._processes: list[tuple[str, int]] = []
        """At the last look: what new ones cost is known at the next."""

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=BalanceRequest() as body):
                return self._asked(ref, body)
            case Tick() if self._unasked is not None and now >= self._unasked.due_at:
                return self._look(self._unasked, now)
        return []

    def next_deadline(self) -> float | None:
        """When the next look is due that nobody asked for."""
        return self._unasked.due_at if self._unasked is not None else None

    def _asked(self, ref: Ref, body: BalanceRequest) -> Effects:
        problem = self._problem()
        if problem is not None:
            return [Refuse(ref, problem)]
        nodes = serving(self._fleet)
        loads, names = loads_of(nodes), [node.name for node in nodes]
        moves = balanced(loads, names)
        plan: dict[str, Any] = {
            "moves": told(moves, loads),
            "imbalance": round(imbalance(loads, names), 3),
        }
        reply = OpReply("", plan)
        if body.dry_run or not moves:
            return [Reply(ref, reply)]
        return [Emit(_wanted(moves, {}, ref, reply))]

    def _problem(self) -> ErrorBody | None:
        fleet = self._fleet
        if fleet.state is FleetState.STOPPING:
            return ErrorBody("E_STOPPING", "the fleet is stopping")
        if not fleet.num_shards:
            return ErrorBody("E_NOT_READY", "the fleet has no plan yet", "retry", True)
        waits = [row for _, row in fleet.shard_rows() if row.state is not ShardState.READY]
        if fleet.state is FleetState.STARTING and waits:
            text = f"the fleet is starting: {len(waits)} of its shards are not ready"
            return ErrorBody("E_NOT_READY", text, "retry when it has started", True)
        return None

    # --- unasked

    def _look(self, unasked: Unasked, now: float) -> Effects:
        nodes = serving(self._fleet) if self._is_calm() else []
        processes = [(node.name, node.epoch) for node in nodes]
        if processes != self._processes:
            self._processes, nodes = processes, []
        loads, names = loads_of(nodes), [node.name for node in nodes]
        moves = unasked.look(loads, names, now)
        if not moves:
            return []
        text = (
            f"the busiest node has {imbalance(loads, names):.2f}x the mean load: "
            f"{len(moves)} shards move"
        )
        return [Log("INFO", text), Emit(_wanted(moves, {"auto": True}, None, None))]

    def _is_calm(self) -> bool:
        """Whether all is as it will be: loads of a fleet in which something is under way say
        little."""
        fleet = self._fleet
        if fleet.state is not FleetState.RUNNING or fleet.deciding:
            return False
        nodes = [n for n in fleet.nodes.values() if not n.retired and n.state not in DOWN]
        if len(nodes) != len(serving(fleet)):
            return False
        rows = [row for node in nodes for row in node.rows.values()]
        if any(row.state is not ShardState.READY for row in rows):
            return False
        return all(fleet.conflict(row.id) is None for row in rows)


def _wanted(
    moves: list[Move], args: dict[str, Any], ref: Ref | None, reply: OpReply | None
) -> OperationWanted:
    steps = tuple(Step(move.source, (move.shard,), target=move.target) for move in moves)
    return OperationWanted(BALANCE, steps, args, ref, reply, abort_on_fail=True)
