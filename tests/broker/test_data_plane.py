"""BATCH frames through the broker: routes, credit, parking, pins, bounces, letters, clients."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.batches import PATIENCE_FRAMES, Destination
from broker.core.events import Exited, FrameReceived, Process, Spawned, SupervisorHello, Tick
from broker.core.frames import Batch
from broker.core.rules import Rule
from broker.core.settings import Settings
from broker.services.machine import Broker
from shard_node.wire import limits, topics
from shard_node.wire.batch import Flag, Message, decode_batch, encode_batch
from shard_node.wire.bodies import (
    ClientRegister,
    DeadLettersRequest,
    ErrorBody,
    Heartbeat,
    LettersChosen,
    LettersDone,
    Register,
    RoutesRequest,
    ShardReport,
    ShardState,
)
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.credit import Forwarded, Handled
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import client_id, node_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.shard_states import ShardEvent
from shard_node.wire.targets import ALL, BROKER, Guild, Node, Pool, Shard, Target, Topic
from store.records import Durable

A, B = node_id("a", 1), node_id("b", 1)
CL = client_id("dash", 7, 1)
KEPT = int(Flag.KEPT)
NAMES = {A: "a", B: "b"}


class Plane:
    """A broker, its peers' sockets and a clock."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.now = 0.0
        self.broker = Broker(Settings("f", "app", "boot", routes=rules), Durable(), 0.0)
        self.processes = tuple(
            Process(name, 1, 10 + place, place, (2 * place, 2 * place + 1), 4, 0.0)
            for place, name in enumerate("ab")
        )
        self.broker.on(SupervisorHello(1, self.processes), 0.0)
        self.seqs: Counter[bytes] = Counter()
        self.got: dict[bytes, list[tuple[Header, bytes]]] = {}
        self.blocked: set[bytes] = set()

    def joined(self) -> Plane:
        for process in self.processes:
            self.register(process.name, 1)
        self.pump()
        self.got.clear()
        return self

    def register(self, name: str, epoch: int) -> None:
        shards = (0, 1) if name == "a" else (2, 3)
        reports = tuple(ShardReport(shard, ShardState.READY) for shard in shards)
        body = Register(name, epoch, 1, 4, reports, topics=("mine",))
        self.ask(node_id(name, epoch), topics.REGISTER, body)

    def ask(self, routing_id: bytes, topic: str, body: object) -> bytes:
        head = header(Kind.REQUEST, BROKER, topic, lane=Lane.CONTROL, correlation=9)
        self.give(routing_id, head, encode_body(body))
        self.pump()
        answers = [b for h, b in self.got.get(routing_id, []) if h.correlation == 9]
        return answers[-1]

    def give(self, routing_id: bytes, head: Header, body: bytes) -> None:
        self.broker.on(FrameReceived(routing_id, encode_header(head), body), self.now)
        self._express()

    def batch(
        self,
        target: Target,
        *,
        sender: bytes = A,
        count: int = 1,
        lane: Lane = Lane.NORMAL,
        flags: int = KEPT,
        ttl_ms: int = 0,
        pin: str = "",
        size: int = 10,
    ) -> int:
        self.seqs[sender] += 1
        seq = self.seqs[sender]
        body = encode_batch([Message(1, "t", b"x" * size, n) for n in range(count)])
        head = Header(
            1, Kind.BATCH, target, "", lane, 0, ttl_ms, "liar", seq, count, flags, pin, 3, 5.0
        )
        self.give(sender, head, body)
        return seq

    def pump(self) -> None:
        """One turn of the loop, with sockets that take all but for the blocked."""
        broker = self.broker
        self._express()
        self._control()
        for end in broker.plane.ready():
            if end.routing_id in self.blocked:
                continue
            while (batch := end.next()) is not None:
                self._got(end.routing_id, batch.header(self.now), bytes(batch.body))  # type: ignore[arg-type]
                broker.plane.sent(end, batch)
            broker.plane.rest(end)
        broker.plane.turn(self.now)
        broker.plane.senders.flush()
        self._control()

    def _express(self) -> None:
        """What the shell does after each frame."""
        plane = self.broker.plane
        for end, batch in plane.express:
            if end.frames or end.routing_id in self.blocked:
                plane.delayed(end, batch, self.now)
            else:
                self._got(end.routing_id, batch.header(self.now), bytes(batch.body))  # type: ignore[arg-type]
                plane.went(end, batch)
        plane.express.clear()

    def _control(self) -> None:
        outbox = self.broker.outbox
        for routing_id in outbox.waiting():
            while (entry := outbox.head(routing_id)) is not None:
                outbox.sent(routing_id, entry[0])
                self._got(routing_id, entry[1].header, entry[1].body)

    def _got(self, routing_id: bytes, head: bytes, body: bytes) -> None:
        self.got.setdefault(routing_id, []).append((decode_header(head), body))

    def credit(self, routing_id: bytes, messages: int, window: int = 256) -> None:
        body = encode_body(Handled(messages, 0, window, limits.CREDIT_MAX_BYTES))
        self.give(routing_id, header(Kind.CREDIT, BROKER, ""), body)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.broker.on(Tick(), self.now)
        self.pump()

    def come_back(self, name: str, epoch: int) -> None:
        node = self.broker.fleet.nodes[name]
        node.epoch = node.last_epoch = epoch
        for row in node.rows.values():
            row.on(ShardEvent.SPAWNED)
        self.broker.on(Spawned(name, epoch, 5), self.now)
        self.register(name, epoch)

    def die(self, name: str, epoch: int = 1) -> None:
        self.broker.on(Exited(name, epoch, 1, None, 9, 100.0), self.now)
        self.pump()

    def batches(self, routing_id: bytes) -> list[Header]:
        return [h for h, _ in self.got.get(routing_id, []) if h.kind is Kind.BATCH]

    def bounces(self, routing_id: bytes = A) -> list[tuple[int, str]]:
        entries = self.got.get(routing_id, [])
        return [
            (h.seq, decode_body(b, ErrorBody).code) for h, b in entries if h.kind is Kind.BOUNCE
        ]

    def forwarded(self, routing_id: bytes = A) -> list[tuple[int, int, str]]:
        entries = self.got.get(routing_id, [])
        bodies = [decode_body(b, Forwarded) for h, b in entries if h.kind is Kind.CREDIT]
        return [tuple(frame) for body in bodies for frame in body.frames]  # type: ignore[misc]

    def counts(self) -> Counter[str]:
        return self.broker.fleet.counts


@pytest.mark.parametrize(
    ("target", "to", "code"),
    [
        (Node("b"), {B}, ""),
        (Shard(2, 4), {B}, ""),
        (Shard(0), {A}, ""),
        (Shard(2, 8), set(), "E_UNREACHABLE"),
        (Guild(3 << 22), {B}, ""),
        (Guild(-1), set(), "E_UNREACHABLE"),
        (Topic("mine"), {A, B}, ""),
        (Topic("other"), set(), "E_UNREACHABLE"),
        (ALL, {B}, ""),
        (Pool("x"), set(), "E_NO_HANDLER"),
        (Node("nobody"), set(), "E_UNREACHABLE"),
        (BROKER, set(), "E_REFUSED"),
    ],
)
def test_a_batch_goes_where_its_target_points(target: Target, to: set[bytes], code: str) -> None:
    plane = Plane().joined()
    seq = plane.batch(target, count=3)
    plane.pump()
    assert {end for end in NAMES if plane.batches(end)} == to
    for end in to:
        (head,) = plane.batches(end)
        assert (head.sender, head.seq, head.count, head.low) == ("a#1", seq, 3, 3)
    assert plane.bounces() == ([(seq, code)] if code else [])
    owner = next(iter(to)).decode() if len(to) == 1 and not isinstance(target, type(ALL)) else ""
    assert plane.forwarded() == [(Lane.NORMAL, seq, owner)]


def test_events_that_nobody_gets_are_counted_by_message() -> None:
    plane = Plane().joined()
    plane.batch(Topic("other"), flags=0, count=5)
    plane.pump()
    assert plane.counts()["unrouted"] == 5
    assert plane.bounces() == []
    assert plane.forwarded() == [(Lane.NORMAL, 1, "")]


@pytest.mark.parametrize(
    "change",
    [{"count": 0}, {"count": 257}, {"count": 200}, {"count": -1}, {"low": -1}, {"pin": "x" * 200}],
)
def test_a_header_that_cannot_be_true_comes_back(change: dict[str, object]) -> None:
    plane = Plane().joined()
    fields = {"version": 1, "kind": Kind.BATCH, "target": Node("b"), "topic": "", "seq": 4}
    plane.give(A, Header(**{**fields, "flags": KEPT, **change}), b"\x91" + b"\0" * 50)  # type: ignore[arg-type]
    plane.pump()
    assert plane.bounces() == [(4, "E_REFUSED")]
    assert plane.broker.fleet.rejected["batch"] == 1


def test_an_old_epoch_is_fenced() -> None:
    plane = Plane().joined()
    old = node_id("a", 0)
    plane.batch(Node("b"), sender=node_id("a", 7))
    plane.batch(Node("b"), sender=old)
    plane.pump()
    assert plane.batches(B) == []
    assert plane.bounces(node_id("a", 7)) == [(1, "E_OLD_EPOCH")]


def test_the_window_holds_what_is_outstanding_and_credit_opens_it() -> None:
    plane = Plane().joined()
    for _ in range(10):
        plane.batch(Node("b"), count=100)
    plane.pump()
    assert sum(h.count for h in plane.batches(B)) == 200
    plane.credit(B, 150)
    plane.pump()
    assert sum(h.count for h in plane.batches(B)) == 400
    urgent = plane.batch(Node("b"), count=64, lane=Lane.HIGH)
    plane.pump()
    assert plane.batches(B)[-1].seq == urgent


def test_with_nothing_outstanding_one_frame_goes() -> None:
    plane = Plane().joined()
    plane.credit(B, 0, window=16)
    for _ in range(2):
        plane.batch(Node("b"), count=256)
    plane.pump()
    assert len(plane.batches(B)) == 1
    plane.credit(B, 256, window=16)
    plane.pump()
    assert len(plane.batches(B)) == 2


def test_credit_begins_anew_with_a_registration() -> None:
    plane = Plane().joined()
    for _ in range(2):
        plane.batch(Node("b"), count=256)
    plane.pump()
    assert len(plane.batches(B)) == 1
    plane.register("b", 1)
    assert len(plane.batches(B)) == 2


def test_a_stuck_frame_gives_its_window_back_early_and_tells_its_owner_later() -> None:
    plane = Plane().joined()
    plane.blocked = {B}
    seq = plane.batch(Node("b"))
    plane.pump()
    assert plane.forwarded() == []
    plane.wait(2 * limits.STUCK_S)
    assert plane.forwarded() == [(Lane.NORMAL, seq, "")]
    plane.blocked = set()
    plane.pump()
    assert plane.forwarded() == [(Lane.NORMAL, seq, ""), (Lane.NORMAL, seq, "b#1")]


def test_a_slow_receiver_slows_its_sender_and_loses_nothing() -> None:
    """It gives credit now and then: the sender's window stays taken however old a frame is."""
    plane = Plane().joined()
    plane.batch(Node("b"), count=256)
    waits = plane.batch(Node("b"), count=256)
    plane.pump()
    for handled in range(1, 6):
        plane.wait(limits.STUCK_S * 0.8)
        plane.credit(B, handled)
        assert waits not in [seq for _, seq, _ in plane.forwarded()]


def test_frames_for_a_dead_node_wait_for_the_next_one() -> None:
    plane = Plane().joined()
    plane.blocked = {B}
    first = plane.batch(Shard(2), ttl_ms=30_000)
    lost = plane.batch(Node("b"))
    plane.pump()
    plane.die("b")
    second = plane.batch(Guild(3 << 22), ttl_ms=30_000)
    assert plane.bounces() == [(lost, "E_UNREACHABLE")]
    assert any(h.topic == topics.NODE_GONE for h, _ in plane.got[A])
    node = plane.broker.fleet.nodes["b"]
    node.epoch = node.last_epoch = 2  # as if it were spawned
    plane.blocked = set()
    plane.register("b", 2)
    plane.pump()
    assert [h.seq for h in plane.batches(node_id("b", 2))] == [first, second]
    assert plane.broker.plane.parking.size_bytes == 0


def test_a_parked_frame_ends_at_its_deadline() -> None:
    plane = Plane().joined()
    plane.die("b")
    seq = plane.batch(Shard(2), ttl_ms=1000)
    plane.wait(0.5)
    assert plane.bounces() == []
    plane.wait(0.6)
    assert plane.bounces() == [(seq, "E_EXPIRED")]
    assert plane.broker.plane.parking.size_bytes == 0


def test_a_resend_waits_for_its_first_owner_and_is_rerouted_when_that_is_dead() -> None:
    plane = Plane()  # nobody has registered: the broker is new
    plane.register("a", 1)
    again = KEPT | Flag.RESENT
    seq = plane.batch(Shard(2), flags=again, pin="b#1")
    plane.pump()
    plane.register("b", 1)
    assert [(h.seq, h.flags) for h in plane.batches(B)] == [(seq, again)]
    dead = plane.batch(Shard(2), flags=again, pin="b#0")
    plane.pump()
    assert plane.batches(B)[-1].seq == dead
    assert plane.batches(B)[-1].flags == again | Flag.REROUTED
    plane.batch(Node("b"), pin="b#0")
    plane.pump()
    assert plane.bounces() == [(dead + 1, "E_UNREACHABLE")]


def test_a_full_queue_bounces_what_is_kept_and_drops_the_oldest_events() -> None:
    plane = Plane().joined()
    plane.blocked = {B}
    most = limits.QUEUE_MAX_MESSAGES[Lane.CONTROL] // 256
    for _ in range(most + 2):
        plane.batch(Node("b"), count=256, lane=Lane.CONTROL, flags=0)
    assert plane.counts()["dropped_control"] == 512
    for _ in range(most + 1):
        seq = plane.batch(Node("b"), count=256, lane=Lane.CONTROL)
    plane.pump()
    assert plane.bounces() == [(seq, "E_QUEUE_FULL")]
    details = next(decode_body(b, ErrorBody) for h, b in plane.got[A] if h.kind is Kind.BOUNCE)
    assert details.retryable
    assert 0 < details.details["retry_after_s"] <= 5


def test_dead_letters_are_listed_tried_again_and_dropped() -> None:
    plane = Plane().joined()
    plane.die("b")
    plane.batch(Node("b"))
    plane.batch(Node("b"))
    operator = operator_id(1, 1)
    page = decode_body(plane.ask(operator, topics.DEAD_LETTERS, DeadLettersRequest()), dict)
    assert [letter["code"] for letter in page["letters"]] == ["E_UNREACHABLE"] * 2
    node = plane.broker.fleet.nodes["b"]
    node.epoch = node.last_epoch = 2
    plane.register("b", 2)
    body = plane.ask(operator, topics.DEAD_LETTERS_RETRY, LettersChosen((1,)))
    assert decode_body(body, LettersDone) == LettersDone(1)
    plane.pump()
    assert [h.sender for h in plane.batches(node_id("b", 2))] == ["dl-1#1"]
    body = plane.ask(operator, topics.DEAD_LETTERS_DROP, LettersChosen((1, 2)))
    assert decode_body(body, ErrorBody).details == {"exists": [2]}
    body = plane.ask(operator, topics.DEAD_LETTERS_DROP, LettersChosen())
    assert decode_body(body, LettersDone) == LettersDone(1)


def test_rules_move_a_category_to_nodes_to_nobody_and_to_a_lane() -> None:
    rules = (Rule("mine", ("b",), "", Lane.LOW), Rule("gone", ()), Rule("work", None, "math"))
    plane = Plane(rules).joined()
    plane.batch(Topic("mine"), flags=0)
    plane.batch(Topic("gone"), flags=0, count=4)
    plane.batch(Topic("work"))
    plane.pump()
    assert plane.batches(A) == []
    assert [h.lane for h in plane.batches(B)] == [Lane.LOW]
    assert plane.counts()["unrouted"] == 4
    assert plane.bounces() == [(3, "E_NO_HANDLER")]
    shown = decode_body(plane.ask(operator_id(1, 1), topics.ROUTES, RoutesRequest()), dict)
    assert shown["rules"] == [
        {"category": "mine", "to": ["b"], "lane": "low"},
        {"category": "gone", "to": "nobody"},
        {"category": "work", "to": "pool:math"},
    ]


def test_a_client_registers_speaks_is_spoken_to_and_forgotten() -> None:
    plane = Plane().joined()
    plane.batch(Node("b"), sender=CL)
    plane.pump()
    assert plane.bounces(CL) == [(1, "E_REFUSED")]
    plane.ask(CL, topics.CLIENT_REGISTER, ClientRegister("dash", ("mine",)))
    plane.batch(Node("b"), sender=CL)
    plane.batch(Node("dash"))
    plane.batch(Node(CL.decode()))
    plane.batch(Topic("mine"), flags=0)
    plane.batch(ALL, flags=0)
    plane.pump()
    assert plane.batches(B)[0].sender == CL.decode()
    assert len(plane.batches(CL)) == 3
    plane.now = limits.HEARTBEAT_LOST_S - 1
    plane.ask(CL, topics.HEARTBEAT, Heartbeat(1, 0.0, 0, 0, ()))
    plane.wait(2)
    plane.batch(Node("dash"))
    plane.pump()
    assert len(plane.batches(CL)) == 4
    plane.wait(limits.HEARTBEAT_LOST_S)
    plane.batch(Node("dash"))
    plane.pump()
    assert plane.bounces()[-1][1] == "E_UNREACHABLE"


# --- rules that hold whatever happens


def entry(lane: int, count: int, *, kept: bool = True) -> Batch:
    flags = KEPT if kept else 0
    head = Header(1, Kind.BATCH, Node("b"), "", Lane(lane), seq=1, count=count, flags=flags)
    return Batch("a#1", head, b"x" * 20, 0.0)


@settings(max_examples=1500, deadline=None)
@given(
    puts=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 256)), min_size=1, max_size=60),
    window=st.integers(16, 4096),
    seed=st.integers(0, 1 << 20),
)
def test_credit_is_never_overdrawn_and_never_stalls(
    puts: list[tuple[int, int]], window: int, seed: int
) -> None:
    rng, end = random.Random(seed), Destination(b"b#1")
    end.size_window(window, 1 << 20)
    for lane, count in puts:
        end.put(entry(lane, count))
    handled = turns = 0
    while len(end):
        turns += 1
        assert turns < 5000
        batch = end.next()
        if batch is None:
            assert end.sent_messages > end.handled_messages
            handled = rng.randint(handled + 1, end.sent_messages)
            assert end.credit(handled, 0, float(turns))
            continue
        out = end.sent_messages - end.handled_messages
        most = window
        if batch.queue_lane <= Lane.HIGH:
            overdrawn = window // 4 + limits.BATCH_MAX_MESSAGES
            most = max(window, overdrawn) + limits.CREDIT_RESERVE_MESSAGES
        assert out * 4 <= window or out + batch.count <= most
        end.sent(batch)
    assert end.sent_messages == sum(count for _, count in puts)


@settings(max_examples=300, deadline=None)
@given(flood=st.sampled_from([Lane.HIGH, Lane.NORMAL]), size=st.integers(1, 256))
def test_low_moves_a_little_under_a_flood_of_small_frames(flood: Lane, size: int) -> None:
    end = Destination(b"b#1")
    end.size_window(16, 1 << 20)
    low = entry(Lane.LOW, size)
    end.put(low)
    for turn in range(4 * PATIENCE_FRAMES[Lane.LOW]):
        end.put(entry(flood, 1))
        batch = end.next()
        if batch is not None:
            end.sent(batch)
        if low.gone:
            return
        end.credit(max(0, end.sent_messages - 8), 0, turn + 1.0)
        if batch is None:
            end.credit(end.sent_messages, 0, turn + 1.5)
    raise AssertionError("low was starved")


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "send", "send", "event", "die", "back", "wait", "credit", "block"]
        ),
        st.integers(0, 1 << 16),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(actions=ACTIONS)
def test_a_kept_frame_is_never_lost_in_silence(actions: list[tuple[str, int]]) -> None:
    plane = Plane().joined()
    sent: set[int] = set()
    targets: list[Target] = [Node("b"), Shard(2), Guild(3 << 22), Shard(0), Pool("x"), Node("q")]
    node = plane.broker.fleet.nodes["b"]
    epoch = 1
    for action, number in actions:
        rng = random.Random(number)
        if action == "send":
            ttl_ms = rng.choice([0, 5, 2000])
            pin = rng.choice(["", "", "b#1", "b#2"])
            flags = KEPT | (Flag.RESENT if pin else 0)
            target = rng.choice(targets)
            count, lane = rng.randint(1, 256), Lane(rng.randint(0, 3))
            sent.add(
                plane.batch(target, count=count, lane=lane, ttl_ms=ttl_ms, pin=pin, flags=flags)
            )
        elif action == "event":
            plane.batch(rng.choice(targets), flags=0, count=rng.randint(1, 256))
        elif action == "die" and node.epoch:
            plane.die("b", node.epoch)
        elif action == "back" and not node.epoch:
            epoch += 1
            plane.come_back("b", epoch)
        elif action == "wait":
            plane.wait(rng.choice([0.001, 0.01, 1.0]))
        elif action == "block":
            plane.blocked ^= {node_id("b", epoch)}
        elif action == "credit":
            plane.credit(node_id("b", epoch), rng.randint(0, 4096))
        plane.pump()
    plane.blocked = set()
    for end in plane.broker.plane.ready():
        end.write_off()
    plane.wait(limits.PARKED_MAX_S)
    plane.wait(limits.PARKED_MAX_S)
    for _ in range(200):
        for end in list(plane.broker.plane._destinations.values()):
            end.write_off()
            plane.broker.plane._wake(end)
        plane.pump()
    arrived = {h.seq for end in plane.got for h in plane.batches(end)}
    bounced = [seq for seq, _ in plane.bounces()]
    assert sent <= arrived | set(bounced)
    assert len(bounced) == len(set(bounced))
    assert not arrived & set(bounced)
    assert plane.broker.plane.parking.size_bytes == 0
    told = {seq for _, seq, _ in plane.forwarded()}
    assert told == set(range(1, plane.seqs[A] + 1))


def junk(rng: random.Random) -> tuple[bytes, bytes, bytes]:
    routing_id = rng.choice([A, B, CL, b"a#1!hb", b"op-1-1", b"dl-1#1", rng.randbytes(6)])
    fields: list[object] = [
        rng.choice([1, 1, 1, 0, 2]),
        rng.choice([6, 7, 7, 7, 8]),
        rng.choice(
            [["n", "b"], ["s", rng.randint(-2, 9)], ["g", rng.getrandbits(64)], ["t", "mine"]]
        ),
        rng.choice(["", "x" * 200]),
        rng.randint(0, 4),
        0,
        rng.choice([0, 1, 1 << 40, -1]),
        "liar",
        rng.choice([0, 1, 5, -3, (1 << 64) - 1]),
        rng.choice([0, 1, 4, 256, 257, -1]),
        rng.choice([0, 1, 3, 7, -1, 1 << 40]),
        rng.choice(["", "b#1", "b#9", "cl-x-1-1", "\u00e9#1", "x" * 300]),
        rng.choice([0, 7, -7]),
        rng.choice([0.0, float("nan"), float("inf"), 1e300]),
    ]
    if rng.random() < 0.3:
        fields[rng.randrange(len(fields))] = rng.choice([None, "x", [], {}, -1, 1 << 63])
    if rng.random() < 0.2:  # a CREDIT to the broker
        fields[1], fields[2] = 6, ["b"]
    head = bytearray(encode_body(fields[: rng.randint(1, len(fields))]))
    if rng.random() < 0.2:
        head[rng.randrange(len(head))] ^= 1 << rng.randrange(8)
    credit = [rng.choice([-1, 0, 5, 1 << 62]) for _ in range(rng.randint(0, 5))]
    bodies = [encode_body(credit), rng.randbytes(rng.randrange(2000)), b"\x91" * 3000]
    return routing_id, bytes(head), rng.choice(bodies)


@pytest.mark.parametrize("frames", [3000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_fuzzed_batches_and_credits_are_counted_and_never_fatal(frames: int) -> None:
    rng, plane = random.Random(7), Plane().joined()
    for number in range(frames):
        plane.now += 0.0001
        routing_id, head, body = junk(rng)
        plane.broker.on(FrameReceived(routing_id, head, body), plane.now)
        if number % 50 == 0:
            plane.pump()
            plane.got.clear()
    assert plane.broker.fleet.rejected_total > frames / 4
    plane.credit(B, (1 << 62), window=4096)
    seq = plane.batch(Node("b"))
    plane.pump()
    assert plane.batches(B)[-1].seq == seq
    assert len(decode_batch(plane.got[B][-1][1])) == 1
