"""What this process has of one shard that comes or goes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from shard_node.handing import Event, Handing

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeShard
    from shard_node.bridge.tail import Tail

_log = logging.getLogger(__name__)


class Moving:
    """One shard on its way. ``handing`` decides; the rest is what was made for it."""

    def __init__(self, shard: int, handing: Handing) -> None:
        self.shard, self.handing = shard, handing
        self.events = deque[Event]()
        self.acting = False
        """Events wait for those before them."""
        self.timer: asyncio.TimerHandle | None = None
        self.tail: Tail | None = None
        """What follows the journal."""
        self.read_at = 0.0
        """When it read last."""
        self.ahead: NodeShard | None = None
        """A connection that waits for its RESUME."""
        self.connecting: asyncio.Task[None] | None = None
        self.connected_at = 0.0
        self.turn = 0
        """Counts what makes earlier work on the caches vain."""
        self.gap_ms, self.identified = -1.0, False
        self._last: asyncio.Task[None] | None = None
        self._closing = set[asyncio.Task[None]]()

    def then(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` behind what was begun before."""
        before = self._last

        async def behind() -> None:
            if before is not None and not before.done():
                await asyncio.wait({before})
            try:
                await work()
            except Exception:
                _log.exception("shard %d could not be moved", self.shard)

        self._last = asyncio.create_task(behind(), name=f"shardctl: move {self.shard}")

    def disconnect(self) -> None:
        """Let go of what was connected ahead."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            ahead._cancel_task()
            self.close_soon(ahead)

    def close_soon(self, shard: NodeShard) -> None:
        """Close a connection in the background; its session stays."""
        task = asyncio.create_task(shard.ws.abandon(), name=f"shardctl: close {self.shard}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def unread(self) -> None:
        """Follow the journal no more."""
        tail, self.tail = self.tail, None
        if tail is not None:
            tail.close()

    def close(self) -> None:
        """The process stops."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.disconnect()
        self.unread()

    def end(self) -> None:
        """No task outlives the loop."""
        if self._last is not None:
            self._last.cancel()
