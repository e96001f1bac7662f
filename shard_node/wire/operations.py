"""Bodies of what operators ask of shards and nodes, and what the broker asks of nodes then."""

from __future__ import annotations

from typing import Any

import msgspec

from shard_node.wire.bodies import Body


class MoveRequest(Body, frozen=True):
    """Move a shard to another node; ``queue`` as in RespawnRequest."""

    shard: int
    node: str
    dry_run: bool = False
    queue: bool = False


class BalanceRequest(Body, frozen=True):
    """Move shards until the nodes have about the same load."""

    dry_run: bool = False


class ScaleRequest(Body, frozen=True):
    """Have so many nodes: new ones take shards over, or the last ones give theirs up."""

    nodes: int
    dry_run: bool = False
    queue: bool = False


class ReconnectRequest(Body, frozen=True):
    """Close a shard's gateway connection and open it again: by RESUME, or (``fresh``) with a
    new session."""

    shard: int
    fresh: bool = False


class Reconnected(Body, frozen=True):
    """It is open again after ``gap_ms``; ``identified``: with a new session, also where a
    RESUME was wanted and refused."""

    node: str
    gap_ms: float
    identified: bool


class OpRequest(Body, frozen=True):
    """Names an operation."""

    op: str


class OpsRequest(Body, frozen=True):
    """Asks for the operations, latest first."""

    page: int = 0


class OpReply(Body, frozen=True):
    """An operation has begun, or waits for its turn; ``op`` is empty for a dry run. ``plan`` is
    what is known before, for people and programs."""

    op: str
    plan: dict[str, Any] = msgspec.field(default_factory=dict)


class ReloadRequest(Body, frozen=True):
    """Reload an extension of the bot on a node, which answers itself."""

    extension: str
    node: str


class NodeReload(Body, frozen=True):
    """To a node: reload this extension."""

    extension: str


class NodeReloaded(Body, frozen=True):
    """``error`` is empty, or what the extension's loading raised, in one line."""

    ok: bool
    error: str = ""


class ShardReconnect(Body, frozen=True):
    """To the holder of a shard: connect anew. It says ``shard.moved`` with ``held`` when it has
    done so, or ``failed``."""

    op: str
    shard: int
    num_shards: int
    fresh: bool = False


class FleetReady(Body, frozen=True):
    """All shards are ready for the first time since the fleet was started; ``start`` is the
    same for one start of the fleet."""

    start: str
