"""What broker and nodes say while shards go from one process to another.

All of it may be said again: a receiver does each thing once for an operation and a shard.
"""

from __future__ import annotations

import enum
from typing import Final

from shard_node.wire.bodies import Body

NO_JOURNAL: Final = "no_journal"
"""Among a heartbeat's troubles: the process has no locks and keeps no journal, so nothing can be
handed over to it or by it."""


class Phase(enum.StrEnum):
    """How far a process is with a shard that an operation moves.

    A report counts for the operation that it names alone.
    """

    NONE = ""
    """Not touched: the one has the shard as ever, the other has nothing of it."""
    WARMING = "warming"
    """Reads the shard's journal."""
    WARM = "warm"
    ARMED = "armed"
    """Connected; begins its RESUME as soon as the other lets go."""
    RELEASING = "releasing"
    RELEASED = "released"
    TAKING = "taking"
    """Has the shard, and RESUMEs or IDENTIFIes."""
    HELD = "held"
    """RESUMEd: it is this process's now."""
    RETAKEN = "retaken"
    """Given up, not taken by the other, and so taken back."""
    FAILED = "failed"


class ShardArm(Body, frozen=True):
    """Be ready to take these shards from ``source`` ("": from nobody, it is dead)."""

    op: str
    shards: tuple[int, ...]
    num_shards: int
    source: str = ""
    deadline_s: float = 10.0


class ShardRelease(Body, frozen=True):
    """Give these shards up to ``target``; take back what nobody has for ``retake_s``."""

    op: str
    shards: tuple[int, ...]
    target: str
    retake_s: float = 1.0
    reason: str = ""


class ShardDisarm(Body, frozen=True):
    """Let go whatever you have of these shards: the other one shall have them again."""

    op: str
    shards: tuple[int, ...]
    reason: str = ""


class ShardSettle(Body, frozen=True):
    """They are the other's for good: take nothing back."""

    op: str
    shards: tuple[int, ...]


class ShardMoved(Body, frozen=True):
    """A process has come to another phase. ``gap_ms``: from the last event that the one
    handled to the first of the other, -1 where there was none; ``identified``: its session
    was refused."""

    op: str
    shard: int
    num_shards: int
    phase: Phase
    seq: int = 0
    gap_ms: float = -1.0
    identified: bool = False
    guilds: int = 0
    error: str = ""
