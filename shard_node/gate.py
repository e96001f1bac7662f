"""What becomes of an event of the gateway: parsed with its handlers, or for the caches alone, or
not at all.

Pure. A process that takes a shard over RESUMEs from what somebody has surely handled; events up to
what its predecessor had handled come again then, and no handler may run for them twice. What its
caches were fed with already they are not fed with again.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """How an event is taken."""

    PARSE = "parse"
    SUPPRESS = "suppress"
    """Into the caches, but no handler hears of it: a predecessor's have."""
    SKIP = "skip"
    """It is in the caches too. Of a guild that is another process's it may be wanted there."""


class Gate:
    """Decides for the shards of one process."""

    def __init__(self) -> None:
        self._skipped: dict[int, int] = {}
        self._up_to: dict[int, int] = {}

    def suppress(self, shard: int, up_to: int) -> None:
        """Events of ``shard`` with a sequence number up to ``up_to`` were handled already."""
        self._up_to[shard] = up_to

    def skip(self, shard: int, up_to: int) -> None:
        """Events of ``shard`` up to ``up_to`` were handled, and are in the caches here."""
        self._skipped[shard] = up_to

    def fresh(self, shard: int) -> None:
        """A new session counts from 1 again."""
        self._skipped.pop(shard, None)
        self._up_to.pop(shard, None)

    def decide(self, shard: int, seq: int) -> Verdict:
        """What becomes of event ``seq`` of ``shard``."""
        if self._skipped and (skipped := self._skipped.get(shard)) is not None:
            if seq <= skipped:
                return Verdict.SKIP
            del self._skipped[shard]  # they come in order
        up_to = self._up_to.get(shard)
        if up_to is None:
            return Verdict.PARSE
        if seq <= up_to:
            return Verdict.SUPPRESS
        del self._up_to[shard]
        return Verdict.PARSE
