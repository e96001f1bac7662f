"""What becomes of an event of the gateway: parsed with its handlers, or for the caches alone.

Pure. A process that takes a shard over RESUMEs from what its caches have seen; events up to
what its predecessor had handled come again then, and no handler may run for them twice.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """How an event is taken."""

    PARSE = "parse"
    SUPPRESS = "suppress"
    """Into the caches, but no handler hears of it: a predecessor's have."""


class Gate:
    """Decides for the shards of one process."""

    def __init__(self) -> None:
        self._up_to: dict[int, int] = {}

    def suppress(self, shard: int, up_to: int) -> None:
        """Events of ``shard`` with a sequence number up to ``up_to`` were handled already."""
        self._up_to[shard] = up_to

    def fresh(self, shard: int) -> None:
        """A new session counts from 1 again."""
        self._up_to.pop(shard, None)

    def decide(self, shard: int, seq: int) -> Verdict:
        """What becomes of event ``seq`` of ``shard``."""
        up_to = self._up_to.get(shard)
        if up_to is None:
            return Verdict.PARSE
        if seq <= up_to:
            return Verdict.SUPPRESS
        del self._up_to[shard]  # they come in order
        return Verdict.PARSE
