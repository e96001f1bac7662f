"""Bodies of what nodes and broker tell each other about the life of processes and shards."""

from __future__ import annotations

from typing import Final

from shard_node.wire.bodies import Body

RESUME_MAX_S: Final = 600.0
"""How old a session may be that is RESUMEd: what the gateway's documentation does not say, and
practice shows, is some minutes."""
INTERRUPTED_MAX: Final = 20
"""So many events are named; the rest is counted."""
KEY_MAX_CHARS: Final = 64


class Interrupted(Body, frozen=True):
    """An event whose handlers had started and did not end. They are not run again.
    ``key``: id of its interaction or message."""

    seq: int
    event: str
    guild: int = 0
    key: str = ""

    def words(self) -> str:
        """For people."""
        guild = f" of guild {self.guild}" if self.guild else ""
        key = f" ({self.key[:KEY_MAX_CHARS]})" if self.key else ""
        return f"{self.event[:KEY_MAX_CHARS]} {self.seq}{guild}{key}"


class Recovered(Body, frozen=True):
    """A shard of a new process is ready; ``handled_seq`` is the last event that the process
    before had handled. ``more``: interrupted events beyond those that are named; ``why``: what was
    wrong with the journal, so that the shard had to IDENTIFY."""

    shard: int
    num_shards: int
    handled_seq: int
    resumed: bool
    interrupted: tuple[Interrupted, ...] = ()
    more: int = 0
    why: str = ""
