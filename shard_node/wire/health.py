"""What a node tells of the health of its shards."""

from __future__ import annotations

from shard_node.wire.bodies import Body


class ShardHealth(Body, frozen=True):
    """``shard.health``: ``what`` is ``zombie``, ``deaf``, ``partly-deaf`` or ``heard``; ``detail``
    says more, in words."""

    shard: int
    num_shards: int
    what: str
    detail: str = ""
