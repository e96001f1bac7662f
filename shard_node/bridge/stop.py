"""The end of a node: signals, sessions kept, handlers drained, the author's own farewell."""

from __future__ import annotations

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from disnake.shard import AutoShardedClient

from shard_node.bridge.gateway import CLOSE_TIMEOUT_S
from shard_node.effects import StopAsked

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

CLIENT_CLOSE_TIMEOUT_S: Final = 5.0
"""How long the author's own ``close`` may take before disnake's is called without it."""

_HANDLERS = ("disnake: on_", "disnake-ui-view-dispatch-", "disnake-ui-modal-dispatch-")
"""How disnake names the tasks of event handlers, views and modals."""
_LIFECYCLE = tuple(
    f"disnake: on_{name}" for name in ("ready", "connect", "disconnect", "resumed", "shard_")
)
"""Their handlers answer nobody, and often hold a loop of the author's that never ends."""

QUICK: Final = StopAsked("asked to stop quickly", 0.0, False)


class Stopper:
    """Stops one bot, once. It hurries at SIGINT, at a second SIGTERM, or told to drain 0 s;
    the SIGTERM after the broker's word is the same stop said twice."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self.begun = asyncio.Event()
        self._quick = asyncio.Event()
        self._terminated = False
        self._task: asyncio.Task[None] | None = None

    def install_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """SIGTERM stops gracefully, SIGINT quickly, in place of whatever the bot set."""
        node = self._hold.node
        for number, act in (
            (signal.SIGTERM, self._terminate),
            (signal.SIGINT, functools.partial(node.ask_stop, QUICK)),
        ):
            try:
                loop.add_signal_handler(number, act)
            except (NotImplementedError, RuntimeError, ValueError):
                _log.debug("no signal handler on this loop; a signal ends the process")

    def _terminate(self) -> None:
        stop = QUICK if self._terminated else StopAsked("SIGTERM", None, False)
        self._terminated = True
        self._hold.node.ask_stop(stop)

    def ask(self, stop: StopAsked) -> None:
        """Begin to stop, or hurry."""
        if stop.drain_s == 0.0:
            self._quick.set()
        if self._task is None:
            self._task = asyncio.create_task(self._stop(stop), name="shardctl: stop")
            self.begun.set()

    async def finished(self) -> None:
        """Wait for a stop that has begun, unless it is what waits."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait({task})

    async def _stop(self, stop: StopAsked) -> None:
        try:
            await self._stop_in_order(stop)
        except Exception:
            _log.exception("the stop failed half-way; closing the bot")
            await self._close_client()

    async def _stop_in_order(self, stop: StopAsked) -> None:
        drain_s = self._hold.node.settings.drain_s if stop.drain_s is None else stop.drain_s
        deadline = time.monotonic() + drain_s
        self._hold.begin_stop(discard_sessions=stop.discard_sessions)
        shards = [shard.disconnect() for shard in self._hold.shards.values()]
        await _all_within(shards, CLOSE_TIMEOUT_S * 2)
        await self._drain(deadline)
        await self._close_client()

    async def _drain(self, deadline: float) -> None:
        """Wait for the handlers that run, and for what they start."""
        quick = asyncio.create_task(self._quick.wait())
        try:
            while not self._quick.is_set() and (running := handlers_running()):
                timeout_s = deadline - time.monotonic()
                if timeout_s <= 0:
                    _log.warning("%d handlers did not end in time", len(running))
                    return
                await asyncio.wait(
                    {quick, *running}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            quick.cancel()

    async def _close_client(self) -> None:
        client = self._hold.client
        closing = asyncio.ensure_future(client.close())
        await asyncio.wait({closing}, timeout=CLIENT_CLOSE_TIMEOUT_S)
        if closing.done() and not closing.cancelled() and closing.exception() is not None:
            _log.error("the bot's close() failed", exc_info=closing.exception())
        if not client.is_closed():
            await AutoShardedClient.close(client)


def handlers_running() -> set[asyncio.Task[Any]]:
    """Tasks of event handlers, by the names that disnake gives them; it costs an event
    nothing, and is asked only when the node stops."""
    return {
        task
        for task in asyncio.all_tasks()
        if task.get_name().startswith(_HANDLERS)
        and not task.get_name().startswith(_LIFECYCLE)
        and task is not asyncio.current_task()
    }


async def _all_within(coroutines: Iterable[Any], timeout_s: float) -> None:
    tasks = {asyncio.ensure_future(coroutine) for coroutine in coroutines}
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
