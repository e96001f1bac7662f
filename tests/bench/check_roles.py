"""What the processes of the checks of ours alone do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import shard_node
from shard_node.errors import ShardNodeError
from shardctl.bench.loads import ASK, REQUEST_MAX_S, answering
from shardctl.bench.measure import body_of, now_ns
from shardctl.bench.worker import Link

PUBLISH_GAP_S = 0.02
SEND_GAP_S = 0.02
ASK_GAP_S = 0.005
BODY = body_of()


async def connected(link: Link, endpoint: str, prefix: str, count: int) -> dict[str, Any]:
    """``count`` peers that say nothing by themselves."""
    async with contextlib.AsyncExitStack() as stack:
        for place in range(count):
            await stack.enter_async_context(shard_node.connect(endpoint, f"{prefix}-{place}"))
        link.say({})
        await link.hear()
    return {}


async def talk(
    link: Link, endpoint: str, name: str, targets: list[str], everybody: list[str]
) -> dict[str, Any]:
    """Publishes to everybody, sends to one of ``everybody`` after the other, whether it has a
    receipt or not, and asks one of ``targets`` after the other."""
    others = [target for target in targets if target != name]
    sends: set[asyncio.Task[None]] = set()
    choice = random.Random(name)
    asked: list[tuple[int, int]] = []

    async def publishing(node: Any) -> None:
        while True:
            await node.publish("bench.all", BODY)
            await asyncio.sleep(PUBLISH_GAP_S)

    async def send(node: Any, target: str) -> None:
        with contextlib.suppress(ShardNodeError):  # it stands still, or is given up by now
            await node.send(shard_node.Node(target), "bench.one", BODY)

    async def sending(node: Any) -> None:
        while True:
            task = asyncio.create_task(send(node, choice.choice(everybody)))
            sends.add(task)
            task.add_done_callback(sends.discard)
            await asyncio.sleep(SEND_GAP_S)

    async def asking(node: Any) -> None:
        while True:
            start_ns = now_ns()
            target = shard_node.Node(choice.choice(others))
            await node.request(target, ASK, BODY, timeout_s=REQUEST_MAX_S)
            asked.append((start_ns, now_ns() - start_ns))
            await asyncio.sleep(ASK_GAP_S)

    async def handle(message: Any) -> None:
        assert message.body

    async with shard_node.connect(endpoint, name) as node:
        node.on("bench.all", handle)
        node.on("bench.one", handle)
        await answering(node, name)
        link.say({})
        await link.hear()
        tasks = [asyncio.create_task(work(node)) for work in (publishing, sending, asking)]
        await link.hear()
        for task in (*tasks, *sends):
            task.cancel()
        await asyncio.gather(*tasks, *sends, return_exceptions=True)
    return {"asked": asked}
