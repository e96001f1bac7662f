"""What operators ask of living processes: a shard's connection opened anew, an extension of the
bot reloaded. The processes go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core.effects import Ask, Effects, Log, Refuse, Reply, Tell
from broker.core.events import Asked, Event, NodeGone, Tick
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.inflight import Ref
from broker.core.opevents import ShardSaid
from broker.core.states import NodeState
from broker.services.planning import budget_problem
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.handover import Phase, ShardMoved
from shard_node.wire.operations import (
    NodeReload,
    Reconnected,
    ReconnectRequest,
    ReloadRequest,
    ShardReconnect,
)
from shard_node.wire.topics import NODE_RELOAD, SHARD_RECONNECT
from store.records import Durable

TOLD_AGAIN_S: Final = 1.0
"""An event may be lost; a node does the same operation once."""


@dataclass(slots=True)
class Pending:
    """A shard that connects anew. ``ref`` is who waits for it, until its deadline."""

    ref: Ref
    node: str
    epoch: int
    asked: ShardReconnect
    again_at: float


class Reconnects:
    """One at a time for each shard; a new broker knows nothing of those before it."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._pending: dict[int, Pending] = {}
        self._count = 0

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=ReconnectRequest() as body):
                return self._reconnect(ref, body, now)
            case Asked(ref=ref, body=ReloadRequest() as body):
                return [self._reload(ref, body)]
            case ShardSaid(name=name, epoch=epoch, body=body):
                return self._moved((name, epoch), body)
            case NodeGone(name=name, epoch=epoch):
                return self._gone(name, epoch)
            case Tick():
                return self._tell_again(now)
        return []

    def next_deadline(self) -> float | None:
        """When somebody is told again, or does not wait any more."""
        times = (min(one.again_at, one.ref.deadline) for one in self._pending.values())
        return min(times, default=None)

    # --- a connection

    def _reconnect(self, ref: Ref, body: ReconnectRequest, now: float) -> Effects:
        node = self._fleet.holder(body.shard)
        problem = self._problem(node, body, now)
        if node is None or problem is not None:
            return [Refuse(ref, problem or self._unknown(body.shard))]
        self._count += 1
        settings = self._fleet.settings
        op = f"reconnect-{settings.incarnation}-{self._count}"
        asked = ShardReconnect(op, body.shard, self._fleet.num_shards, body.fresh)
        self._pending[body.shard] = Pending(ref, node.name, node.epoch, asked, now + TOLD_AGAIN_S)
        how = "with a new session" if body.fresh else "by RESUME"
        return [
            Log("INFO", f"shard {body.shard} of node {node.name} connects anew, {how}"),
            Tell(node.name, node.epoch, SHARD_RECONNECT, asked),
        ]

    def _problem(self, node: Node | None, body: ReconnectRequest, now: float) -> ErrorBody | None:
        if self._fleet.state is FleetState.STOPPING:
            return ErrorBody("E_STOPPING", "the fleet is stopping")
        if node is None:
            return self._unknown(body.shard)
        if node.state is not NodeState.UP:
            return _not_up(node)
        conflict = self._fleet.conflict(body.shard)
        if conflict is not None:
            return conflict
        if body.shard in self._pending:
            text = f"shard {body.shard} is being reconnected already"
            return ErrorBody("E_CONFLICT", text, "wait a moment, and look: shardctl status", True)
        return budget_problem(self._fleet, 1, now) if body.fresh else None

    def _unknown(self, shard: int) -> ErrorBody:
        exists = [row.id for _, row in self._fleet.shard_rows()]
        return ErrorBody(
            "E_NOT_FOUND", f"no shard {shard} in the fleet", details={"exists": exists}
        )

    def _moved(self, who: tuple[str, int], body: ShardMoved) -> Effects:
        pending = self._pending.get(body.shard)
        if pending is None or pending.asked.op != body.op:
            return []
        if (pending.node, pending.epoch) != who:
            return []
        if body.phase is Phase.HELD:
            del self._pending[body.shard]
            answer = Reconnected(pending.node, body.gap_ms, body.identified)
            return [Reply(pending.ref, answer)]
        if body.phase is Phase.FAILED:
            del self._pending[body.shard]
            text = f"shard {body.shard} was not reconnected: {body.error}"
            return [Refuse(pending.ref, ErrorBody("E_NOT_READY", text, "shardctl status", True))]
        return []

    def _gone(self, name: str, epoch: int) -> Effects:
        effects: Effects = []
        for shard, pending in list(self._pending.items()):
            if (pending.node, pending.epoch) == (name, epoch):
                del self._pending[shard]
                text = f"node {name} ended while shard {shard} connected anew"
                hint = "it is started again, and RESUMEs: shardctl status"
                effects.append(Refuse(pending.ref, ErrorBody("E_NOT_READY", text, hint, True)))
        return effects

    def _tell_again(self, now: float) -> Effects:
        effects: Effects = []
        for shard, pending in list(self._pending.items()):
            if now >= pending.ref.deadline:
                del self._pending[shard]  # whoever asked has been told so
            elif now >= pending.again_at:
                pending.again_at = now + TOLD_AGAIN_S
                effects.append(Tell(pending.node, pending.epoch, SHARD_RECONNECT, pending.asked))
        return effects

    # --- an extension

    def _reload(self, ref: Ref, body: ReloadRequest) -> Ask | Refuse:
        node = self._fleet.nodes.get(body.node)
        if node is None:
            text = f"no node {body.node!r}"
            details = {"exists": list(self._fleet.nodes)}
            return Refuse(ref, ErrorBody("E_NOT_FOUND", text, details=details))
        if node.state is not NodeState.UP:
            return Refuse(ref, _not_up(node))
        return Ask(ref, node.name, node.epoch, NODE_RELOAD, NodeReload(body.extension))


def _not_up(node: Node) -> ErrorBody:
    text = f"node {node.name} is {node.shown_state}"
    return ErrorBody("E_NOT_READY", text, "shardctl status", True)
