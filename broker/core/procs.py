"""Processes beside the one that carries a node's name: those to come, and those that were.

A node may have several living processes. The current one is ``Node.epoch``; a successor starts
beside it and takes its shards over, and what has given them up lingers for what still waits
in it. All of them are told apart by name and epoch.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from shard_node.wire.bodies import ShardReport
from shard_node.wire.handover import Phase


class Role(enum.StrEnum):
    """What a process is, that is not its node's current one."""

    SUCCESSOR = "successor"
    LINGERING = "lingering"


@dataclass(slots=True)
class Proc:
    """``op`` is the operation that it belongs to; ``due_at``: by then it has to be ready (a
    successor) or gone (one that lingers, or was killed). ``phases`` are by shard, as it reports
    them for ``op``; none: it has not registered with this broker. ``reports`` are the last ones
    by shard, ``topics`` what it subscribed to. ``lingers`` counts what waits in it.
    ``heartbeat_at`` is None before the first heartbeat that this broker had from it."""

    name: str
    epoch: int
    role: Role
    op: str
    pid: int = 0
    registered: bool = False
    heard_at: float = 0.0
    heartbeat_at: float | None = None
    spawned_at: float = 0.0
    due_at: float | None = None
    killed: bool = False
    stop_asked: bool = False
    phases: dict[int, Phase] = field(default_factory=dict)
    reports: dict[int, ShardReport] = field(default_factory=dict)
    rss_bytes: int = 0
    queue: int = 0
    loop_lag_ms: float = 0.0
    cpu_s: float = 0.0
    troubles: dict[str, int] = field(default_factory=dict)
    disnake: str = ""
    voice: int = 0
    lingers: int = 0
    tail: tuple[str, ...] = ()
    reason: str = ""

    @property
    def label(self) -> str:
        """As people and messages name it."""
        return f"{self.name}#{self.epoch}"
