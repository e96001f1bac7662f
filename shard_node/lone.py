"""A bot without a fleet: the shared state in its own memory, gone when it ends.

It has the primitives of a fleet's node and its handlers; there is nobody else to talk to.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from shard_node.peer.encoding import encode
from shard_node.peer.handlers import Handlers, Message, TopicName, topic_name
from shard_node.shared.alone import Alone
from shard_node.shared.member import tell_handlers
from shard_node.shared.primitives import Primitives
from shard_node.shared.sinks import Direct
from shard_node.shared.watch import Watches
from shard_node.state.deltas import delta_of, name_of
from shard_node.state.machine import Applied
from shard_node.wire.categories import StateUpdate
from shard_node.wire.header import Header

_log = logging.getLogger(__name__)

_current: LoneNode | None = None


def current() -> LoneNode | None:
    """What stands for the node of a process without a fleet; None where ``run`` was not
    called."""
    return _current


def begin() -> LoneNode:
    """The process runs alone from now on. Twice is once."""
    global _current
    if _current is None:
        _current = LoneNode()
    return _current


class LoneNode(Primitives):
    """The node of a process that runs alone: all shards are its own."""

    name = "alone"
    broker_up = True

    def __init__(self) -> None:
        self.handlers = Handlers()
        self._backend = Alone(self._applied)
        self._tasks: set[asyncio.Task[Any]] = set()
        super().__init__(Direct(self._backend), Watches(self))

    def on(self, topic: TopicName, handler: Callable[[Message], Any] | None = None) -> Any:
        """As ``Peer.on``."""
        if handler is None:
            return lambda call: self.on(topic, call)
        self.handlers.listen(topic, handler)
        return handler

    def off(self, topic: TopicName, handler: Callable[[Message], Any]) -> None:
        """As ``Peer.off``."""
        self.handlers.unlisten(topic, handler)

    async def publish(self, topic: TopicName, body: Any, *, lane: str | None = None) -> None:
        """As ``Peer.publish``: those who listen are this process's own."""
        del lane
        self._start(topic_name(topic), encode(body))

    def event(self, head: Header, body: bytes) -> None:
        """Start the handlers of an event."""
        self._start(head.topic, body)

    def _applied(self, applied: Applied) -> None:
        for key, row in applied.writes.items():
            delta = delta_of(key, applied.before[key], row) if key in applied.before else None
            if delta is not None:
                update = StateUpdate(
                    delta.table.name.lower(), key[0], name_of(delta.parts), delta.changed,
                    delta.old_version, delta.new_version, applied.lsn, "", delta.removed,
                )  # fmt: skip
                asyncio.get_running_loop().call_soon(tell_handlers, self, update)

    def _start(self, topic: str, data: bytes) -> None:
        for handler in self.handlers.events.get(topic, ()):
            message = Message(handler.decode, data, topic, self.name, "normal", time.time())
            try:
                result = handler.call(message)
            except Exception:
                _log.exception("a handler of %s failed", topic)
                continue
            if isinstance(result, CoroutineType):
                task = asyncio.get_running_loop().create_task(result)
                self._tasks.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a handler failed", exc_info=task.exception())
