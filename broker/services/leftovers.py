"""What processes still report of operations that are over, or that nobody knows."""

from __future__ import annotations

from collections.abc import Iterator

from broker.core.effects import Effects, Tell
from broker.core.fleet import Fleet
from broker.core.handover import Disarm, Settle, leftover
from broker.core.procs import Role
from shard_node.wire.handover import Phase, ShardDisarm, ShardSettle
from shard_node.wire.topics import SHARD_DISARM, SHARD_SETTLE


def tidy(fleet: Fleet, busy: frozenset[tuple[str, int]]) -> Effects:
    """Tells them to let go, or to take nothing back. ``busy``: what is under way."""
    effects: Effects = []
    for who, op, shard, phase in _reported(fleet):
        if not op or (op, shard) in busy:
            continue
        node = fleet.current(*who)
        kind = leftover(phase, owns=node is not None and shard in node.rows)
        if kind is Disarm:
            body = ShardDisarm(op, (shard,), "the operation is over")
            effects.append(Tell(*who, SHARD_DISARM, body))
        elif kind is Settle:
            effects.append(Tell(*who, SHARD_SETTLE, ShardSettle(op, (shard,))))
    fleet.counts["transfers_leftover"] += len(effects)
    return effects


def _reported(fleet: Fleet) -> Iterator[tuple[tuple[str, int], str, int, Phase]]:
    for node in fleet.nodes.values():
        for shard, phase in node.phases.items():
            yield (node.name, node.epoch), node.ops.get(shard, ""), shard, phase
    for who, proc in fleet.procs.items():
        if proc.role is Role.LINGERING:
            for shard, phase in proc.phases.items():
                yield who, proc.op, shard, phase
