"""What the processes of a run do, whoever the contender is."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from shardctl.bench.measure import latency, now_ns
from shardctl.bench.worker import Link
from tests.bench.contenders.base import Inbox, Peer

WARM_UP_REQUESTS = 200


async def _opened(module: str, address: str, name: str) -> Peer:
    peer: Peer = importlib.import_module(module).Peer()
    await peer.open(address, name)
    return peer


async def receiver(link: Link, module: str, address: str, name: str, count: int) -> dict[str, Any]:
    """Takes ``count`` messages; says when the last one was decoded."""
    peer = await _opened(module, address, name)
    inbox = Inbox(count)
    await peer.subscribe(inbox)
    link.say({})
    await peer.received(inbox)
    await peer.close()
    return {"last_ns": inbox.last_ns}


async def sender(
    link: Link, module: str, address: str, name: str, targets: list[str], count: int
) -> dict[str, Any]:
    """Sends ``count`` messages; says when it began."""
    peer = await _opened(module, address, name)
    link.say({})
    await link.hear()
    first_ns = now_ns()
    await peer.publish(targets, count)
    link.say({"first_ns": first_ns})
    await link.hear()
    await peer.close()
    return {}


async def member(
    link: Link, module: str, address: str, name: str, targets: list[str], count: int
) -> dict[str, Any]:
    """One of several who all send to each other."""
    peer = await _opened(module, address, name)
    inbox = Inbox(count)
    await peer.subscribe(inbox)
    link.say({})
    await link.hear()
    first_ns = now_ns()
    await asyncio.gather(peer.publish(targets, count), peer.received(inbox))
    link.say({"first_ns": first_ns, "last_ns": inbox.last_ns})
    await link.hear()
    await peer.close()
    return {}


async def responder(link: Link, module: str, address: str, name: str) -> dict[str, Any]:
    """Answers until the parent has had enough."""
    peer = await _opened(module, address, name)
    await peer.serve()
    link.say({})
    await link.hear()
    await peer.close()
    return {}


async def requester(
    link: Link, module: str, address: str, name: str, target: str, count: int, in_flight: int
) -> dict[str, Any]:
    """``count`` requests, ``in_flight`` of them at any time."""
    peer = await _opened(module, address, name)
    for _ in range(WARM_UP_REQUESTS):
        await peer.request(target)
    took_ns: list[int] = []

    async def one_after_another() -> None:
        for _ in range(count // in_flight):
            start_ns = now_ns()
            await peer.request(target)
            took_ns.append(now_ns() - start_ns)

    start_ns = now_ns()
    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    whole_ns = now_ns() - start_ns
    await peer.close()
    return {**latency(took_ns), "requests_s": len(took_ns) * 1e9 / whole_ns}
