"""What broker and nodes say while guilds go from one process to another, and what a shard's
holder says to the process that has one of its guilds.

All of it may be said again: a receiver does each thing once for a guild and a version.
"""

from __future__ import annotations

import enum

from shard_node.wire.bodies import Body
from shard_node.wire.lifecycle import Interrupted


class GuildPart(enum.StrEnum):
    """As what a process speaks of a guild."""

    FEEDER = "feeder"
    OWNER = "owner"


class GuildPhase(enum.StrEnum):
    """How far a process is with a guild."""

    NONE = ""
    HOME = "home"
    HELD = "held"
    ROUTED = "routed"
    BURST = "burst"
    WARMING = "warming"
    WARM = "warm"
    OWNED = "owned"
    DRAINING = "draining"
    RELEASED = "released"
    FAILED = "failed"
    LEFT = "left"


class MigrateRequest(Body, frozen=True):
    """Give a guild to the node ``node``, or to whoever holds ``shard``; ``back``: to the holder of
    its own shard. Handlers that run get ``drain_s``; ``queue`` as in RespawnRequest."""

    guild: int
    node: str = ""
    shard: int = -1
    back: bool = False
    dry_run: bool = False
    queue: bool = False
    drain_s: float = 0.1


class MigrationsRequest(Body, frozen=True):
    """Asks for the guilds that were given away."""

    page: int = 0


class GuildAt(Body, frozen=True):
    """An event of a shard's session."""

    session: str = ""
    seq: int = 0


class GuildTake(Body, frozen=True):
    """Have this guild, of ``shard``; ``owner`` is the process that has it ("": none). Without
    ``lock`` only warm it; with it, handle its events after ``up_to``."""

    guild: int
    version: int
    shard: int
    num_shards: int
    owner: str = ""
    lock: bool = False
    up_to: GuildAt = GuildAt()


class GuildHold(Body, frozen=True):
    """To the shard's holder: the guild's events wait, in order, until it is told where they go."""

    guild: int
    version: int
    drain_s: float = 0.1


class GuildRelease(Body, frozen=True):
    """To the owner: let the guild go to the process ``to``, once its handlers have ended, or after
    ``drain_s``."""

    guild: int
    version: int
    to: str
    drain_s: float = 0.1


class GuildRoute(Body, frozen=True):
    """To the shard's holder: the guild's events go to the process ``owner``; "": they are handled
    where they come."""

    guild: int
    version: int
    owner: str = ""


class GuildDrop(Body, frozen=True):
    """Keep nothing of the guild."""

    guild: int
    version: int
    reason: str = ""


class GuildMoved(Body, frozen=True):
    """A process has come to another phase, or says it again. ``at``: up to where the guild's events
    are handled. Of the feeder ``held`` events wait, since ``held_ms``; of the owner ``running``
    events have handlers that run, and ``interrupted`` are those of a dead owner."""

    guild: int
    version: int
    part: GuildPart
    phase: GuildPhase
    owner: str = ""
    at: GuildAt = GuildAt()
    held: int = 0
    held_ms: float = 0.0
    running: int = 0
    views: int = 0
    voice: int = 0
    interrupted: tuple[Interrupted, ...] = ()
    error: str = ""


class GuildEvents(Body, frozen=True):
    """From the shard's holder to the guild's owner: ``events`` (number, name, the gateway's text)
    of one session; ``after`` is the number of the one before them, 0 where they are the first."""

    guild: int
    version: int
    num_shards: int
    shard: int
    session: str
    after: int
    events: tuple[tuple[int, str, bytes], ...]


class GuildHandled(Body, frozen=True):
    """Handled up to here, and written down. ``code``: "", "gap" (what comes before is missing) or
    "elsewhere" (the guild is not this process's)."""

    session: str
    seq: int
    code: str = ""
