"""Looks shards up in a status, for what is said without asking the broker to do anything."""

from __future__ import annotations

from shardctl.cli.report import Report, ranges
from shardctl.errors import EXIT_NOT_FOUND, Refused


def node_of(report: Report, shard: int) -> str:
    """The node that holds ``shard``. Raises Refused, as the broker would refuse."""
    nodes = {one["id"]: str(one["node"]) for one in report["shards"]}
    if shard in nodes:
        return nodes[shard]
    raise Refused(
        f"no shard {shard} in the fleet.",
        consequence=f"There are: {ranges(list(nodes))}." if nodes else "There are none.",
        code="E_NOT_FOUND",
        exit_code=EXIT_NOT_FOUND,
    )
