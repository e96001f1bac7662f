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


class OthersRequest(Body, frozen=True):
    """``shard.others``: did shards of other nodes get an event of this type within the last
    ``within_s``? Asked for a shard that misses it."""

    shard: int
    num_shards: int
    event: str
    within_s: float


class OthersReply(Body, frozen=True):
    """``heard`` of the ``asked`` other nodes got one."""

    heard: int
    asked: int
