"""Plans that moves and scales have made, as they are kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from broker.core.fleet import Fleet
from store.records import PlanNode, PlanRecord


def plan_after(
    fleet: Fleet,
    shards: Collection[int] = (),
    target: str = "",
    *,
    more: Iterable[PlanNode] = (),
    without: str = "",
) -> PlanRecord:
    """The fleet's plan with these shards on ``target``, with ``more`` nodes, or without one."""
    nodes = []
    for node in fleet.nodes.values():
        if node.retired or node.name == without:
            continue
        stays = [shard for shard in node.shards if shard not in shards]
        comes = shards if node.name == target else ()
        nodes.append(PlanNode(node.name, node.place, tuple(sorted((*stays, *comes)))))
    return PlanRecord(fleet.num_shards, (*nodes, *more), fleet.settings.nodes or 0)


def standing(plan: PlanRecord | None, num_shards: int, nodes: int | None) -> PlanRecord | None:
    """The plan of the fleet before, where it was shaped since it was made, and neither the shards
    nor the settings' ``nodes`` are others now. Its nodes without a shard stay away."""
    if plan is None or plan.shaped != (nodes or 0) or plan.num_shards != num_shards:
        return None
    held = [shard for node in plan.nodes for shard in node.shards]
    if sorted(held) != list(range(num_shards)):
        return None
    return PlanRecord(num_shards, tuple(n for n in plan.nodes if n.shards), plan.shaped)
