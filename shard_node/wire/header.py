"""The header: the first part of every frame, all that the broker reads of it."""

from __future__ import annotations

import enum

import msgspec

from shard_node.wire.credit import Entry, Handled
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import PROTOCOL_VERSION
from shard_node.wire.targets import Target


class Kind(enum.IntEnum):
    """What a frame is, and so how it is delivered."""

    EVENT = 0
    """At most once; may be dropped under overload, and is counted then."""
    MESSAGE = 1
    """At least once, with a receipt; travels within a BATCH only."""
    REQUEST = 2
    """Answered by a REPLY or an ERROR before its deadline, always."""
    REPLY = 3
    ERROR = 4
    RECEIPT = 5
    """Answers a MESSAGE."""
    CREDIT = 6
    """Gives a peer room to send: a Handled from a node, a Forwarded from the broker."""
    BATCH = 7
    """All that one sender had waiting for one target and lane: a list of messages."""
    BOUNCE = 8
    """A BATCH that holds more than events comes back: the same lane and seq, an ErrorBody."""


class Header(msgspec.Struct, array_like=True, frozen=True):
    """An array; fields are only ever appended, each with a default.

    ``topic`` names the type of the body. ``correlation`` ties a reply to its request and
    is chosen by the requester (0: none). ``ttl_ms`` is what remains of the deadline when
    the frame is sent (0: none). ``sender`` is written by the broker from the socket's
    identity when it forwards; what a peer puts there is ignored. ``seq`` counts a
    sender's BATCH frames in a lane, from 1.

    Of a BATCH: ``count`` messages; ``flags`` as in ``batch.Flag``; ``pin`` the routing id
    that a resend was forwarded to first; ``low`` the sender's lowest message number in this
    lane that has no receipt yet (0: none waits); ``sent_at`` the sender's wall clock in
    seconds; ``handled`` the sender's credit to the broker, ``forwarded`` the broker's to the
    receiver, as their own CREDIT frames would carry them.
    """

    version: int
    kind: Kind
    target: Target
    topic: str
    lane: Lane = Lane.NORMAL
    correlation: int = 0
    ttl_ms: int = 0
    sender: str = ""
    seq: int = 0
    count: int = 1
    flags: int = 0
    pin: str = ""
    low: int = 0
    sent_at: float = 0.0
    handled: Handled | None = None
    forwarded: list[Entry] | None = None


def header(
    kind: Kind,
    target: Target,
    topic: str,
    *,
    lane: Lane = Lane.NORMAL,
    correlation: int = 0,
    ttl_ms: int = 0,
    sender: str = "",
) -> Header:
    """A header of this protocol version."""
    return Header(PROTOCOL_VERSION, kind, target, topic, lane, correlation, ttl_ms, sender)
