"""Whoever asks the client for something inside a task never steps a handler there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from shard_node.client import BrokerClient
from tests.support.aio import async_test


@async_test
async def test_a_pump_inside_a_task_leaves_the_handlers_to_the_loop() -> None:
    client: Any = BrokerClient.__new__(BrokerClient)
    seen: list[str] = []
    client._loop = asyncio.get_running_loop()
    client._open, client._turn, client._acted = True, None, False
    client._outbox = (("something",),)
    client._write = lambda: seen.append("write")
    turned = asyncio.Event()

    def turn() -> None:
        seen.append("turn" if asyncio.current_task() is None else "turn inside a task")
        turned.set()

    client._plane = SimpleNamespace(turn=turn)
    client._after = lambda control: None
    client._pump()
    assert seen == ["write"]
    await asyncio.wait_for(turned.wait(), 5)
    assert seen == ["write", "write", "turn"]
