"""The pure cores under loss, doubling and deaths: two outboxes' worth of messages, one inbox."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shard_node.peer.asks import Ask, Asks
from shard_node.peer.inbox import Inbox, ranges
from shard_node.peer.outbox import Frame, Outbox
from shard_node.wire.batch import Flag, Message, decode_batch
from shard_node.wire.codec import decode_header
from shard_node.wire.header import Kind
from shard_node.wire.targets import Node


class World:
    """One sender, one receiver and a broker that may forget everything."""

    def __init__(self) -> None:
        self.outbox, self.asks, self.inbox = Outbox(), Asks(0), Inbox()
        self.outbox.up = True
        self.handled: list[int] = []
        self.acknowledged: set[int] = set()
        self.on_the_way: list[tuple[bytes, bytes]] = []
        self.receipts: list[tuple[str, int, Any]] = []
        self.said = 0

    def say(self) -> None:
        self.said += 1
        message = Message(int(Kind.MESSAGE), "m", str(self.said).encode())
        ask = Ask(message, 2, 1e9, None)
        self.asks.add(ask)
        self.outbox.put(self.outbox.line(Node("b"), 2), message, ask)

    def send(self) -> None:
        frame = self.outbox.next()
        if frame is not None:
            self.on_the_way.append(self.outbox.encode(frame, 0.0, 0.0, self.asks.low(2)))
            self.outbox.sent(frame)

    def arrive(self) -> None:
        if self.on_the_way:
            head_bytes, body = self.on_the_way.pop(0)
            head = decode_header(head_bytes)
            self.outbox.forwarded([(2, head.seq, "b#1")])
            self.inbox.push(head, decode_batch(body), "a", 1, len(body))

    def handle(self) -> None:
        taken = self.inbox.take()
        if taken is not None:
            for message in taken.messages:
                if self.inbox.is_new(taken.arrival, message):
                    self.handled.append(int(message.body))
                    self.inbox.ended(taken.arrival, message, None)
            self.inbox.handled(taken.arrival, len(taken.messages))

    def receipt(self) -> None:
        self.receipts += self.inbox.receipts()
        if self.receipts:
            _, _, body = self.receipts.pop(0)
            for first, last in body.delivered:
                for number in range(first, last + 1):
                    ask = self.asks.messages[2].get(number)
                    if ask is not None and self.asks.end(ask):
                        self.outbox.settled(ask)
                        self.acknowledged.add(int(ask.message.body))

    def broker_dies(self) -> None:
        self.on_the_way.clear()
        self.receipts.clear()
        self.inbox.receipts()
        self.outbox.link_lost()
        self.outbox.up = True

    def owner_gone_is_a_rumour(self) -> None:
        """The same receiver gets it all again: it must not handle it twice."""
        self.outbox.owner_gone("b#1")


STEPS = ["say", "say", "send", "arrive", "handle", "receipt", "broker_dies",
         "owner_gone_is_a_rumour"]  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=60))
def test_nothing_is_lost_or_handled_twice(steps: list[str]) -> None:
    world = World()
    for step in steps:
        getattr(world, step)()
        assert len(world.handled) == len(set(world.handled))
        assert world.acknowledged <= set(world.handled)
    for _ in range(world.said * 2 + 5):
        world.broker_dies() if not world.on_the_way and world.asks else None
        for step in ("send", "arrive", "handle", "receipt"):
            getattr(world, step)()
    assert sorted(world.handled) == list(range(1, world.said + 1))
    assert len(world.asks) == 0
    assert not world.outbox._kept or not any(f.open for f in world.outbox._kept.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["say", "say", "send", "arrive", "handle"]), max_size=80))
def test_order_holds_while_nothing_breaks(steps: list[str]) -> None:
    world = World()
    for step in steps:
        getattr(world, step)()
    assert world.handled == sorted(world.handled)


@given(st.lists(st.integers(1, 60)))
def test_ranges_are_the_numbers(numbers: list[int]) -> None:
    spread = [n for first, last in ranges(numbers) for n in range(first, last + 1)]
    assert spread == sorted(set(numbers))


def test_a_request_that_was_passed_on_is_not_sent_again() -> None:
    world = World()
    for number in (1, 2):
        message = Message(int(Kind.REQUEST), "r", b"x")
        ask = Ask(message, 1, 1e9, None)
        world.asks.add(ask)
        world.outbox.put(world.outbox.line(Node("b"), 1), message, ask)
        frame = world.outbox.next()
        assert isinstance(frame, Frame)
        world.outbox.encode(frame, 0.0, 0.0, 0)
        world.outbox.sent(frame)
        if number == 1:
            world.outbox.forwarded([(1, frame.seq, "b#1")])
    world.broker_dies()
    again = world.outbox.next()
    assert again is not None and len(again.messages) == 1 and again.messages[0].number == 2
    assert again.flags == Flag.KEPT | Flag.RESENT and again.pin == ""
