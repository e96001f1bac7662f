"""What each shard costs, from what the nodes report: a process's CPU is its shards' by their
events, the memory of all is theirs by their guilds. So a shard costs the same where it moves to:
what is measured of a process alone would not follow its shards soon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from broker.core.balance import Load, Move
from broker.core.fleet import Fleet, Node
from broker.core.shardrow import ShardRow
from broker.core.states import NodeState
from shard_node.wire.bodies import ShardState
from shard_node.wire.handover import NO_JOURNAL


def serving(fleet: Fleet) -> list[Node]:
    """The nodes whose shards can move, and that can be given some, in order of place."""
    nodes = [
        node
        for node in fleet.nodes.values()
        if node.state is NodeState.UP
        and node.reported
        and not (node.retired or node.troubles.get(NO_JOURNAL))
    ]
    return sorted(nodes, key=lambda node: node.place)


def loads_of(nodes: Sequence[Node]) -> list[Load]:
    """Those of the shards that are ready."""
    return sorted(chain.from_iterable(_of(node, _per_guild(nodes)) for node in nodes))


def told(moves: Iterable[Move], loads: Sequence[Load]) -> list[dict[str, Any]]:
    """Moves as the replies to operators have them, with what each shard costs."""
    by_shard = {load.shard: load for load in loads}
    return [
        {
            "shard": move.shard,
            "from": move.source,
            "to": move.target,
            "events_per_s": round(by_shard[move.shard].events_per_s, 2),
            "cpu": round(by_shard[move.shard].cpu, 4),
            "rss_bytes": round(by_shard[move.shard].rss_bytes),
            "gain": round(move.gain, 4),
        }
        for move in moves
    ]


def _of(node: Node, per_guild: float) -> list[Load]:
    rows = _ready(node)
    known = sum(max(0.0, row.events_per_s) for row in rows)
    found = []
    for row in rows:
        events = max(0.0, row.events_per_s)
        part = events / known if known else 1 / len(rows)
        memory = per_guild * (row.guilds + 1)
        found.append(Load(row.id, node.name, events, node.cpu * part, memory))
    return found


def _per_guild(nodes: Sequence[Node]) -> float:
    guilds = sum(row.guilds + 1 for node in nodes for row in _ready(node))
    return sum(node.rss_bytes for node in nodes) / guilds if guilds else 0.0


def _ready(node: Node) -> list[ShardRow]:
    return [row for row in node.rows.values() if row.state is ShardState.READY]
