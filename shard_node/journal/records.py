"""What a shard's journal holds: kinds of records and what is in each of them.

A record is a kind, the sequence number that it belongs to and a payload. Interactions are
never among them: their payloads hold tokens.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Final, NamedTuple

import msgspec

SCHEMA: Final = 2
"""What a HEAD says now. 2: events may be another process's to handle (OUT), so whoever does not
know that must not RESUME from what was handled."""
READABLE: Final = frozenset({1, 2})
"""Another number in a HEAD: written by another version, not read."""


class Kind(enum.IntEnum):
    """What a record is. The numbers stand in files and never change their meaning."""

    HEAD = 1
    """``Head``; the first record of every segment."""
    SESSION = 2
    """``Session``; of one that is new everything older is dead."""
    EVENT = 3
    """The gateway's text of an event that changes caches."""
    GUILD = 4
    """``SEQ`` and JSON of a whole guild as it was at that sequence number; the record's own
    number is the guild's id."""
    SEEN = 5
    """Handled up to here."""
    LAST = 6
    """``PAIR`` of channel and message: the newest message of the channel."""
    START = 7
    """msgpack list of ``Started``: their handlers start right after this frame."""
    DONE = 8
    """msgpack list of sequence numbers: their last handler has ended."""
    RELEASED = 9
    """``Released``; nothing of this process comes after it."""
    WAITS = 10
    """msgpack of what waits in a lingering process; the last one counts."""
    PULSE = 11
    """Rates of the shard's events; the last one counts."""
    ENDED = 12
    """The session is over: no RESUME."""
    REST = 13
    """The text of an event that is fed after the GUILD before it; the number is the guild's id."""
    LASTS = 14
    """``PAIR`` after ``PAIR``: what LAST has told, at the beginning of a segment."""
    OUT = 15
    """``SEQ``, a guild: the event is another process's to handle, and not acknowledged."""
    ACK = 16
    """``SEQ``, a guild: its events up to here are handled, by whoever it is."""
    AWAY = 17
    """msgpack ``Away``; of a guild the last one counts."""


class Record(NamedTuple):
    """One entry; ``payload`` as the kind says."""

    kind: int
    seq: int
    payload: bytes


SEQ: Final = struct.Struct("<Q")

PAIR: Final = struct.Struct("<QQ")


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """Grows at its end, by fields that have defaults."""


class Head(_Body, frozen=True):
    """Who writes a segment. ``before`` is the segment that it follows, ``before_bytes`` how
    much of that one its writer had read or written. ``at`` is seconds since the epoch."""

    boot_id: str
    application: str
    num_shards: int
    shard: int
    node: str
    epoch: int
    pid: int
    generation: int
    at: float
    schema: int = SCHEMA
    before: int = 0
    before_bytes: int = 0


class Session(_Body, frozen=True):
    """A gateway session as READY told it; ``user`` and ``application`` as they came.
    ``carried``: a copy at the beginning of a later segment, nothing is dead by it."""

    id: str
    url: str
    user: dict[str, Any]
    application: dict[str, Any]
    guilds: list[int]
    carried: bool = False


class Started(_Body, frozen=True):
    """An event whose handlers have started. ``key``: id of its interaction or message."""

    seq: int
    event: str
    guild: int = 0
    key: str = ""


class Released(_Body, frozen=True):
    """Given up in order. ``at`` and ``last_at`` (last start of a handler): monotonic, s."""

    to: str
    at: float
    last_at: float
    reason: str = ""


class Away(_Body, frozen=True):
    """Where a guild's events go: ``state`` is HELD, ROUTED or HOME. ``owner``: the process that
    has it, of one that is held had it before; "": this one."""

    guild: int
    version: int
    state: str
    owner: str = ""


HELD: Final = "held"
ROUTED: Final = "routed"
HOME: Final = "home"


class Piece(NamedTuple):
    """Something to feed to caches. ``place`` and ``length`` are those of the payload in the
    segment; ``guild`` 0: the bot's own user, or what belongs to no guild."""

    guild: int
    kind: int
    segment: int
    place: int
    length: int
    seq: int


MUTATING: Final = frozenset(
    {
        "CHANNEL_CREATE",
        "CHANNEL_DELETE",
        "CHANNEL_PINS_UPDATE",
        "CHANNEL_UPDATE",
        "GUILD_CREATE",
        "GUILD_DELETE",
        "GUILD_EMOJIS_UPDATE",
        "GUILD_MEMBERS_CHUNK",
        "GUILD_MEMBER_ADD",
        "GUILD_MEMBER_REMOVE",
        "GUILD_MEMBER_UPDATE",
        "GUILD_ROLE_CREATE",
        "GUILD_ROLE_DELETE",
        "GUILD_ROLE_UPDATE",
        "GUILD_SCHEDULED_EVENT_CREATE",
        "GUILD_SCHEDULED_EVENT_DELETE",
        "GUILD_SCHEDULED_EVENT_UPDATE",
        "GUILD_SOUNDBOARD_SOUNDS_UPDATE",
        "GUILD_SOUNDBOARD_SOUND_CREATE",
        "GUILD_SOUNDBOARD_SOUND_DELETE",
        "GUILD_SOUNDBOARD_SOUND_UPDATE",
        "GUILD_STICKERS_UPDATE",
        "GUILD_UPDATE",
        "PRESENCE_UPDATE",
        "STAGE_INSTANCE_CREATE",
        "STAGE_INSTANCE_DELETE",
        "STAGE_INSTANCE_UPDATE",
        "THREAD_CREATE",
        "THREAD_DELETE",
        "THREAD_LIST_SYNC",
        "THREAD_MEMBERS_UPDATE",
        "THREAD_MEMBER_UPDATE",
        "THREAD_UPDATE",
        "USER_UPDATE",
        "VOICE_STATE_UPDATE",
    }
)
"""Events whose parsers change what the library keeps of a guild, its own user included."""

_GUILD_ITSELF: Final = frozenset({"GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"})


def guild_of(event: str, data: dict[str, Any]) -> int | None:
    """The guild that an event belongs to. None: a direct message, or the bot's own user."""
    found = data.get("id" if event in _GUILD_ITSELF else "guild_id")
    return None if found is None else int(found)
