"""Whether a BATCH may be taken at all: what its header says, and who sends it."""

from __future__ import annotations

import math

from broker.core.fleet import Fleet
from shard_node.wire import identity
from shard_node.wire.header import Header
from shard_node.wire.limits import BATCH_MAX_MESSAGES, MESSAGE_MIN_BYTES, TTL_MAX_MS
from shard_node.wire.targets import Broker


def is_ours(fleet: Fleet, peer: identity.Peer) -> bool:
    """Whether a peer may send: a living process of a node, or a client that has registered."""
    if peer.role == "node":
        return fleet.lives(peer.name, peer.epoch)
    return peer.role == "client" and fleet.table.node(peer.name) is not None


def fault(peer: identity.Peer) -> tuple[str, str, str]:
    """Why a peer that is not ours may not send: for the counters, its code, its words."""
    if peer.role == "node":
        text = f"{peer.name}#{peer.epoch} is not the current process of its name"
        return "old_epoch", "E_OLD_EPOCH", text
    if peer.role == "client":
        return "unregistered", "E_REFUSED", "register first: this broker does not know you"
    return "role", "E_REFUSED", f"a {peer.role} may speak to the broker only"


def is_sound(head: Header, body_bytes: int) -> bool:
    """Whether a BATCH's own fields can be true."""
    return (
        0 < head.count <= BATCH_MAX_MESSAGES
        and body_bytes > MESSAGE_MIN_BYTES * head.count
        and head.seq > 0
        and head.low >= 0
        and 0 <= head.ttl_ms <= TTL_MAX_MS
        and head.flags >= 0
        and len(head.pin) <= identity.CLIENT_MAX_CHARS
        and math.isfinite(head.sent_at)
        and type(head.target) is not Broker
    )
