"""What a node holds to be sent: limits, fairness between lanes, frames nobody speaks of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.errors import QueueFull, Undeliverable
from shard_node.peer import asks as asks_of
from shard_node.peer import failures, lines
from shard_node.peer.asks import Ask, Asks
from shard_node.peer.outbox import PATIENCE_FRAMES, UNTOLD_S, Outbox
from shard_node.wire.batch import Message, decode_batch
from shard_node.wire.codec import decode_header
from shard_node.wire.header import Kind
from shard_node.wire.limits import BATCH_MAX_MESSAGES, QUEUE_MAX_BYTES, SEND_WINDOW_MESSAGES
from shard_node.wire.targets import Guild, Node, Target, Topic
from tests.peer.nodes import make, running
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test

NORMAL, LOW = 2, 3


class Sender:
    """An outbox and its asks."""

    def __init__(self) -> None:
        self.outbox, self.asks = Outbox(), Asks(0)
        self.outbox.up = True

    def say(self, target: Target, body: bytes = b"x", lane: int = NORMAL, at: float = 1e9) -> Ask:
        line = self.outbox.line(target, lane)
        ask = Ask(Message(int(Kind.MESSAGE), "t", body, 0, 30_000), lane, at, None)
        self.asks.add(ask)
        self.outbox.put(line, ask.message, ask)
        return ask

    def tell(self, topic: str, body: bytes = b"x", lane: int = NORMAL) -> None:
        line = self.outbox.line(Topic(topic), lane)
        self.outbox.put(line, Message(int(Kind.EVENT), topic, body))

    def end(self, ask: Ask) -> None:
        self.asks.end(ask)
        self.outbox.settled(ask)

    def send(self, most: int = 100_000) -> list[tuple[int, int, list[bytes]]]:
        found = []
        while len(found) < most and (frame := self.outbox.next()) is not None:
            low = self.asks.low(frame.line.lane, frame.asks)
            head, body = self.outbox.encode(frame, 0.0, 0.0, low)
            self.outbox.sent(frame)
            bodies = [message.body for message in decode_batch(body)]
            found.append((int(decode_header(head).lane), frame.seq, bodies))
        return found


def test_open_batches_of_many_topics_are_bounded() -> None:
    sender = Sender()
    sender.outbox.up = False
    for number in range(20_000):
        sender.tell(f"guild.{number}", b"x" * 1024)
    assert sender.outbox.waiting <= lines.QUEUE_MAX_MESSAGES
    held = sum(line.size for line in sender.outbox._lines.values())
    assert held <= QUEUE_MAX_BYTES[NORMAL] + 1024
    assert sender.outbox.dropped + sender.outbox.waiting == 20_000
    assert len(sender.outbox._lines) <= lines.QUEUE_MAX_MESSAGES + lines.LINES_MAX + 1
    sender.outbox.up = True
    last = [frame[2] for frame in sender.send()]
    assert sum(map(len, last)) == 20_000 - sender.outbox.dropped  # the oldest went
    assert sender.outbox._waiting == sender.outbox._waiting_bytes == [0, 0, 0, 0]


def test_small_events_of_many_topics_are_bounded() -> None:
    sender = Sender()
    sender.outbox.up = False
    for number in range(40_000):
        sender.tell(f"t{number}")
    assert sender.outbox.waiting <= lines.QUEUE_MAX_MESSAGES
    assert sender.outbox.dropped > 20_000


def test_open_batches_of_many_targets_are_refused_in_time() -> None:
    sender = Sender()
    sender.outbox.up = False
    said = 0
    while not sender.outbox.refuses(NORMAL):
        sender.say(Guild(said << 22), b"x" * 60_000)
        said += 1
        assert said < 1000
    assert said * 60_000 >= QUEUE_MAX_BYTES[NORMAL]


def test_what_nobody_waits_for_makes_room() -> None:
    sender = Sender()
    sender.outbox.up = False
    asks = [sender.say(Guild(n % 500 << 22), b"x" * 2000) for n in range(16_000)]
    assert sender.outbox.refuses(NORMAL)
    for ask in asks[:-1]:
        sender.end(ask)
    assert not sender.outbox.refuses(NORMAL)
    assert sender.outbox.waiting == 1
    sender.outbox.up = True
    assert len(sender.send()) == 1
    assert sender.outbox._waiting == sender.outbox._waiting_bytes == [0, 0, 0, 0]


def test_lines_are_forgotten_now_and_then() -> None:
    sender = Sender()
    sender.outbox.up = False
    scans = []
    forget = sender.outbox._forget_idle
    sender.outbox._forget_idle = lambda: (scans.append(1), forget())[1]  # type: ignore[method-assign]
    for number in range(4 * lines.LINES_MAX):
        sender.say(Guild(number << 22))
    assert len(scans) <= 3


def test_a_resend_keeps_its_order_whatever_the_number_of_targets() -> None:
    sender = Sender()
    sender.say(Guild(7 << 22), b"first")
    ((lane, seq, _),) = sender.send()
    sender.outbox.forwarded([(lane, seq, "a#1")])
    for number in range(100, 100 + 2 * lines.LINES_MAX):
        sender.outbox.line(Guild(number << 22), NORMAL)
    sender.say(Guild(7 << 22), b"second")
    ((lane, seq, _),) = sender.send()
    sender.outbox.forwarded([(lane, seq, "a#1")])
    sender.outbox.link_lost()
    sender.outbox.up = True
    assert [frame[2] for frame in sender.send()] == [[b"first"], [b"second"]]


def test_a_lower_lane_has_its_turn() -> None:
    sender = Sender()
    for number in range(200):
        for _ in range(2):
            sender.tell(f"t{number}")
    sender.tell("low", lane=LOW)
    lanes = [frame[0] for frame in sender.send()]
    assert lanes.index(LOW) == PATIENCE_FRAMES[LOW]
    assert lanes.count(NORMAL) == 200


def test_a_lower_lane_has_its_turn_where_the_window_is_shut() -> None:
    """What comes free in the window goes to who waits longest."""
    sender = Sender()
    for _ in range(SEND_WINDOW_MESSAGES // BATCH_MAX_MESSAGES + 200):
        for _ in range(BATCH_MAX_MESSAGES):
            sender.tell(f"t{_ % 64}")
    sender.tell("low", lane=LOW)
    sent = sender.send()
    seqs = [(lane, seq) for lane, seq, _ in sent]
    order = list(seqs)
    while LOW not in [lane for lane, _ in order] and len(order) < 500:
        sender.outbox.forwarded([(*seqs.pop(0), "")])
        more = [(lane, seq) for lane, seq, _ in sender.send()]
        seqs += more
        order += more
    assert LOW in [lane for lane, _ in order]


def test_one_old_message_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asks_of, "SPAN_MAX", 100)
    sender = Sender()
    old = sender.say(Node("slow"))
    sender.send()
    for _ in range(500):
        ask = sender.say(Node("fast"))
        sender.send()
        sender.end(ask)
        assert not sender.asks.crowded
    assert sender.asks.low(NORMAL) == 501 - 100 + 1
    assert sender.asks.low(NORMAL, [old]) == 1  # its own frame does not make it unknown
    sender.end(old)
    assert sender.asks.low(NORMAL) == 0


def test_the_words_of_a_refusal_are_true() -> None:
    full = failures.refused("t", NORMAL, 5, 16_384, up=True)
    assert "lane 'normal' is full" in str(full) and full.retry_after_s == failures.RETRY_AFTER_S
    away = failures.refused("t", NORMAL, 5, 16_384, up=False)
    assert "no broker" in str(away) and away.retry_after_s == failures.BROKER_RETRY_S
    many = failures.refused("t", NORMAL, asks_of.ASKS_MAX, 0, up=True)
    assert "have no answer yet" in str(many)


def test_a_frame_the_broker_never_speaks_of_gives_its_room_back() -> None:
    sender = Sender()
    asks = [sender.say(Guild(n << 22), at=10.0) for n in range(3)]
    assert len(sender.send()) == 3
    for ask in asks:
        sender.end(ask)
    assert sender.outbox.untold_at == 10.0 + UNTOLD_S
    assert not sender.outbox.give_up(10.0)
    assert sender.outbox._out_messages == 3
    assert sender.outbox.give_up(10.0 + UNTOLD_S)
    assert sender.outbox._out_messages == 0 and not sender.outbox._kept
    assert not any(line.held or line.out for line in sender.outbox._lines.values())


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(f"ipc://{tmp_path}/b.sock") as stand_in:
        yield stand_in


@async_test
async def test_a_frame_that_cannot_be_encoded_fails_alone(
    broker: StandIn, monkeypatch: Any
) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    b.serve("x", lambda message: message.body)
    encode = a._plane.outbox.encode

    def faulty(frame: Any, *rest: Any) -> Any:
        if frame.line.target == Guild(5):
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "planted")
        return encode(frame, *rest)

    monkeypatch.setattr(a._plane.outbox, "encode", faulty)
    async with running(a, b):
        with pytest.raises(Undeliverable, match="planted"):
            await a.request(Guild(5), "x", 1)
        assert await a.request(Node("b"), "x", 2) == 2
        assert not a._plane.outbox.waiting and not len(a._plane.asks)


@async_test
async def test_a_full_node_says_so(broker: StandIn, monkeypatch: Any) -> None:
    monkeypatch.setattr(lines, "QUEUE_MAX_MESSAGES", 0)
    a = make(broker.endpoint, "a")
    async with running(a):
        with pytest.raises(QueueFull, match="lane 'normal' is full"):
            await a.send(Node("b"), "x", 1)


@async_test
async def test_an_error_in_any_words_is_receipted(broker: StandIn) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")

    def bad(message: Any) -> None:
        raise ValueError("\ud800")

    b.on("x", bad)
    async with running(a, b):
        with pytest.raises(Exception, match="ValueError"):
            await a.send(Node("b"), "x", 1, ttl_s=3)
