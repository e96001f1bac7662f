"""A frame in; frames into the outbox, and events for the broker's own services, out.

What a peer may be wrong about is counted by reason and rejected, never fatal. A request ends
with a reply or an error in any case: refused here, answered, its owner gone, or its deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import structs

from broker.core.dataplane import DataPlane
from broker.core.events import Asked
from broker.core.fleet import Fleet
from broker.core.inflight import REQUEST_DEFAULT_S, InFlight, Ref
from broker.core.queues import Frame, Outbox, Put
from broker.core.table import Owner
from shard_node.wire import identity, targets
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import (
    WireError,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
)
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import BODY_MAX_BYTES, PROTOCOL_VERSION
from shard_node.wire.state import StateDone
from shard_node.wire.topics import TOPICS

PEERS_CACHED: Final = 4096
NODE: Final = "node"
CLIENT: Final = "client"
LETTER: Final = "letter"
MESSAGE_MAX_CHARS: Final = 4096
"""Of an error; whoever asked for a million shards that are not there gets the first of them."""

parse_peer = lru_cache(PEERS_CACHED)(identity.parse_peer)


class Served(NamedTuple):
    """A topic that the broker serves. ``fenced``: refused from an old epoch."""

    roles: frozenset[str]
    fenced: bool = True


class Refused(Exception):
    """A frame that is understood and not accepted. ``reason`` is for the counters."""

    def __init__(self, reason: str, error: ErrorBody) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error


def refused(reason: str, code: str, message: str, *, retryable: bool = False) -> Refused:
    """A refusal with the error that a requester gets."""
    return Refused(reason, ErrorBody(code, message, retryable=retryable))


class Router:
    """Owns the table of requests in flight; shares the fleet and the outbox."""

    def __init__(
        self, fleet: Fleet, outbox: Outbox, plane: DataPlane, served: Mapping[str, Served]
    ) -> None:
        self._fleet = fleet
        self._outbox = outbox
        self._plane = plane
        self._served = served
        self.in_flight = InFlight()
        self.touched = True
        """Something else came than a BATCH that went on: deadlines may be others now."""

    # --- from the socket

    def receive(self, routing_id: bytes, head: bytes, body: bytes, now: float) -> Asked | None:
        """Takes a frame in. An event comes back where it is for the broker itself."""
        try:
            return self._receive(routing_id, head, body, now)
        except WireError as error:
            self.reject(error.reason)
        return None

    def reject(self, reason: str) -> None:
        """Counts a frame that was not accepted."""
        self.touched = True
        self._fleet.reject(reason)

    def _receive(self, routing_id: bytes, head: bytes, body: bytes, now: float) -> Asked | None:
        peer = parse_peer(routing_id)
        if peer is None or peer.role == LETTER:
            raise WireError("identity")
        if len(body) > BODY_MAX_BYTES:
            raise WireError("oversized", f"body of {len(body)} bytes")
        frame = decode_header(head)
        if frame.kind is Kind.BATCH:
            self._plane.receive(routing_id, peer, frame, body, now)
            return None
        if frame.kind is Kind.CREDIT:
            self._plane.credit(routing_id, peer, frame, body, now)
            return None
        self.touched = True
        if frame.kind in (Kind.REPLY, Kind.ERROR):
            self._answered(routing_id, frame, body)
            return None
        if frame.kind not in (Kind.REQUEST, Kind.EVENT, Kind.MESSAGE):
            raise WireError("unsupported", frame.kind.name)
        try:
            return self._accept(routing_id, peer, frame, body, now)
        except Refused as refusal:
            self.reject(refusal.reason)
            if frame.kind is Kind.REQUEST:
                self._send_error(_ref(routing_id, peer, frame, now), refusal.error)
            return None

    def _accept(
        self, routing_id: bytes, peer: identity.Peer, frame: Header, body: bytes, now: float
    ) -> Asked | None:
        if isinstance(frame.target, targets.Broker):
            return self._for_broker(routing_id, peer, frame, body, now)
        if peer.role != NODE:
            raise refused("role", "E_REFUSED", f"a {peer.role} may speak to the broker only")
        self._fence(peer)
        spec = TOPICS.get(frame.topic)
        if frame.kind is Kind.MESSAGE or (spec is not None and not frame.topic.isupper()):
            text = f"{frame.topic} is not a peer's to send to a peer"
            raise refused("topic", "E_REFUSED", text)
        if frame.kind is Kind.REQUEST:
            self._forward_request(routing_id, peer, frame, body, now)
        else:
            self._forward_event(routing_id, peer, frame, body)
        return None

    def _for_broker(
        self, routing_id: bytes, peer: identity.Peer, frame: Header, body: bytes, now: float
    ) -> Asked:
        served = self._served.get(frame.topic)
        if served is None:
            raise refused("topic", "E_NO_HANDLER", f"the broker serves no {frame.topic!r}")
        if peer.role not in served.roles:
            raise refused("role", "E_REFUSED", f"a {peer.role} may not send {frame.topic}")
        if served.fenced and peer.role == NODE:
            self._fence(peer)
        spec = TOPICS[frame.topic]
        kind = spec.kind if spec.up is None else Kind.REQUEST
        if kind is not frame.kind:
            raise refused("kind", "E_BAD_REQUEST", f"{frame.topic} is a {kind.name}")
        try:
            value = decode_body(body, spec.body)
        except WireError as error:
            raise refused(error.reason, "E_BAD_REQUEST", str(error)) from None
        ref = _ref(routing_id, peer, frame, now)
        if frame.kind is Kind.REQUEST:
            ref = self._take(ref, reserved=True)
        return Asked(ref, frame.topic, value)

    def _fence(self, peer: identity.Peer) -> None:
        if not self._fleet.lives(peer.name, peer.epoch):
            text = f"{peer.name}#{peer.epoch} is not the current process of its name"
            raise refused("old_epoch", "E_OLD_EPOCH", text)

    # --- from peer to peer

    def _forward_event(
        self, routing_id: bytes, peer: identity.Peer, frame: Header, body: bytes
    ) -> None:
        owners = self._resolve(frame.target, peer)
        if not owners:
            self._fleet.counts["unrouted"] += 1
            return
        bytes_out = encode_header(_stamped(frame, routing_id, frame.correlation))
        for owner in owners:
            out = Frame(bytes_out, body, frame.kind)
            self._outbox.put(owner.routing_id, frame.lane, out)
        self._fleet.counts["forwarded"] += len(owners)

    def _forward_request(
        self, routing_id: bytes, peer: identity.Peer, frame: Header, body: bytes, now: float
    ) -> None:
        if isinstance(frame.target, targets.All | targets.Topic):
            text = "a request needs one receiver: a node, a shard or a guild"
            raise refused("target", "E_BAD_TARGET", text)
        if isinstance(frame.target, targets.Pool):
            text = f"no worker of the pool {frame.target.name!r}"
            raise refused("unreachable", "E_NO_HANDLER", text)
        owners = self._resolve(frame.target, peer)
        if not owners:
            text = "no node is registered for the target"
            raise refused("unreachable", "E_UNREACHABLE", text, retryable=True)
        owner = owners[0].routing_id
        ref = self._take(_ref(routing_id, peer, frame, now)._replace(owner=owner))
        out = Frame(encode_header(_stamped(frame, routing_id, ref.id)), body, frame.kind, ref.id)
        if self._outbox.put(owner, frame.lane, out) is not Put.QUEUED:
            self.in_flight.end(ref.id)
            text = "the receiver's queue is full"
            raise refused("queue_full", "E_QUEUE_FULL", text, retryable=True)
        self._fleet.counts["forwarded"] += 1

    def _resolve(self, target: targets.Target, peer: identity.Peer) -> list[Owner]:
        table = self._fleet.table
        match target:
            case targets.Node(name=name):
                owner = table.node(name)
            case targets.Shard(id=shard, num_shards=num_shards):
                owner = table.shard(shard, num_shards)
            case targets.Guild(id=guild):
                owner = self._guild_owner(guild)
            case targets.Topic(name=topic):
                return table.subscribers(topic)
            case targets.All():
                return [owner for owner in table.everyone() if owner.name != peer.name]
            case _:
                owner = None
        return [owner] if owner is not None else []

    def _guild_owner(self, guild: int) -> Owner | None:
        try:
            return self._fleet.table.guild(guild).owner
        except ValueError:
            return None

    def _answered(self, routing_id: bytes, frame: Header, body: bytes) -> None:
        ref = self.in_flight.get(frame.correlation)
        if ref is None or ref.owner != routing_id:
            raise WireError("stray_reply")
        self.in_flight.end(ref.id)
        self._answer(ref, frame.kind, body, routing_id.decode())
        self._fleet.counts["forwarded"] += 1

    # --- from the broker

    def reply(self, ref: Ref, body: Any) -> None:
        """Answers a request, unless it has ended before."""
        if self.in_flight.end(ref.id) is None:
            return
        try:
            data = _encoded(body)
        except ValueError as error:
            text = f"the answer to {ref.topic} is too large: {error}"
            self._send_error(ref, ErrorBody("E_TOO_LARGE", text))
        else:
            self._answer(ref, Kind.REPLY, data)

    def refuse(self, ref: Ref, error: ErrorBody) -> None:
        """Answers a request with an error, unless it has ended before."""
        if self.in_flight.end(ref.id) is not None:
            self._send_error(ref, error)

    def ask(self, ref: Ref, owner: bytes, name: str, topic: str, body: Any) -> None:
        """Passes a request that the broker took on to a node, whose answer ends it."""
        if self.in_flight.end(ref.id) is None:
            return
        if self.in_flight.crowded:
            self._send_error(ref, _busy())
            return
        ref = self.in_flight.add(ref._replace(owner=owner))
        lane = TOPICS[topic].lane
        head = header(Kind.REQUEST, targets.Node(name), topic, lane=lane, correlation=ref.id)
        frame = Frame(encode_header(head), encode_body(body), Kind.REQUEST, ref.id)
        if self._outbox.put(owner, lane, frame) is not Put.QUEUED:
            text = f"the queue of node {name} is full"
            self.refuse(ref, ErrorBody("E_QUEUE_FULL", text, retryable=True))

    def tell(self, routing_id: bytes, name: str, topic: str, body: Any) -> None:
        """Sends an event of the broker to one peer."""
        lane = TOPICS[topic].lane
        head = header(Kind.EVENT, targets.Node(name), topic, lane=lane)
        self._outbox.put(
            routing_id, lane, Frame(encode_header(head), encode_body(body), Kind.EVENT)
        )

    def publish(self, topic: str, body: Any, sender: str) -> None:
        """Sends an event to the subscribers of a topic."""
        owners = self._fleet.table.subscribers(topic)
        if not owners:
            return
        lane, data = TOPICS[topic].lane, encode_body(body)
        head = encode_header(
            header(Kind.EVENT, targets.Topic(topic), topic, lane=lane, sender=sender)
        )
        for owner in owners:
            self._outbox.put(owner.routing_id, lane, Frame(head, data, Kind.EVENT))

    def share(self, topic: str, body: Any, owners: Iterable[Owner], numbers: Iterable[int]) -> None:
        """Sends an event of the broker to these peers, each under a number of its own."""
        lane, data, target = TOPICS[topic].lane, encode_body(body), targets.Topic(topic)
        for owner, number in zip(owners, numbers, strict=True):
            head = header(Kind.EVENT, target, topic, lane=lane, correlation=number)
            self._outbox.put(owner.routing_id, lane, Frame(encode_header(head), data, Kind.EVENT))

    def tell_all(self, topic: str, body: Any) -> None:
        """Sends an event of the broker to every registered process and client."""
        for owner in self._fleet.table.all_peers():
            self.tell(owner.routing_id, owner.name, topic, body)

    def expire(self, now: float) -> None:
        """Ends the requests whose deadline has passed."""
        for ref in self.in_flight.expired(now):
            self._fleet.counts["requests_expired"] += 1
            text = f"no answer to {ref.topic} before its deadline"
            self._send_error(ref, ErrorBody("E_TIMEOUT", text, retryable=True))

    def lose(self, routing_id: bytes) -> None:
        """Nobody is behind a routing id any more."""
        dropped = self._outbox.forget(routing_id)
        self._fleet.counts["dropped_unreachable"] += dropped
        self.in_flight.of_requester(routing_id)
        for ref in self.in_flight.of_owner(routing_id):
            text = f"{routing_id.decode(errors='replace')} is gone"
            self._send_error(ref, ErrorBody("E_UNREACHABLE", text, retryable=True))

    def _take(self, ref: Ref, *, reserved: bool = False) -> Ref:
        if self.in_flight.full if reserved else self.in_flight.crowded:
            raise Refused("busy", _busy())
        return self.in_flight.add(ref)

    def _send_error(self, ref: Ref, error: ErrorBody) -> None:
        self._answer(ref, Kind.ERROR, encode_body(_clipped(error)))

    def _answer(self, ref: Ref, kind: Kind, body: bytes, sender: str = "") -> None:
        known = ref.peer.role in (NODE, CLIENT)
        target = targets.Node(ref.peer.name) if known else targets.BROKER
        head = header(
            kind, target, ref.topic, lane=ref.lane, correlation=ref.correlation, sender=sender
        )
        self._outbox.put(ref.routing_id, ref.lane, Frame(encode_header(head), body, kind))


def _encoded(body: Any) -> bytes:
    """Raises ValueError for what does not fit into a frame; it is said shorter where it can be."""
    try:
        return encode_body(body)
    except ValueError:
        if not isinstance(body, StateDone):
            raise
        return encode_body(body.smaller())


def _busy() -> ErrorBody:
    return ErrorBody("E_BUSY", "too many requests are in flight", retryable=True)


def _clipped(error: ErrorBody) -> ErrorBody:
    if len(error.message) <= MESSAGE_MAX_CHARS:
        return error
    return structs.replace(error, message=error.message[:MESSAGE_MAX_CHARS] + " ...")


def _ref(routing_id: bytes, peer: identity.Peer, frame: Header, now: float) -> Ref:
    wait_s = frame.ttl_ms / 1000 if frame.ttl_ms else REQUEST_DEFAULT_S
    lane = Lane(frame.lane)
    return Ref(0, routing_id, peer, frame.topic, lane, frame.correlation, now + wait_s)


def _stamped(frame: Header, routing_id: bytes, correlation: int) -> Header:
    """The header as it goes on: the sender is who the socket says it is."""
    return Header(
        PROTOCOL_VERSION,
        frame.kind,
        frame.target,
        frame.topic,
        frame.lane,
        correlation,
        frame.ttl_ms,
        routing_id.decode(),
        frame.seq,
    )
