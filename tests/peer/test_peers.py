"""Nodes that talk to each other over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shard_node import runtime
from shard_node.errors import (
    NoHandler,
    QueueFull,
    RemoteError,
    RequestTimeout,
    ShardNodeError,
    Undeliverable,
)
from shard_node.wire import bodies
from shard_node.wire.targets import ALL, Node
from shard_node.wire.topics import NODE_GONE
from tests.peer.nodes import make, running, until
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(f"ipc://{tmp_path}/b.sock") as stand_in:
        yield stand_in


def pair(broker: StandIn) -> tuple[Any, Any]:
    return make(broker.endpoint, "a"), make(broker.endpoint, "b")


class Trade(msgspec.Struct):
    amount: int


@async_test
async def test_events_come_in_order_and_once(broker: StandIn) -> None:
    a, b = pair(broker)
    got: list[int] = []
    b.on("n", lambda message: got.append(message.body["i"]))
    async with running(a, b):
        for i in range(5000):
            await a.publish("n", {"i": i})
        await until(lambda: len(got) == 5000)
        assert got == list(range(5000))
        b_id = b"b#1"
        await until(lambda: broker.handled[b_id].messages == broker.sent[b_id][0])
        assert broker.handled[b_id].size_bytes == broker.sent[b_id][1]


@async_test
async def test_a_struct_type_is_a_topic(broker: StandIn) -> None:
    a, b = pair(broker)
    got: list[Any] = []

    @b.on(Trade)
    async def trade(message: Any) -> None:
        got.append((message.body, message.topic, message.sender, message.lane))

    async with running(a, b):
        await a.publish(Trade, Trade(5), lane="high")
        await until(lambda: got)
    assert got == [(Trade(5), "Trade", "a", "high")]


@async_test
async def test_a_request_is_answered(broker: StandIn) -> None:
    a, b = pair(broker)
    b.serve("double", lambda message: message.body * 2)

    @b.serve("slow")
    async def slow(message: Any) -> str:
        async with asyncio.timeout(1):
            await asyncio.sleep(0.01)
        return f"{message.body}!"

    async with running(a, b):
        assert await a.request(Node("b"), "double", 21) == 42
        answers = await asyncio.gather(*(a.request(Node("b"), "slow", i) for i in range(50)))
        assert answers == [f"{i}!" for i in range(50)]


@async_test
async def test_how_a_request_fails(broker: StandIn) -> None:
    a, b = pair(broker)

    @b.serve("bad")
    async def bad(message: Any) -> None:
        raise KeyError("guild")

    @b.serve("never")
    async def never(message: Any) -> None:
        await asyncio.sleep(60)

    b.serve("unsayable", lambda message: object())
    async with running(a, b):
        with pytest.raises(RemoteError, match="KeyError: 'guild'") as caught:
            await a.request(Node("b"), "bad")
        assert caught.value.type_name == "KeyError"
        assert caught.value.traceback == ""
        with pytest.raises(NoHandler):
            await a.request(Node("b"), "nothing")
        with pytest.raises(RequestTimeout):
            await a.request(Node("b"), "never", timeout_s=0.05)
        with pytest.raises(RemoteError, match="object"):
            await a.request(Node("b"), "unsayable")
        with pytest.raises(Undeliverable) as gone:
            await a.request(Node("z"), "bad")
        assert gone.value.reason == "E_UNREACHABLE"
        with pytest.raises(TypeError, match="object"):
            await a.request(Node("b"), "bad", object())
        with pytest.raises(ValueError, match="receiver"):
            await a.request(ALL, "bad")
        assert len(a._plane.asks) == 0


@async_test
async def test_a_message_has_a_receipt(broker: StandIn) -> None:
    a, b = pair(broker)
    got: list[int] = []

    @b.on("m")
    async def take(message: Any) -> None:
        await asyncio.sleep(0)
        got.append(message.body)
        if message.body == 7:
            raise ValueError("seven")

    async with running(a, b):
        results = await asyncio.gather(
            *(a.send(Node("b"), "m", i) for i in range(300)), return_exceptions=True
        )
        failed = results.pop(7)
        assert isinstance(failed, RemoteError) and failed.type_name == "ValueError"
        assert all(not receipt.rerouted for receipt in results)
        assert sorted(got) == list(range(300))
        with pytest.raises(NoHandler):
            await a.send(Node("b"), "unheard", 1)
        await until(lambda: not a._plane.outbox._kept)


@async_test
async def test_a_killed_broker_loses_no_message(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/b.sock"
    broker = StandIn(endpoint).__enter__()
    a, b = make(endpoint, "a"), make(endpoint, "b")
    got: list[int] = []
    b.on("m", lambda message: got.append(message.body))
    lose = iter(range(1000))
    # Some frames vanish with the broker, some arrive and their receipts vanish.
    broker.fault = lambda peer, head: False if next(lose) % 3 == 1 else None
    try:
        async with running(a, b):
            sends = []
            for i in range(200):
                sends.append(asyncio.ensure_future(a.send(Node("b"), "m", i)))
                await asyncio.sleep(0.001)
            broker.close()
            broker = StandIn(endpoint)
            broker.parks = True
            broker.__enter__()
            receipts = await asyncio.gather(*sends)
            assert len(receipts) == 200
            assert sorted(got) == list(range(200))
    finally:
        broker.close()


@async_test
async def test_who_asked_the_dead_hears_at_once(broker: StandIn) -> None:
    a, b = pair(broker)
    never = asyncio.Event()

    @b.serve("never")
    async def wait(message: Any) -> None:
        await never.wait()

    async with running(a, b):
        asked = asyncio.ensure_future(a.request(Node("b"), "never"))
        await until(lambda: b._plane._stepper.running)
        broker.tell(NODE_GONE, bodies.NodeGone("b", 1))
        with pytest.raises(Undeliverable, match="died"):
            await asked
        never.set()


@async_test
async def test_a_full_queue_says_when_to_try_again(broker: StandIn) -> None:
    a, b = pair(broker)
    error = bodies.ErrorBody("E_QUEUE_FULL", "full", details={"retry_after_s": 0.25})
    async with running(a, b):
        broker.fault = lambda peer, head: error
        with pytest.raises(QueueFull) as caught:
            await a.send(Node("b"), "m", 1)
        assert caught.value.retry_after_s == 0.25 and caught.value.retryable


@async_test
async def test_all_nodes_are_asked(broker: StandIn) -> None:
    a, b = pair(broker)
    a.serve("who", lambda message: "a")

    @b.serve("who")
    def who(message: Any) -> str:
        raise RuntimeError("no")

    async with running(a, b):
        found = await a.gather("who")
        assert found.replies == {"a": "a"}
        assert isinstance(found.errors["b"], RemoteError)


@async_test
async def test_subscribing_later_and_unsubscribing(broker: StandIn) -> None:
    a, b = pair(broker)
    got: list[int] = []
    async with running(a, b):
        handler = b.on("late", lambda message: got.append(message.body))
        await until(lambda: broker.topics.get(b"b#1") == ("late",))
        await a.publish("late", 1)
        await until(lambda: got == [1])
        b.off("late", handler)
        await until(lambda: broker.topics.get(b"b#1") == ())


@async_test
async def test_an_event_of_the_brokers_own_reaches_its_handler(broker: StandIn) -> None:
    a, b = pair(broker)
    got: list[Any] = []
    a.on("SHARD_READY", lambda message: got.append(message.body))
    async with running(a, b):
        broker.tell("SHARD_READY", bodies.ShardReady(3, 4, 10))
        await until(lambda: got)
    assert got == [bodies.ShardReady(3, 4, 10)]


@async_test
async def test_nothing_can_be_said_before_the_node_is_connected(broker: StandIn) -> None:
    a = make(broker.endpoint, "a")
    with pytest.raises(ShardNodeError):
        await a.publish("x", 1)
    with pytest.raises(ShardNodeError):
        await a.send(Node("b"), "x", 1)
    assert runtime.current() is None
    a._context.destroy(linger=0)
