"""What the processes of a measurement do, through the public API of shard_node."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import shard_node
from shard_node.wire.targets import Node
from shardctl.bench.measure import body_of, latency, now_ns
from shardctl.bench.worker import Link

SAMPLE_EVERY: Final = 256
"""Messages between two notes of the time at a receiver."""
YIELD_EVERY: Final = 64
REQUEST_MAX_S: Final = 10.0
ASK: Final = "bench.ask"
_BODY: Final = body_of()


async def receive(
    link: Link, endpoint: str, name: str, topic: str, service_us: int = 0
) -> dict[str, Any]:
    """Handles ``topic``, each message for ``service_us`` of computing, and answers requests.

    Its result is how many messages it had handled when: [time, total] pairs.
    """
    samples: list[tuple[int, int]] = []
    count = 0

    async def handle(message: Any) -> None:
        nonlocal count
        assert message.body
        count += 1
        if service_us:
            end_ns = now_ns() + service_us * 1000
            while now_ns() < end_ns:
                pass
        if count % SAMPLE_EVERY == 0:
            samples.append((now_ns(), count))

    async with shard_node.connect(endpoint, name) as node:
        node.on(topic, handle)
        await answering(node, name)
        link.say({})
        await link.hear()
    return {"samples": samples, "count": count}


async def answering(node: Any, name: str) -> None:
    """Answers requests from now on; returns once the broker knows all that ``node`` takes."""

    async def answer(message: Any) -> Any:
        assert message.body
        return _BODY

    node.serve(ASK, answer)
    await node.request(Node(name), ASK, _BODY, timeout_s=REQUEST_MAX_S)


async def drive(
    link: Link,
    endpoint: str,
    name: str,
    flood: dict[str, Any] | None = None,
    ask: dict[str, Any] | None = None,
    gather: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Floods until it is told to stop, and meanwhile asks; see `_flood`, `_ask`, `_gather`.

    Says {} when connected, waits for word, says what the asking gave, waits for word, ends
    the flood; its result is what the flood sent.
    """
    stop = asyncio.Event()
    async with shard_node.connect(endpoint, name) as node:
        link.say({})
        await link.hear()
        flooding = asyncio.create_task(_flood(node, stop, **flood)) if flood else None
        said: dict[str, Any] = {}
        if ask:
            said = await _ask(node, **ask)
        if gather:
            said = await _gather(node, **gather)
        link.say(said)
        await link.hear()
        stop.set()
        return {"sent": await flooding if flooding else 0}


async def _flood(node: Any, stop: asyncio.Event, topic: str, lane: str) -> int:
    """Events as fast as they are taken; how many."""
    sent = 0
    while not stop.is_set():
        for _ in range(YIELD_EVERY):
            await node.publish(topic, _BODY, lane=lane)
        sent += YIELD_EVERY
        await asyncio.sleep(0)
    return sent


async def _ask(
    node: Any,
    target: str,
    count: int,
    in_flight: int = 1,
    gap_s: float = 0.0,
    settle_s: float = 0.0,
) -> dict[str, Any]:
    """``count`` requests to a node, ``in_flight`` at any time, with a pause after each."""
    took_ns: list[int] = []
    await asyncio.sleep(settle_s)

    async def one_after_another() -> None:
        for _ in range(max(1, count // in_flight)):
            start_ns = now_ns()
            await node.request(Node(target), ASK, _BODY, timeout_s=REQUEST_MAX_S)
            took_ns.append(now_ns() - start_ns)
            if gap_s:
                await asyncio.sleep(gap_s)

    start_ns = now_ns()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    end_ns = now_ns()
    rate = len(took_ns) * 1e9 / (end_ns - start_ns)
    return {**latency(took_ns), "requests_s": rate, "start_ns": start_ns, "end_ns": end_ns}


async def _gather(node: Any, count: int, expected: Sequence[str]) -> dict[str, Any]:
    """``count`` questions to all nodes, one after the other."""
    took_ns: list[int] = []
    result: Any = None
    for _ in range(count):
        start_ns = now_ns()
        result = await node.gather(ASK, _BODY, timeout_s=REQUEST_MAX_S)
        took_ns.append(now_ns() - start_ns)
    missing = [name for name in expected if name not in result.replies]
    replies, errors = len(result.replies), len(result.errors)
    return {**latency(took_ns), "replies": replies, "errors": errors, "missing": missing}
