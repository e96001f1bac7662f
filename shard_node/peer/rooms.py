"""Publishers that wait for room. It belongs to one loop."""

from __future__ import annotations

import asyncio

from shard_node.peer.frames import Line
from shard_node.peer.outbox import Outbox


class Rooms:
    """Who waits for which line."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.waiting: list[tuple[Line, asyncio.Future[None]]] = []

    async def wait(self, line: Line, timeout_s: float) -> None:
        """Wait until a publisher may go on; after ``timeout_s`` the oldest events go."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (line, future)
        self.waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            self._outbox.drop_oldest(line)
        finally:
            self.waiting = [other for other in self.waiting if other is not entry]

    def give(self, *, everybody: bool = False) -> None:
        """Let go on who may."""
        for line, future in self.waiting:
            if (everybody or self._outbox.room(line)) and not future.done():
                future.set_result(None)
