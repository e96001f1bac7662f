"""Whoever asks the client for something inside a task never steps a handler there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from shard_node.client import BrokerClient
from tests.support.aio import async_test


@async_test
async def test_a_pump_inside_a_task_leaves_the_reading_to_the_loop() -> None:
    client: Any = BrokerClient.__new__(BrokerClient)
    seen: list[str] = []
    client._loop = asyncio.get_running_loop()
    client._socket, client._raw, client._turn = object(), None, None
    client._outbox = (("something",),)
    client._write = lambda: seen.append("write")
    client._plane = SimpleNamespace(turn=lambda: seen.append("turn"), looked=True, blocked=False)
    turned = asyncio.Event()

    def read() -> bool:
        seen.append("read" if asyncio.current_task() is None else "read inside a task")
        turned.set()
        return False

    client._read, client._after, client._look_again = read, lambda control: None, lambda: None
    client._pump()
    assert seen == ["write"]
    await asyncio.wait_for(turned.wait(), 5)
    assert seen == ["write", "write", "read", "turn"]
