"""What services and operations tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from broker.core.events import Event
from broker.core.inflight import Ref
from broker.core.operation import Step
from shard_node.wire.bodies import Body
from shard_node.wire.handover import ShardMoved
from shard_node.wire.migration import GuildMoved


@dataclass(frozen=True, slots=True)
class ShardSaid(Event):
    """A process has come further with a shard, for what is no operation."""

    name: str
    epoch: int
    body: ShardMoved


@dataclass(frozen=True, slots=True)
class GuildSaid(Event):
    """A process has come further with a guild; what it said is in ``Fleet.guilds``."""

    name: str
    epoch: int
    body: GuildMoved


@dataclass(frozen=True, slots=True)
class OperationWanted(Event):
    """A service wants these steps done. ``ref``: who asked for it (None: nobody), and gets
    ``reply`` with its ``op`` set (None: an OpReply), or why not. ``queue``: wait for those that
    have the same shards or nodes, instead of being refused."""

    kind: str
    steps: tuple[Step, ...]
    args: dict[str, Any]
    ref: Ref | None = None
    reply: Body | None = None
    queue: bool = False
    max_unavailable: int = 1
    abort_on_fail: bool = False


@dataclass(frozen=True, slots=True)
class AdoptionWanted(Event):
    """A node has died, and its process is not started before somebody has its shards."""

    name: str


@dataclass(frozen=True, slots=True)
class OperationEnded(Event):
    """Nothing more comes of an operation; of one that was refused (``op`` empty) and of which
    nobody asked, nothing ever came."""

    op: str
    kind: str
    state: str
    reason: str
    args: dict[str, Any]
