"""What the node's session asks of its shell. Pure."""

from __future__ import annotations

import enum
from typing import Any, Final, NamedTuple

from shard_node.errors import ShardNodeError
from shard_node.wire.header import Header


class Link(enum.Enum):
    """How the node stands with its broker."""

    UNREGISTERED = "unregistered"
    REGISTERED = "registered"
    AWAY = "away"
    REFUSED = "refused"
    CLOSED = "closed"


TRANSITIONS: Final[dict[tuple[Link, str], Link]] = {
    (Link.UNREGISTERED, "welcomed"): Link.REGISTERED,
    (Link.UNREGISTERED, "refused"): Link.REFUSED,
    (Link.REGISTERED, "welcomed"): Link.REGISTERED,
    (Link.REGISTERED, "lost"): Link.UNREGISTERED,
    (Link.REGISTERED, "silent"): Link.AWAY,
    (Link.AWAY, "heard"): Link.REGISTERED,
    (Link.AWAY, "lost"): Link.UNREGISTERED,
    (Link.UNREGISTERED, "closed"): Link.CLOSED,
    (Link.REGISTERED, "closed"): Link.CLOSED,
    (Link.AWAY, "closed"): Link.CLOSED,
    (Link.REFUSED, "closed"): Link.CLOSED,
}
"""Every transition; what is missing changes nothing."""


class Transmit(NamedTuple):
    """Send this frame; drop it unsent once ``expires_at`` has passed."""

    header: Header
    body: bytes
    expires_at: float


class Settle(NamedTuple):
    """The request ``correlation`` has its reply."""

    correlation: int
    reply: Any


class Fail(NamedTuple):
    """The request ``correlation`` has failed."""

    correlation: int
    error: ShardNodeError


class Deliver(NamedTuple):
    """A frame for whoever listens to its topic."""

    header: Header
    body: bytes


class StopAsked(NamedTuple):
    """The broker asks the node to stop; ``drain_s`` None takes the node's own setting."""

    reason: str
    drain_s: float | None
    discard_sessions: bool


class LinkChanged(NamedTuple):
    """The broker came or went. Unless it came, the shell gives back what it has not sent
    (``take_back``) before it carries out the effects that follow."""

    link: Link


Effect = Transmit | Settle | Fail | Deliver | StopAsked | LinkChanged
