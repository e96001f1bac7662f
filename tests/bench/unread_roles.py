"""Consumers that take nothing in, those who flood them, and a pair that talks beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from typing import Any, Final

import psutil
import zmq

import shard_node
from shard_node.errors import QueueFull, ShardNodeError
from shard_node.wire.bodies import ClientRegister, Heartbeat
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import client_id
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import HEARTBEAT_INTERVAL_S
from shard_node.wire.targets import BROKER
from shard_node.wire.topics import CLIENT_REGISTER, HEARTBEAT
from shardctl.bench.loads import ASK, REQUEST_MAX_S, answering
from shardctl.bench.measure import body_of, now_ns
from shardctl.bench.worker import Link

EVENT: Final = "unread.event"
MESSAGE: Final = "unread.message"
BODY: Final = body_of()
BURST: Final = 64
TTL_S: Final = 60.0
ASK_GAP_S: Final = 0.002
LOOK_S: Final = 0.2


async def deaf(link: Link, endpoint: str, name: str) -> dict[str, Any]:
    """Registers, subscribes, beats, and reads nothing but its welcome."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, client_id(name, os.getpid(), 1))
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(endpoint)
    _say(socket, CLIENT_REGISTER, ClientRegister(name, (EVENT,)))
    if not socket.poll(REQUEST_MAX_S * 1000):
        raise TimeoutError("no welcome")
    socket.recv_multipart()
    link.say({})
    told = asyncio.create_task(link.hear())
    counter = 0
    while not (await asyncio.wait({told}, timeout=HEARTBEAT_INTERVAL_S))[0]:
        counter += 1
        _say(socket, HEARTBEAT, Heartbeat(counter, 0.0, 0, 0, ()))
    context.destroy(linger=0)
    return {}


def _say(socket: zmq.Socket[bytes], topic: str, body: Any) -> None:
    head = header(Kind.REQUEST, BROKER, topic, lane=Lane.CONTROL, correlation=1, ttl_ms=2000)
    socket.send_multipart([encode_header(head), encode_body(body)], zmq.DONTWAIT)


async def endless(link: Link, endpoint: str, name: str) -> dict[str, Any]:
    """Takes everything in; its handlers never finish."""
    started = 0
    never = asyncio.Event()

    async def handle(_message: Any) -> None:
        nonlocal started
        started += 1
        await never.wait()

    async with shard_node.connect(endpoint, name) as node:
        node.on(EVENT, handle)
        node.on(MESSAGE, handle)
        await answering(node, name)
        link.say({})
        await link.hear()
        return {"started": started, "rss_mb": _rss_mb()}


async def flood(link: Link, endpoint: str, name: str, target: str) -> dict[str, Any]:
    """Publishes and sends to ``target`` as fast as it is let, until told to stop.

    Counts what ended how; ``without_hint`` are refusals that do not say when to try again.
    """
    ended: Counter[str] = Counter()
    most_mb = 0.0
    tasks: set[asyncio.Task[None]] = set()

    async def send(node: Any) -> None:
        try:
            await node.send(shard_node.Node(target), MESSAGE, BODY, ttl_s=TTL_S)
        except QueueFull as error:
            ended["full"] += 1
            ended["without_hint"] += not error.retry_after_s > 0
        except ShardNodeError as error:
            ended[error.code] += 1
        else:
            ended["handled"] += 1

    async def flooding(node: Any) -> None:
        while True:
            for _ in range(BURST):
                await node.publish(EVENT, BODY)
                task = asyncio.create_task(send(node))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            ended["begun"] += BURST
            await asyncio.sleep(0)

    async with shard_node.connect(endpoint, name) as node:
        link.say({})
        await link.hear()
        work = asyncio.create_task(flooding(node))
        told = asyncio.create_task(link.hear())
        while not (await asyncio.wait({told, work}, timeout=LOOK_S))[0]:
            most_mb = max(most_mb, _rss_mb())
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        waiting = len(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        counts = {"events_dropped": node._plane.outbox.dropped, "waiting": waiting}
        return {**ended, **counts, "most_mb": most_mb}


async def ask(link: Link, endpoint: str, name: str, target: str) -> dict[str, Any]:
    """Asks ``target`` one question after the other; when, and how long each took."""
    asked: list[tuple[int, int]] = []

    async def asking(node: Any) -> None:
        while True:
            start_ns = now_ns()
            await node.request(shard_node.Node(target), ASK, BODY, timeout_s=REQUEST_MAX_S)
            asked.append((start_ns, now_ns() - start_ns))
            await asyncio.sleep(ASK_GAP_S)

    async with shard_node.connect(endpoint, name) as node:
        link.say({})
        await link.hear()
        work = asyncio.create_task(asking(node))
        told = asyncio.create_task(link.hear())
        await asyncio.wait({told, work}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        work.cancel()
    return {"asked": asked}


def _rss_mb() -> float:
    return float(psutil.Process().memory_info().rss) / (1 << 20)
