"""The data plane with a real broker process and real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from shard_node.wire.batch import Message, encode_batch
from shard_node.wire.codec import decode_body, encode_body, encode_header
from shard_node.wire.credit import Forwarded, Handled
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import CREDIT_MAX_BYTES
from shard_node.wire.targets import BROKER, Node
from tests.support.broker_rig import NodePeer, Rig

pytestmark = pytest.mark.slow


def send(peer: NodePeer, to: str, seq: int, count: int, size: int) -> bytes:
    body = encode_batch([Message(0, "t", bytes([seq % 256]) * size) for _ in range(count)])
    head = Header(
        1, Kind.BATCH, Node(to), "", Lane.NORMAL, ttl_ms=60_000, seq=seq, count=count, flags=1
    )
    peer.socket.send_multipart([encode_header(head), body])
    return body


def credit(peer: NodePeer, messages: int, size_bytes: int) -> None:
    body = Handled(messages, size_bytes, 64, CREDIT_MAX_BYTES)
    head = encode_header(header(Kind.CREDIT, BROKER, "", lane=Lane.CONTROL))
    peer.socket.send_multipart([head, encode_body(body)])


def test_small_and_large_frames_arrive_whole_in_order_and_within_credit(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        a, b = rig.fleet()
        sizes = [(1, 3), (64, 256), (8, 1000), (1, 900_000), (256, 100)] * 8
        bodies = [send(a, b.name, n + 1, *size) for n, size in enumerate(sizes)]
        messages = size_bytes = 0
        for number, body in enumerate(bodies):
            head, got = b.frame(lambda h: h.kind is Kind.BATCH)
            assert (head.seq, head.sender) == (number + 1, "a#1")
            assert got == body
            messages, size_bytes = messages + head.count, size_bytes + len(got)
            credit(b, messages, size_bytes)
        told: set[int] = set()
        while told != set(range(1, len(bodies) + 1)):
            _, data = a.frame(lambda h: h.kind is Kind.CREDIT)
            told |= {seq for _, seq, _ in decode_body(data, Forwarded).frames}


def test_messages_of_other_shapes_between_frames_disturb_nothing(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        a, b = rig.fleet()
        for number in range(1, 21):
            a.socket.send(b"one part")
            a.socket.send_multipart([b"", b"", b"x" * 20_000, b"four"])
            a.socket.send_multipart([b"h" * 20_000, b"x"])
            body = send(a, b.name, number, 2, 10_000 * (number % 2))
            head, got = b.frame(lambda h: h.kind is Kind.BATCH)
            assert (head.seq, got) == (number, body)
            credit(b, 2 * number, 0)
        assert rig.status()["broker"]["rejected"]["parts"] == 40


def test_a_peer_that_reads_nothing_leaves_the_others_alone(tmp_path: Path) -> None:
    with Rig(tmp_path, shards=3, nodes=3) as rig:
        a, b, c = rig.fleet()
        b.socket.setsockopt(zmq.RCVHWM, 1)
        for number in range(1, 201):
            send(a, b.name, number, 256, 100)
            send(a, c.name, 1000 + number, 1, 10)
            head, _ = c.frame(lambda h: h.kind is Kind.BATCH)
            assert head.seq == 1000 + number
            credit(c, number, 0)
        assert rig.status()["broker"]["counts"].get("bounced", 0) == 0
