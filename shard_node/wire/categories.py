"""Typed bodies of the protocol's types and categories, and what they are made of.

Codec: a MessagePack array of the fields in order; a ``...Fields`` struct is a map that holds
only the fields that changed. Ids are Discord's snowflakes, integers. What ends in ``_at`` is
wall clock time in seconds since the epoch; a version counts the changes of one record from
1, 0 means that it was not there; ``lsn`` is the log sequence number of the change, 0 where
it did not go through the log; ``op`` is the id of the operation that made it, "" likewise.
``topics.TOPICS`` gives each its lane and delivery class.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from shard_node.wire.bodies import Body


class Fields(msgspec.Struct, frozen=True, omit_defaults=True):
    """Root of the partial records: a map of what changed. Unset: as before."""


# --- state


class StateUpdate(Body, frozen=True):
    """STATE_UPDATE: one record of a table changed, told in both directions: asked of the broker
    it is a transaction, whose id is ``op`` (hexadecimal; "": none of the sender's), where the
    record has ``old_version`` (-1: any).

    ``partition`` (0 to 255) and ``key`` name the record in ``table``; ``changed`` holds the
    new values of the fields that changed and ``removed`` the fields that are gone.
    ``new_version`` 0: the record was deleted.
    """

    table: str
    partition: int
    key: str
    changed: dict[str, Any]
    old_version: int
    new_version: int
    lsn: int = 0
    op: str = ""
    removed: tuple[str, ...] = ()


class Record(Body, frozen=True):
    """One whole record in a GUILD_SYNC."""

    table: str
    key: str
    version: int
    fields: dict[str, Any]


class GuildSync(Body, frozen=True):
    """GUILD_SYNC: all records of a guild as of ``lsn``, for who missed changes; or those that a
    node has, for the broker to write what differs.

    More than fits into a body goes in ``parts``; ``part`` counts from 0. Where the broker is
    asked for a guild, ``after`` says where to ask on, and b"" that this is all.
    """

    guild: int
    lsn: int
    records: tuple[Record, ...]
    part: int = 0
    parts: int = 1
    after: bytes = b""


# --- what gateway events feed


class RoleInfo(Body, frozen=True):
    """A role; ``permissions`` is Discord's bit set, ``color`` 0xRRGGBB."""

    name: str
    permissions: int
    position: int = 0
    color: int = 0


class GuildFields(Fields, frozen=True):
    """What changed of a guild. ``roles`` holds the changed ones by id, None for a deleted
    one; ``icon`` is Discord's hash or None."""

    name: str | UnsetType = UNSET
    owner: int | UnsetType = UNSET
    icon: str | UnsetType | None = UNSET
    locale: str | UnsetType = UNSET
    members: int | UnsetType = UNSET
    roles: dict[int, RoleInfo | None] | UnsetType = UNSET
    features: tuple[str, ...] | UnsetType = UNSET
    available: bool | UnsetType = UNSET


class GuildInfo(Body, frozen=True):
    """GUILD_INFO: a guild changed. ``new_version`` 0: the bot left it."""

    guild: int
    changed: GuildFields
    old_version: int
    new_version: int
    lsn: int = 0
    op: str = ""


class MemberFields(Fields, frozen=True):
    """What changed of a member. ``permissions`` are those in the whole guild, Discord's bit
    set; ``timeout_at`` is when a timeout ends, None for none."""

    nick: str | UnsetType | None = UNSET
    roles: tuple[int, ...] | UnsetType = UNSET
    permissions: int | UnsetType = UNSET
    avatar: str | UnsetType | None = UNSET
    joined_at: float | UnsetType = UNSET
    timeout_at: float | UnsetType | None = UNSET
    pending: bool | UnsetType = UNSET


class MemberUpdate(Body, frozen=True):
    """MEMBER_UPDATE: a member of a guild changed. ``new_version`` 0: it left."""

    guild: int
    user: int
    changed: MemberFields
    old_version: int
    new_version: int
    lsn: int = 0
    op: str = ""


class UserFields(Fields, frozen=True):
    """What changed of a user; ``avatar`` is Discord's hash or None."""

    name: str | UnsetType = UNSET
    global_name: str | UnsetType | None = UNSET
    avatar: str | UnsetType | None = UNSET
    bot: bool | UnsetType = UNSET


class UserUpdate(Body, frozen=True):
    """USER_UPDATE: a user changed, in all guilds alike."""

    user: int
    changed: UserFields
    old_version: int
    new_version: int
    lsn: int = 0
    op: str = ""


class PresenceUpdate(Body, frozen=True):
    """PRESENCE_UPDATE: a user's status in a guild. ``status`` is online, idle, dnd or
    offline; ``activities`` are their names; ``seen_at`` tells a newer one from an older."""

    guild: int
    user: int
    status: str
    activities: tuple[str, ...] = ()
    seen_at: float = 0.0


# --- what nodes tell of themselves


class ShardStats(Body, frozen=True):
    """A shard's part of STATS_UPDATE. ``latency_ms`` is -1 before the first ACK; ``events``
    and ``commands`` count since the node's start."""

    shard: int
    guilds: int
    members: int
    latency_ms: float
    events: int = 0
    commands: int = 0


class StatsUpdate(Body, frozen=True):
    """STATS_UPDATE: a node and its shards. ``cpu_percent`` is of one core since the last one,
    ``rss_bytes`` the resident set, ``loop_lag_ms`` how long the loop has not turned."""

    node: str
    epoch: int
    measured_at: float
    uptime_s: float
    rss_bytes: int
    cpu_percent: float
    loop_lag_ms: float
    shards: tuple[ShardStats, ...] = ()


class Broadcast(Body, frozen=True):
    """BROADCAST: whatever the bot's author wants all subscribers to know.

    A map alone stands for the body with that ``data``.
    """

    data: dict[str, Any]
    name: str = ""


class CacheInvalidate(Body, frozen=True):
    """CACHE_INVALIDATE: forget what is cached. ``keys`` empty: the whole ``cache``;
    ``guild`` 0: of all guilds. What was cached at ``lsn`` or later may stay."""

    cache: str
    keys: tuple[str, ...] = ()
    guild: int = 0
    lsn: int = 0
    reason: str = ""


# --- commands run for somebody else

Option = bool | int | float | str


class CommandExec(Body, frozen=True):
    """COMMAND_EXEC: run a command of the bot in a guild, on the guild's owner.

    ``command`` is a slash command with its group and subcommand (``"mod ban"``), or a
    prefix command as a user types it (``"!say hello"``); a leading ``/`` names a slash
    command only. ``options`` are by name; an id, a mention or a name stands for a user, a
    channel or a role, and a string for a number or a truth value. ``user``: in whose name,
    0 for the bot itself. ``channel`` 0: the first text channel of the guild where that user
    may write. ``timeout_s``: how long the command may take until its answer.
    """

    guild: int
    command: str
    options: dict[str, Option] = msgspec.field(default_factory=dict)
    user: int = 0
    channel: int = 0
    timeout_s: float = 4.0


class CommandReply(Body, frozen=True):
    """One message of the answer. ``embeds`` and ``components`` are as in Discord's API;
    ``files`` are names. ``ephemeral``: only the user would have seen it."""

    content: str = ""
    embeds: tuple[dict[str, Any], ...] = ()
    ephemeral: bool = False
    components: tuple[dict[str, Any], ...] = ()
    files: tuple[str, ...] = ()


class CommandResult(Body, frozen=True):
    """The answer to COMMAND_EXEC.

    ``kind`` is ``slash`` or ``prefix``; ``command`` the whole name; ``user`` and ``channel``
    those it ran as and in. ``error``: what the command failed with where the bot's own error
    handler answered, "" otherwise. ``finished`` False: it had answered and went on beyond
    its time. ``deferred``: it promised an answer and gave none.
    """

    node: str
    shard: int
    kind: str
    command: str
    user: int
    channel: int
    replies: tuple[CommandReply, ...] = ()
    error: str = ""
    finished: bool = True
    deferred: bool = False
    elapsed_ms: float = 0.0
