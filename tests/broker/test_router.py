"""Frames in, frames out: hostile bytes never raise, requests always end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.effects import Log
from broker.core.events import FrameReceived, NodeGone, Process, SupervisorHello, Tick
from broker.core.queues import Frame
from broker.core.settings import Settings
from broker.services.machine import Broker
from broker.services.registry import SERVED, SERVICES
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, Register, ShardReport, ShardState
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import letter_sender, node_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import QUEUE_MAX_FRAMES
from shard_node.wire.targets import ALL, BROKER, Guild, Node, Pool, Shard, Topic
from store.records import Durable

A, B = node_id("a", 1), node_id("b", 1)
FUZZED = 2000
FUZZED_SLOW = 50_000


def made(now: float = 0.0) -> Broker:
    """A broker with the nodes a (shards 0, 1) and b (2, 3), both registered."""
    broker = Broker(Settings("f", "app", "boot"), Durable(), now)
    processes = tuple(
        Process(name, 1, 10 + place, place, (2 * place, 2 * place + 1), 4, 0.0)
        for place, name in enumerate("ab")
    )
    broker.on(SupervisorHello(1, processes), now)
    for process in processes:
        shards = tuple(ShardReport(shard, ShardState.READY) for shard in process.shards)
        body = Register(process.name, 1, process.pid, 4, shards, topics=("mine",))
        give(broker, node_id(process.name, 1), Kind.REQUEST, topics.REGISTER, body, now=now)
    frames(broker)
    return broker


def give(
    broker: Broker,
    routing_id: bytes,
    kind: Kind,
    topic: str,
    body: object,
    *,
    target: object = BROKER,
    lane: Lane = Lane.NORMAL,
    correlation: int = 1,
    ttl_ms: int = 0,
    now: float = 0.0,
) -> None:
    head = header(
        kind, target, topic, lane=lane, correlation=correlation, ttl_ms=ttl_ms, sender="liar"
    )
    broker.on(FrameReceived(routing_id, encode_header(head), encode_body(body)), now)


def frames(broker: Broker) -> dict[bytes, list[tuple[Header, bytes]]]:
    """Takes everything out of the outbox."""
    out: dict[bytes, list[tuple[Header, bytes]]] = {}
    for routing_id in broker.outbox.waiting():
        while (head := broker.outbox.head(routing_id)) is not None:
            lane, frame = head
            broker.outbox.sent(routing_id, lane)
            out.setdefault(routing_id, []).append((decode_header(frame.header), frame.body))
    return out


def error(out: dict[bytes, list[tuple[Header, bytes]]], routing_id: bytes) -> str:
    (head, body) = out[routing_id][-1]
    assert head.kind is Kind.ERROR
    return decode_body(body, ErrorBody).code


def test_no_socket_may_be_a_letter() -> None:
    broker = made()
    for kind in (Kind.REQUEST, Kind.EVENT, Kind.BATCH, Kind.CREDIT):
        give(broker, letter_sender(1, 1).encode(), kind, topics.STATUS, {}, target=Node("b"))
    assert broker.fleet.rejected == {"identity": 4}
    assert frames(broker) == {}


@pytest.mark.parametrize(
    ("target", "to"),
    [
        (Node("b"), {B}),
        (Shard(2, 4), {B}),
        (Shard(1), {A}),
        (Shard(2, 8), set()),
        (Guild(3 << 22), {B}),
        (Guild(4 << 22), {A}),
        (Topic("mine"), {A, B}),
        (Topic("other"), set()),
        (ALL, {B}),
        (Pool("x"), set()),
        (Node("nobody"), set()),
        (Guild(-1), set()),
    ],
)
def test_an_event_goes_where_its_target_points(target: object, to: set[bytes]) -> None:
    broker = made()
    give(broker, A, Kind.EVENT, "mine", {"x": 1}, target=target, lane=Lane.LOW)
    out = frames(broker)
    assert out.keys() == to
    for entries in out.values():
        ((head, body),) = entries
        assert (head.sender, head.target, head.lane) == ("a#1", target, Lane.LOW)
        assert decode_body(body, dict) == {"x": 1}
    assert broker.fleet.counts["unrouted"] == (not to)


def test_a_request_gets_its_own_number_back() -> None:
    broker = made()
    give(broker, A, Kind.REQUEST, "mine", {}, target=Node("b"), correlation=77)
    ((asked, _),) = frames(broker)[B]
    give(broker, B, Kind.REPLY, "other", {"r": 1}, correlation=asked.correlation)
    ((reply, body),) = frames(broker)[A]
    assert (reply.kind, reply.correlation, reply.topic) == (Kind.REPLY, 77, "mine")
    assert (reply.sender, reply.target) == ("b#1", Node("a"))
    assert decode_body(body, dict) == {"r": 1}
    assert len(broker.router.in_flight) == 0


def test_only_who_was_asked_may_answer() -> None:
    broker = made()
    give(broker, A, Kind.REQUEST, "mine", {}, target=Node("b"), correlation=77)
    ((asked, _),) = frames(broker)[B]
    give(broker, A, Kind.REPLY, "mine", {}, correlation=asked.correlation)
    give(broker, B, Kind.REPLY, "mine", {}, correlation=asked.correlation + 1)
    assert frames(broker) == {}
    assert broker.fleet.rejected["stray_reply"] == 2
    assert len(broker.router.in_flight) == 1


def test_a_request_without_answer_ends_at_its_deadline() -> None:
    broker = made()
    give(broker, A, Kind.REQUEST, "mine", {}, target=Node("b"), ttl_ms=1500, now=10.0)
    frames(broker)
    assert broker.next_deadline() is not None
    broker.on(Tick(), 11.4)
    assert A not in frames(broker)
    broker.on(Tick(), 11.5)
    assert error(frames(broker), A) == "E_TIMEOUT"


def test_a_request_to_who_dies_ends_at_once() -> None:
    broker = made()
    give(broker, A, Kind.REQUEST, "mine", {}, target=Node("b"))
    broker._work(NodeGone("b", 1), 0.0)
    assert error(frames(broker), A) == "E_UNREACHABLE"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Node("nobody"), "E_UNREACHABLE"),
        (Shard(9), "E_UNREACHABLE"),
        (ALL, "E_BAD_TARGET"),
        (Topic("mine"), "E_BAD_TARGET"),
        (Pool("x"), "E_NO_HANDLER"),
        (BROKER, "E_NO_HANDLER"),
    ],
)
def test_a_request_that_cannot_go_on_ends_at_once(target: object, code: str) -> None:
    broker = made()
    give(broker, A, Kind.REQUEST, "mine", {}, target=target)
    assert error(frames(broker), A) == code


def test_a_full_queue_refuses_the_request_to_its_sender() -> None:
    broker = made()
    for _ in range(QUEUE_MAX_FRAMES[Lane.LOW]):
        give(broker, A, Kind.REQUEST, "mine", {}, target=Node("b"), lane=Lane.LOW)
    assert A not in broker.outbox.waiting()
    give(broker, A, Kind.REQUEST, "mine", {}, target=Node("b"), lane=Lane.LOW)
    assert error(frames(broker), A) == "E_QUEUE_FULL"
    assert len(broker.router.in_flight) == QUEUE_MAX_FRAMES[Lane.LOW]


def test_old_epochs_and_strangers_are_refused() -> None:
    broker = made()
    old, stranger = node_id("a", 0), node_id("zz", 1)
    for routing_id in (old, stranger):
        give(broker, routing_id, Kind.REQUEST, "mine", {}, target=Node("b"))
        assert error(frames(broker), routing_id) == "E_OLD_EPOCH"
    give(broker, b"nonsense", Kind.REQUEST, "mine", {}, target=Node("b"))
    assert frames(broker) == {}
    assert broker.fleet.rejected == {"old_epoch": 2, "identity": 1}


def test_roles_limit_what_a_peer_may_send() -> None:
    broker = made()
    operator = operator_id(1, 1)
    give(broker, operator, Kind.REQUEST, topics.PERMIT, [0, 4])
    assert error(frames(broker), operator) == "E_REFUSED"
    give(broker, operator, Kind.EVENT, "mine", {}, target=Node("a"))
    give(broker, A, Kind.REQUEST, topics.STOP, [])
    assert error(frames(broker), A) == "E_REFUSED"
    assert broker.fleet.rejected["role"] == 3


def test_wrong_bodies_and_kinds_are_refused() -> None:
    broker = made()
    give(broker, A, Kind.REQUEST, topics.PERMIT, {"not": "a permit"})
    assert error(frames(broker), A) == "E_BAD_REQUEST"
    give(broker, A, Kind.EVENT, topics.PERMIT, [0, 4])
    give(broker, A, Kind.REQUEST, topics.IDENTIFY_SENT, [1, 0])
    assert error(frames(broker), A) == "E_BAD_REQUEST"
    assert broker.fleet.rejected == {"body": 1, "kind": 2}


def test_every_served_topic_is_of_a_service_and_of_the_vocabulary() -> None:
    assert {entry[0] for entry in SERVED.values()} <= SERVICES.keys()
    assert SERVED.keys() <= topics.TOPICS.keys()


def fuzzed(seed: int, count: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Frames from noise, and valid ones with bytes changed, from peers true and false."""
    noise = random.Random(seed)
    peers = [
        A,
        B,
        node_id("a", 9),
        operator_id(1, 2),
        b"a#1!hb",
        b"",
        b"\xff",
        b"#",
        b"a#" + b"9" * 30,
    ]
    kinds, lanes = list(Kind), list(Lane)
    names = [*topics.TOPICS, "mine", ""]
    where = [BROKER, ALL, Node("b"), Shard(1), Guild(5 << 22), Topic("mine"), Pool("p"), Guild(-9)]
    for _ in range(count):
        head = encode_header(
            header(
                noise.choice(kinds),
                noise.choice(where),
                noise.choice(names),
                lane=noise.choice(lanes),
                correlation=noise.choice([0, 1, 2, 1 << 63, noise.randrange(1 << 64)]),
                ttl_ms=noise.choice([0, 1, 5000]),
            )
        )
        body = encode_body(noise.choice([[], {}, [1, 4], [1, 2, 3.5], ["x", 1.0], None, [[1, 2]]]))
        if noise.random() < 0.6:
            data = bytearray(noise.choice([head, body]) if noise.random() < 0.8 else b"")
            for _ in range(noise.randrange(1, 6)):
                data[noise.randrange(len(data) + 1) :][:1] = noise.randbytes(1)
                if data:
                    data[noise.randrange(len(data))] = noise.randrange(256)
            if noise.random() < 0.7:
                head = bytes(data)
            else:
                body = bytes(data)
        if noise.random() < 0.05:
            head = b"\x91" * 5000
        yield noise.choice(peers), head, body


def survive(seed: int, count: int) -> Broker:
    broker = made()
    now = 0.0
    for routing_id, head, body in fuzzed(seed, count):
        now += 0.001
        broker.on(FrameReceived(routing_id, head, body), now)
        if broker.next_deadline() is not None and broker.next_deadline() <= now:
            broker.on(Tick(), now)
    return broker


@pytest.mark.parametrize("seed", [1, 2])
def test_fuzzed_frames_raise_nothing_and_are_counted(seed: int) -> None:
    broker = survive(seed, FUZZED)
    assert broker.fleet.rejected["malformed"] > FUZZED / 20
    assert len(broker.fleet.rejected) >= 6


@pytest.mark.slow
def test_many_fuzzed_frames() -> None:
    broker = survive(3, FUZZED_SLOW)
    assert len(broker.router.in_flight) < FUZZED_SLOW
    assert broker.fleet.rejected_total > FUZZED_SLOW / 10


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_raise_nothing(routing_id: bytes, head: bytes, body: bytes) -> None:
    broker = made()
    broker.on(FrameReceived(routing_id, head, body), 0.0)
    assert broker.fleet.rejected_total == 1


def test_garbage_is_logged_once_a_second_with_its_counts() -> None:
    broker = made()
    said = []
    for number in range(50):
        now = number * 0.1
        said += [(now, e.text) for e in broker.on(FrameReceived(b"x", b"", b""), now)]
        logged = [e for e in broker.on(Tick(), now) if isinstance(e, Log)]
        said += [(now, e.text) for e in logged if "rejected" in e.text]
    times = [at for at, _ in said]
    assert 5 <= len(said) <= 6
    assert all(b - a >= 0.99 for a, b in itertools.pairwise(times))
    assert sum(int(text.split()[0]) for _, text in said) >= 40


def test_frame_counts_its_bytes() -> None:
    assert Frame(b"12", b"345", Kind.EVENT).size_bytes == 5
