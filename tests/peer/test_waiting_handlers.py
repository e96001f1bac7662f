"""Handlers that only wait for something take no time of their node: others are let in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from broker.core.batches import Destination
from broker.core.frames import Batch
from shard_node.peer.inbox import Arrival, Inbox
from shard_node.wire.batch import Message
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import CREDIT_LENT_MESSAGES
from shard_node.wire.targets import Node
from tests.peer.nodes import make, running, until
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test


def head(count: int, lane: Lane = Lane.NORMAL) -> Header:
    return Header(1, Kind.BATCH, Node("x"), "", lane, sender="a#1", seq=1, count=count)


class Pair:
    """A node's inbox and what the broker knows of it."""

    def __init__(self) -> None:
        self.inbox, self.end = Inbox(), Destination(b"x#1")
        self.inbox.registered()
        self.waiting: list[Arrival] = []
        self.tell()

    def tell(self) -> None:
        credit = self.inbox.credit()
        self.inbox.told(credit)
        assert self.end.credit(credit.messages, credit.size_bytes, 1.0)
        self.end.size_window(credit.window_messages, credit.window_bytes)

    def event(self, lane: Lane, size: int = 100) -> bool:
        """Whether one may come; its handler waits."""
        batch = Batch("a#1", head(1, lane), b"x" * size, 0.0)
        if not self.end.fits(batch):
            return False
        self.end.charge(batch)
        message = Message(int(Kind.EVENT), "t", b"\xc0")
        self.inbox.push(head(1, lane), [message], "a", 1, size)
        taken = self.inbox.take()
        assert taken is not None
        self.waiting.append(taken.arrival)
        self.inbox.suspended(taken.arrival, 1)
        if self.inbox.news:
            self.tell()
        return True

    def all_end(self) -> None:
        while self.waiting:
            self.end_one()
        assert self.end.handled_messages == self.end.sent_messages
        assert self.end.handled_bytes == self.end.sent_bytes

    def end_one(self) -> None:
        self.inbox.late(self.waiting.pop())
        self.tell()


def test_those_that_wait_hold_no_credit_up_to_a_bound() -> None:
    pair = Pair()
    while pair.event(Lane.HIGH):
        pass
    most = len(pair.waiting)
    assert CREDIT_LENT_MESSAGES < most < CREDIT_LENT_MESSAGES + 500
    for _ in range(400):
        pair.end_one()
    assert pair.event(Lane.LOW)
    pair.all_end()


def test_their_bytes_are_bounded_too() -> None:
    pair = Pair()
    while pair.event(Lane.NORMAL, 1 << 20):
        pass
    assert 38 <= len(pair.waiting) <= 42


def test_a_new_registration_lends_no_more() -> None:
    pair = Pair()
    while pair.event(Lane.NORMAL):
        pass
    old, pair.waiting = pair.waiting, []
    pair.inbox.registered()
    pair.end.reset()
    pair.tell()
    while pair.event(Lane.NORMAL):
        pass
    assert len(pair.waiting) < 500
    for arrival in old:
        pair.inbox.late(arrival)
    pair.tell()
    assert pair.event(Lane.NORMAL)
    pair.all_end()


def messages_handled(broker: StandIn, peer: bytes) -> int:
    """What a node has said of itself so far; nothing at first."""
    told = broker.handled.get(peer)
    return told.messages if told is not None else 0


@async_test
async def test_a_node_says_so(tmp_path: Path) -> None:
    with StandIn(f"ipc://{tmp_path}/b.sock") as broker:
        a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
        go = asyncio.Event()

        async def wait(_message: Any) -> None:
            await go.wait()

        b.on("t", wait)
        b.on("two", wait)
        b.on("two", wait)
        inbox = b._plane.inbox
        async with running(a, b):
            for _ in range(400):
                a.publish("t", 1)
            a.publish("two", 1)
            await until(lambda: messages_handled(broker, b"b#1") == 401)
            go.set()
            await until(lambda: not inbox._suspended)
            assert inbox.credit().messages == 401


@async_test
async def test_whatever_can_be_awaited_is(tmp_path: Path) -> None:
    with StandIn(f"ipc://{tmp_path}/b.sock") as broker:
        a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
        done: list[int] = []

        async def work(number: int) -> int:
            await asyncio.sleep(0.001)
            done.append(number)
            return number

        b.on("one", lambda message: asyncio.ensure_future(work(message.body)))
        b.on("two", lambda message: asyncio.ensure_future(work(message.body)))
        b.on("two", lambda message: Later(message.body + 1, done))
        b.serve("q", lambda message: asyncio.ensure_future(work(message.body)))
        async with running(a, b):
            await a.send(Node("b"), "one", 1)
            assert done == [1]
            await a.send(Node("b"), "two", 2)
            assert sorted(done) == [1, 2, 3]
            assert await a.request(Node("b"), "q", 4) == 4


class Later:
    def __init__(self, number: int, done: list[int]) -> None:
        self.number, self.done = number, done

    def __await__(self) -> Any:
        yield from asyncio.sleep(0.001).__await__()
        self.done.append(self.number)
