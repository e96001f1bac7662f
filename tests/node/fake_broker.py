"""A broker played by the test: a real ROUTER socket in a thread, answers by rule."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from shard_node.wire import bodies
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import parse_peer
from shard_node.wire.targets import BROKER
from shard_node.wire.topics import (
    COMMAND_SYNC,
    HEARTBEAT,
    LEASE,
    NODE_STOP,
    PERMIT,
    REGISTER,
    TOPICS,
)
from tests.support.waiting import wait_for


class Seen:
    """One frame as it came."""

    def __init__(self, routing_id: bytes, head: Header, body: Any) -> None:
        self.routing_id, self.head, self.body = routing_id, head, body
        self.at = time.monotonic()
        self.topic = head.topic

    def __repr__(self) -> str:
        return f"<{self.routing_id!r} {self.topic} {self.body}>"


class FakeBroker:
    """Registers everybody, grants every permit, unless a rule in ``answers`` says other.

    A rule is ``topic -> callable(seen) -> body | ErrorBody | None`` (None: no answer).
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.seen: list[Seen] = []
        self.registered: set[bytes] = set()
        self.answers: dict[str, Callable[[Seen], Any]] = {
            REGISTER: self._register,
            HEARTBEAT: self._heartbeat,
            PERMIT: self._permit,
            LEASE: lambda seen: bodies.LeaseReply(True, parse_peer(seen.routing_id).name),
            COMMAND_SYNC: lambda seen: bodies.CommandSyncReply("sync"),
        }
        self._permits = 0
        self._context = zmq.Context()
        self._stop = threading.Event()
        self._outbox: list[tuple[bytes, Header, bytes]] = []
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        assert self._bound.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """As if killed: nothing more is read or sent."""
        self._stop.set()
        self._thread.join(5)
        self._context.destroy(linger=0)

    # --- what tests ask

    def of(self, topic: str, node: str | None = None) -> list[Seen]:
        """The frames of a topic so far."""
        wanted = None if node is None else node.encode()
        return [
            s
            for s in list(self.seen)
            if s.topic == topic and (wanted is None or s.routing_id.startswith(wanted))
        ]

    def wait(self, topic: str, count: int = 1, timeout_s: float = 20.0) -> list[Seen]:
        """The frames of a topic, once there are ``count``."""

        def look() -> list[Seen] | None:
            found = self.of(topic)
            return found if len(found) >= count else None

        return wait_for(f"{count} x {topic}", look, timeout_s)

    def shard_states(self, node: str) -> dict[int, str]:
        """As the last heartbeat of a node has them."""
        beats = self.of(HEARTBEAT, f"{node}#")
        return {r.id: r.state.value for r in beats[-1].body.shards} if beats else {}

    def send(self, routing_id: bytes, topic: str, body: Any) -> None:
        """An event to a node."""
        head = header(Kind.EVENT, BROKER, topic, lane=TOPICS[topic].lane)
        self._outbox.append((routing_id, head, encode_body(body)))

    def answer(self, seen: Seen, body: Any) -> None:
        """A late answer to a request."""
        kind = Kind.ERROR if isinstance(body, bodies.ErrorBody) else Kind.REPLY
        head = header(
            kind, BROKER, seen.topic, lane=seen.head.lane, correlation=seen.head.correlation
        )
        self._outbox.append((seen.routing_id, head, encode_body(body)))

    def stop_node(self, node: str, drain_s: float = 5.0, discard: bool = False) -> None:
        """NodeStop to a node's main socket."""
        routing_id = self.wait(REGISTER)[-1].routing_id
        assert routing_id.startswith(node.encode())
        self.send(routing_id, NODE_STOP, bodies.NodeStop("test", drain_s, discard))

    # --- the socket

    def _serve(self) -> None:
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        path = Path(self.endpoint.removeprefix("ipc://"))
        path.unlink(missing_ok=True)
        socket.bind(self.endpoint)
        self._bound.set()
        while not self._stop.is_set():
            while self._outbox:
                routing_id, head, body = self._outbox.pop(0)
                socket.send_multipart([routing_id, encode_header(head), body])
            self._between(socket)
            if socket.poll(5):
                self._take(socket.recv_multipart())
        socket.close(0)

    def _between(self, socket: Any) -> None:
        """What nodes say to each other, where it is passed on."""

    def _take(self, parts: list[bytes]) -> None:
        routing_id, head_bytes, body_bytes = parts
        head = decode_header(head_bytes)
        if head.kind in (Kind.CREDIT, Kind.BATCH):
            return
        body: Any = body_bytes
        if head.kind not in (Kind.ERROR, Kind.REPLY):
            body = decode_body(body_bytes, TOPICS[head.topic].body)
        seen = Seen(routing_id, head, body)
        self.seen.append(seen)
        if head.kind is Kind.REQUEST and head.topic in self.answers:
            reply = self.answers[head.topic](seen)
            if reply is not None:
                self.answer(seen, reply)

    def _register(self, seen: Seen) -> bodies.Welcome:
        self.registered.add(seen.routing_id)
        return bodies.Welcome(True, "test", 1, 1.0, 8.0)

    def _heartbeat(self, seen: Seen) -> bodies.HeartbeatAck:
        main = seen.routing_id.removesuffix(b"!hb")
        return bodies.HeartbeatAck(seen.body.counter, main in self.registered, 1)

    def _permit(self, seen: Seen) -> bodies.PermitGrant:
        self._permits += 1
        return bodies.PermitGrant(self._permits, 30.0)
