"""Nodes on the running loop, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from shard_node.runtime import Node
from shard_node.settings import NodeSettings

WAIT_S = 5.0


def make(endpoint: str, name: str, epoch: int = 1) -> Node:
    return Node(
        NodeSettings(
            "test", endpoint, name, 0, epoch, (0,), 1, Path("/"), "main.py", False, "", False,
            "", 1.0, None,
        )
    )  # fmt: skip


async def until(look: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not look():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Attached and registered. They do not beat: no thread has to be waited for."""
    try:
        for node in nodes:
            node.attach(asyncio.get_running_loop())
        for node in nodes:
            await until(lambda node=node: node.broker_up)
        yield
    finally:
        for node in nodes:
            node.detach()
            node._context.destroy(linger=0)
