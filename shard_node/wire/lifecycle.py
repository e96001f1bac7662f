"""Bodies of what nodes and broker tell each other about the life of processes and shards."""

from __future__ import annotations

from typing import Final

from shard_node.wire.bodies import Body

INTERRUPTED_MAX: Final = 20
"""So many events are named; the rest is counted."""


class Interrupted(Body, frozen=True):
    """An event whose handlers had started and did not end. They are not run again.
    ``key``: id of its interaction or message."""

    seq: int
    event: str
    guild: int = 0
    key: str = ""


class Recovered(Body, frozen=True):
    """A shard of a new process is ready; ``handled_seq`` is the last event that the process
    before had handled. ``more``: interrupted events beyond those that are named."""

    shard: int
    num_shards: int
    handled_seq: int
    resumed: bool
    interrupted: tuple[Interrupted, ...] = ()
    more: int = 0
