"""Events through a real broker: nobody listens, somebody comes and goes, and what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shard_node
from tests.peer.nodes import until
from tests.support.aio import async_test
from tests.support.broker_rig import Rig

pytestmark = pytest.mark.slow

NOISE = 1000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, shards=1, nodes=1) as rig:
        rig.launch()
        rig.hear("serving")
        yield rig


async def counts(rig: Rig) -> dict[str, int]:
    status = await asyncio.to_thread(rig.status)
    found: dict[str, int] = status["broker"]["counts"]
    return found


async def known(node: Any) -> None:
    """The broker has taken all that this client said before."""
    name = f"{node.name}.known"
    node.serve(name, lambda message: True)
    await node.request(shard_node.Node(node.name), name)
    node.unserve(name, node._plane.handlers.services[name].call)


async def unrouted(rig: Rig, number: int) -> None:
    async with asyncio.timeout(5):
        while (found := (await counts(rig)).get("unrouted", 0)) < number:
            await asyncio.sleep(0.02)
    assert found == number


@async_test
async def test_what_nobody_listens_to_is_counted_and_costs_the_sender_nothing(rig: Rig) -> None:
    async with shard_node.connect(rig.endpoint, "ann") as a:
        for i in range(NOISE):
            await a.publish("nobody.listens", i)
        await unrouted(rig, NOISE)
        outbox = a._plane.outbox
        await until(lambda: outbox._out_messages == 0)
        assert (outbox.waiting, outbox.dropped) == (0, 0)
        assert (await counts(rig)).get("messages_forwarded", 0) == 0
        letters = (await asyncio.to_thread(rig.status))["broker"]["dead_letters"]
        assert letters == 0


@async_test
async def test_a_subscriber_gets_what_is_said_while_it_listens(rig: Rig) -> None:
    async with (
        shard_node.connect(rig.endpoint, "ann") as a,
        shard_node.connect(rig.endpoint, "ben") as b,
    ):
        got: list[int] = []
        end = asyncio.Event()

        async def say(first: int) -> None:
            for i in range(first, first + 100):
                await a.publish("news", i)
            await known(a)

        def take(message: Any) -> None:
            got.append(message.body)
            if message.body % 100 == 99:
                end.set()

        await say(0)  # nobody yet
        for round_, first in ((1, 100), (2, 300)):
            b.on("news", take)
            await known(b)
            end.clear()
            await say(first)
            await asyncio.wait_for(end.wait(), 5)
            assert got == list(range(100, 200)) + list(range(300, 400)) * (round_ == 2)
            b.off("news", take)
            await known(b)
            await say(first + 100)  # and nobody again
        await unrouted(rig, 300)


@async_test
async def test_a_subscriber_that_left_is_no_receiver_and_a_new_one_of_its_name_is(
    rig: Rig,
) -> None:
    async with shard_node.connect(rig.endpoint, "ann") as a:
        for life in range(3):
            got: list[int] = []
            async with shard_node.connect(rig.endpoint, "ben") as b:
                b.on("news", lambda message, got=got: got.append(message.body))
                await known(b)
                for i in range(100):
                    await a.publish("news", (life, i))
                await until(lambda got=got: len(got) == 100)
                assert got == [[life, i] for i in range(100)]
        # Those who left are silent: what is said to them waits for nobody's reading.
        for _ in range(NOISE):
            await a.publish("news", (3, 0))
        assert a.broker_up


@async_test
async def test_two_listeners_get_each_event_once_and_so_does_its_sender(rig: Rig) -> None:
    async with (
        shard_node.connect(rig.endpoint, "ann") as a,
        shard_node.connect(rig.endpoint, "ben") as b,
        shard_node.connect(rig.endpoint, "c") as c,
    ):
        got: dict[str, list[int]] = {"ann": [], "ben": [], "c": []}
        for node in (a, b, c):
            node.on("news", lambda message, mine=got[node.name]: mine.append(message.body))
            await known(node)
        for i in range(NOISE):
            await a.publish("news", i)
        await until(lambda: all(len(mine) >= NOISE for mine in got.values()))
        assert all(mine == list(range(NOISE)) for mine in got.values())
        assert (await counts(rig))["messages_forwarded"] >= 3 * NOISE
