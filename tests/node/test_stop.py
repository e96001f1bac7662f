"""Who hurries a stop: SIGINT and a second SIGTERM, never the first one."""

from __future__ import annotations

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

from shard_node.bridge.stop import Stopper
from shard_node.effects import StopAsked

NODE_STOP = StopAsked("respawn", 30.0, False)
HANDLER_S = 0.05
PATIENCE_S = 5.0


class Bot:
    """A hold and its client, with one handler that runs."""

    def __init__(self) -> None:
        self.node = self
        self.client = self
        self.settings = SimpleNamespace(drain_s=30.0)
        self.shards: dict[int, Any] = {}
        self.closed = asyncio.Event()
        self.handler = asyncio.create_task(asyncio.Event().wait(), name="disnake: on_message")
        self.stopper = Stopper(self)  # type: ignore[arg-type]
        self.stopper.install_signals(asyncio.get_running_loop())

    def ask_stop(self, stop: StopAsked) -> None:
        self.stopper.ask(stop)

    def begin_stop(self, *, discard_sessions: bool) -> None:
        assert not discard_sessions

    def is_closed(self) -> bool:
        return self.closed.is_set()

    async def close(self) -> None:
        self.closed.set()

    async def signalled(self, number: int) -> bool:
        """Whether the signal ended the wait for the handler."""
        os.kill(os.getpid(), number)
        try:
            await asyncio.wait_for(self.closed.wait(), HANDLER_S)
        except TimeoutError:
            return False
        return True

    async def ended(self) -> bool:
        self.handler.cancel()
        await asyncio.wait_for(self.closed.wait(), PATIENCE_S)
        await self.stopper.finished()
        return True


def test_the_sigterm_after_the_brokers_word_does_not_hurry() -> None:
    async def stop() -> None:
        bot = Bot()
        bot.ask_stop(NODE_STOP)
        assert not await bot.signalled(signal.SIGTERM)
        assert await bot.signalled(signal.SIGTERM)
        assert await bot.ended()

    asyncio.run(stop())


def test_the_brokers_word_after_a_sigterm_does_not_hurry() -> None:
    async def stop() -> None:
        bot = Bot()
        assert not await bot.signalled(signal.SIGTERM)
        bot.ask_stop(NODE_STOP)
        await asyncio.sleep(0)
        assert not bot.is_closed()
        assert await bot.ended()

    asyncio.run(stop())


def test_sigint_hurries() -> None:
    async def stop() -> None:
        bot = Bot()
        bot.ask_stop(NODE_STOP)
        assert await bot.signalled(signal.SIGINT)
        assert await bot.ended()

    asyncio.run(stop())
