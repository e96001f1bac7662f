"""Ending a node's process: politely with a deadline, or by force."""

from __future__ import annotations

import math
from typing import Any, Final

from broker.core.effects import Effects, Log, Order, Publish, Tell
from broker.core.fleet import Fleet, Node
from broker.core.procs import Proc, Role
from broker.core.states import NodeState
from shard_node.wire.bodies import NodeStop, ShardDisconnect, ShardState
from shard_node.wire.shard_states import CONNECTED, ShardEvent
from shard_node.wire.topics import NODE_STOP, SHARD_DISCONNECT

_S = ShardState

STOP_GRACE_S: Final = 1.0
"""After the drain, before the kill: closing connections takes time too."""
KILL_AGAIN_S: Final = 2.0
"""A kill whose exit is not reported within this is asked for again."""
_TOLD: Final = CONNECTED | {_S.DRAINING}
"""Said to be ready, and not said to have lost its connection since."""
_ENDING: Final = frozenset({_S.DRAINING, _S.HUNG, _S.DEAD, _S.GONE})


def spawn_line(fleet: Fleet, node: Node, epoch: int, role: str = "first") -> dict[str, Any]:
    """Has the supervisor start a process; ``role`` as in the node's own settings."""
    return {
        "op": "spawn",
        "name": f"node:{node.name}",
        "epoch": epoch,
        "index": node.place,
        "shards": list(node.shards),
        "num_shards": fleet.num_shards,
        "role": role,
    }


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
        if row.state not in _ENDING:
            row.on(ShardEvent.DRAIN)
    if registered:
        return [Tell(node.name, node.epoch, NODE_STOP, NodeStop(reason, drain_s, discard_sessions))]
    return [signal(node, "TERM")]


def kill(fleet: Fleet, node: Node, reason: str, now: float) -> Effects:
    """Kills a node's process; nothing else happens to its shards until the exit is reported."""
    node.reason = reason
    node.move(NodeState.STOPPING, now + KILL_AGAIN_S)
    told = speak_for(fleet, node, f"node {node.name} is killed: {reason}")
    for row in node.rows.values():
        if row.state is not ShardState.HUNG:
            row.on(ShardEvent.HUNG)
    fields = {"node": node.name, "epoch": node.epoch, "pid": node.pid}
    said = Log("WARNING", f"node {node.name} is killed: {reason}", fields)
    return [said, signal(node, "KILL"), *told]


def speak_for(fleet: Fleet, node: Node, reason: str) -> Effects:
    """Tells of the end of the shards of a process that cannot tell of it itself."""
    sender, count = f"{node.name}#{node.epoch}", fleet.num_shards
    return [
        Publish(SHARD_DISCONNECT, ShardDisconnect(shard, count, 0, False, reason), sender)
        for shard, row in node.rows.items()
        if row.state in _TOLD
    ]


def end_beside(
    fleet: Fleet, proc: Proc, reason: str, now: float, *, discard_sessions: bool = False
) -> Effects:
    """Asks a process beside its node's current one to end; it is killed when it takes too long.
    One that has yet to register would not hear it, and has nothing to drain."""
    drain_s = fleet.settings.drain_s
    ends = proc.stop_asked or proc.killed or proc.role is Role.LINGERING
    due_at = proc.due_at if ends and proc.due_at is not None else math.inf
    proc.stop_asked, proc.reason = True, reason
    proc.due_at = min(due_at, now + drain_s + STOP_GRACE_S)
    if not proc.registered:
        return [signal(proc, "TERM")]
    body = NodeStop(reason, drain_s, discard_sessions)
    return [Tell(proc.name, proc.epoch, NODE_STOP, body)]


def kill_beside(proc: Proc, reason: str, now: float) -> Effects:
    """Kills a process beside its node's current one; asked for again until its exit comes."""
    again, proc.killed = proc.killed, True
    proc.reason, proc.due_at = reason, now + KILL_AGAIN_S
    order = signal(proc, "KILL")
    if again:
        return [order]
    fields = {"node": proc.name, "epoch": proc.epoch, "pid": proc.pid}
    return [Log("WARNING", f"node {proc.label} is killed: {reason}", fields), order]


def signal(node: Node | Proc, name: str) -> Order:
    """Has the supervisor signal a node's process."""
    line = {"op": "signal", "name": f"node:{node.name}", "epoch": node.epoch, "signal": name}
    return Order(line | ({"why": node.reason} if node.reason else {}))


def rest(node: Node, until: float) -> None:
    """Its next process is due at ``until``, and not started before ``end_rest``."""
    node.move(NodeState.BACKOFF)
    node.rests_until = until


def end_rest(node: Node) -> None:
    """It starts when it is due."""
    node.due_at, node.rests_until = node.rests_until, None
