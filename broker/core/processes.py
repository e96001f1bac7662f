"""Ending a node's process: politely with a deadline, or by force."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Log, Order, Tell
from broker.core.fleet import Fleet, Node
from broker.core.states import NodeState
from shard_node.wire.bodies import NodeStop, ShardState
from shard_node.wire.topics import NODE_STOP

STOP_GRACE_S: Final = 1.0
"""After the drain, before the kill: closing connections takes time too."""
KILL_AGAIN_S: Final = 2.0
"""A kill whose exit is not reported within this is asked for again."""
_ENDED: Final = frozenset({ShardState.LOST, ShardState.GONE, ShardState.DRAINING})


def ask_stop(
    fleet: Fleet, node: Node, reason: str, now: float, *, discard_sessions: bool = False
) -> Effects:
    """Asks a node's process to drain and end; it is killed when it takes too long."""
    drain_s = fleet.settings.drain_s
    registered = node.state is NodeState.UP
    node.stop_asked = True
    node.reason = reason
    node.move(NodeState.STOPPING, now + drain_s + STOP_GRACE_S)
    for row in node.rows.values():
        if row.state not in _ENDED:
            row.move(ShardState.DRAINING)
    if registered:
        return [Tell(node.name, node.epoch, NODE_STOP, NodeStop(reason, drain_s, discard_sessions))]
    return [signal(node, "TERM")]


def kill(node: Node, reason: str, now: float) -> Effects:
    """Kills a node's process; its shards are lost until the exit is reported."""
    node.reason = reason
    node.move(NodeState.STOPPING, now + KILL_AGAIN_S)
    for row in node.rows.values():
        if row.state is not ShardState.GONE:
            row.move(ShardState.LOST)
    fields = {"node": node.name, "epoch": node.epoch, "pid": node.pid}
    return [Log("WARNING", f"node {node.name} is killed: {reason}", fields), signal(node, "KILL")]


def signal(node: Node, name: str) -> Order:
    """Has the supervisor signal a node's process."""
    line = {"op": "signal", "name": f"node:{node.name}", "epoch": node.epoch, "signal": name}
    return Order(line | ({"why": node.reason} if node.reason else {}))
