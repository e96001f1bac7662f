"""The data plane where something is absent, full, forged or said again."""

from __future__ import annotations

from collections import Counter

import pytest

from broker.core.batches import Destination, Stock
from broker.core.frames import Batch
from broker.core.queues import Frame, Outbox
from broker.core.senders import CONTROL_FRAMES_MAX, Senders
from shard_node.wire import limits, topics
from shard_node.wire.batch import Flag
from shard_node.wire.bodies import ClientRegister, ErrorBody, NodeStop
from shard_node.wire.codec import decode_body, encode_body
from shard_node.wire.credit import Forwarded
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import client_id, letter_sender, node_id
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import Node, Shard
from tests.broker.test_data_plane import KEPT, A, B, Plane


def test_what_is_sent_again_comes_before_what_never_left() -> None:
    plane = Plane().joined()
    plane.blocked = {B}
    waiting = [plane.batch(Shard(2), ttl_ms=30_000) for _ in range(3)]
    plane.pump()
    plane.die("b")
    other = plane.batch(Shard(2), sender=node_id("b", 1), ttl_ms=30_000)
    again = KEPT | Flag.RESENT
    resent = [plane.batch(Shard(2), flags=again, pin="b#1", ttl_ms=30_000) for _ in range(2)]
    node = plane.broker.fleet.nodes["b"]
    node.epoch = node.last_epoch = 2
    plane.blocked = set()
    plane.register("b", 2)
    plane.pump()
    del other  # of a process that is dead: refused
    assert [h.seq for h in plane.batches(node_id("b", 2))] == resent + waiting


def test_nothing_is_kept_of_who_is_waited_for_no_longer() -> None:
    plane = Plane().joined()
    plane.die("b")
    plane.batch(Shard(2), ttl_ms=1000)
    assert plane.broker.plane.parking.lanes("b") is not None
    plane.wait(0.5)
    plane.wait(0.6)
    assert plane.broker.plane.parking.lanes("b") is None


@pytest.mark.parametrize("topic", [topics.NODE_STOP, topics.NODE_GONE, topics.HEARTBEAT])
def test_the_brokers_words_are_not_a_peers_to_say(topic: str) -> None:
    plane = Plane().joined()
    before = plane.broker.fleet.rejected_total
    head = header(Kind.EVENT, Node("b"), topic, lane=Lane.CONTROL)
    plane.give(A, head, encode_body(NodeStop("forged", 1.0)))
    plane.pump()
    assert not plane.got.get(B)
    assert plane.broker.fleet.rejected_total == before + 1


def test_a_message_alone_is_no_frame_between_peers() -> None:
    plane = Plane().joined()
    plane.give(A, header(Kind.MESSAGE, Node("b"), "hello"), encode_body(1))
    plane.pump()
    assert not plane.got.get(B)


def test_a_client_has_not_the_name_of_a_node() -> None:
    plane = Plane().joined()
    plane.die("b")
    client = client_id("b", 7, 1)
    error = decode_body(
        plane.ask(client, topics.CLIENT_REGISTER, ClientRegister("b", ())), ErrorBody
    )
    assert error.code == "E_NAME_TAKEN"


def test_all_destinations_have_one_limit_together() -> None:
    stock, ends = Stock(), [Destination(f"n{place}#1".encode()) for place in range(40)]
    refused = 0
    for end in ends:
        end.stock = stock
        for seq in range(1, 101):
            head = Header(1, Kind.BATCH, Node("x"), "", Lane.NORMAL, seq=seq, flags=KEPT)
            taken, _ = end.put(Batch("a#1", head, bytes(limits.BATCH_MAX_BYTES), 0.0))
            refused += not taken
    assert stock.size_bytes <= limits.WAITING_MAX_BYTES
    assert refused
    for end in ends:
        end.take_all()
    assert stock.size_bytes == 0


def test_a_letter_is_new_to_receivers_of_another_brokers() -> None:
    assert letter_sender(1, 10) != letter_sender(1, 11)


def test_credit_waits_for_a_peer_that_reads_nothing() -> None:
    outbox = Outbox(Counter())
    senders = Senders(Counter(), outbox)
    for _ in range(CONTROL_FRAMES_MAX):
        outbox.put(A, Lane.CONTROL, Frame(b"h", b"b", Kind.EVENT))
    for seq in range(1, 2001):
        head = Header(1, Kind.BATCH, Node("b"), "", Lane.NORMAL, seq=seq, flags=KEPT)
        senders.release(Batch(A.decode(), head, b"x", 0.0), "b#1")
        assert senders.due(seq * 0.01) == []
        deadline = senders.next_deadline()
        assert deadline is not None
        assert deadline > seq * 0.01
    while outbox.head(A) is not None:
        outbox.sent(A, Lane.CONTROL)
    told = senders.due(100.0)
    entries = [e for _, body in told for e in decode_body(body, Forwarded).frames]
    assert [seq for _, seq, _ in entries] == list(range(1, 2001))
    assert limits.CREDIT_TELL_S < 1
