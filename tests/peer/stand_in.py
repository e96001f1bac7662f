"""A broker played by the test: routes BATCH frames by their headers, without lanes or credit
limits. It counts what each peer was sent and what it handled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import zmq
from msgspec import structs

from shard_node.wire import bodies, targets
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.credit import Forwarded, Handled
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.topics import CLIENT_REGISTER, HEARTBEAT, NODES, REGISTER, SUBSCRIBE

Fault = Callable[[bytes, Header], bodies.ErrorBody | bool | None]


class StandIn:
    """``fault`` may refuse a BATCH: an ErrorBody bounces it, False loses it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.topics: dict[bytes, tuple[str, ...]] = {}
        self.handled: dict[bytes, Handled] = {}
        self.sent: dict[bytes, list[int]] = {}
        self.batches: list[Header] = []
        self.parks = False
        """Keep frames for an absent node until somebody registers, as the broker does."""
        self.parked: list[tuple[bytes, Header, bytes]] = []
        self.fault: Fault | None = None
        self.refusal: bodies.ErrorBody | None = None
        """The answer to registrations, where there is one."""
        self.orders: list[Callable[[], None]] = []
        self._context = zmq.Context()
        self._stop = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        assert self._bound.wait(5)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """As if killed."""
        self._stop.set()
        self._thread.join(5)
        self._context.destroy(linger=0)

    def tell(self, topic: str, body: object) -> None:
        """An event of the broker's own to everybody."""

        def order() -> None:
            for peer in self.topics:
                head = header(Kind.EVENT, targets.BROKER, topic, lane=Lane.CONTROL)
                self._send(peer, head, encode_body(body))

        self.orders.append(order)

    def _serve(self) -> None:
        socket = self._socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        Path(self.endpoint.removeprefix("ipc://")).unlink(missing_ok=True)
        socket.bind(self.endpoint)
        self._bound.set()
        while not self._stop.is_set():
            while self.orders:
                self.orders.pop(0)()
            if socket.poll(2):
                self._take(*socket.recv_multipart())
        socket.close(0)

    def _take(self, peer: bytes, head_bytes: bytes, body: bytes) -> None:
        head = decode_header(head_bytes)
        if head.kind is Kind.BATCH:
            self._route(peer, head, body)
        elif head.kind is Kind.CREDIT:
            self.handled[peer] = decode_body(body, Handled)
        elif head.topic == SUBSCRIBE:
            self.topics[peer] = decode_body(body, bodies.Subscribe).topics
        elif head.kind is Kind.REQUEST:
            self._asked(peer, head, body)

    def _asked(self, peer: bytes, head: Header, body: bytes) -> None:
        answer: object = {}
        if head.topic in (REGISTER, CLIENT_REGISTER) and self.refusal is not None:
            no = header(Kind.ERROR, targets.BROKER, head.topic, correlation=head.correlation)
            self._send(peer, no, encode_body(self.refusal))
            return
        if head.topic in (REGISTER, CLIENT_REGISTER):
            kind = bodies.Register if head.topic == REGISTER else bodies.ClientRegister
            self.topics[peer] = decode_body(body, kind).topics
            self.sent[peer] = [0, 0]
            answer = bodies.Welcome(True, "test", 1, 1.0, 8.0)
        elif head.topic == HEARTBEAT:
            known = peer.removesuffix(b"!hb") in self.topics
            answer = bodies.HeartbeatAck(1, known, 1)
        elif head.topic == NODES:
            names = dict.fromkeys(p.decode().partition("#")[0] for p in self.topics if b"#" in p)
            answer = bodies.NodesReply(tuple((name, True) for name in names))
        reply = header(Kind.REPLY, targets.BROKER, head.topic, correlation=head.correlation)
        self._send(peer, reply, encode_body(answer))
        if head.topic in (REGISTER, CLIENT_REGISTER):
            waiting, self.parked = self.parked, []
            for frame in waiting:
                self._route(*frame)

    def _route(self, peer: bytes, head: Header, body: bytes) -> None:
        self.batches.append(head)
        verdict = self.fault(peer, head) if self.fault is not None else None
        owners = self._owners(peer, head.target)
        if verdict is None and head.flags and not owners and self.parks:
            self.parked.append((peer, head, body))
            return
        if verdict is None and head.flags and not owners:
            verdict = bodies.ErrorBody("E_UNREACHABLE", "nobody there")
        if isinstance(verdict, bodies.ErrorBody):
            back = structs.replace(header(Kind.BOUNCE, targets.BROKER, ""), lane=head.lane)
            self._send(peer, structs.replace(back, seq=head.seq), encode_body(verdict))
            return
        if verdict is None:
            for owner in owners:
                self._send(owner, structs.replace(head, sender=peer.decode()), body)
                self.sent[owner][0] += head.count
                self.sent[owner][1] += len(body)
        name = owners[0].decode() if len(owners) == 1 and head.flags else ""
        credit = Forwarded([(int(head.lane), head.seq, name)])
        self._send(peer, header(Kind.CREDIT, targets.BROKER, ""), encode_body(credit))

    def _owners(self, peer: bytes, target: targets.Target) -> list[bytes]:
        known = list(self.topics)
        if isinstance(target, targets.Topic):
            return [p for p in known if target.name in self.topics[p]]
        if isinstance(target, targets.Node):
            name = target.name.partition("#")[0].encode()
            return [p for p in known if p.partition(b"#")[0] == name][-1:]
        return [p for p in known if p != peer][:1]

    def _send(self, peer: bytes, head: Header, body: bytes) -> None:
        self._socket.send_multipart([peer, encode_header(head), body])
