"""The fleet from code that does not await: scripts, dashboards.

    with shard_node.sync.connect() as node:
        node.publish("reload", {"cog": "trade"})
        print(node.request(shard_node.Guild(81384788765712384), "balance", 42))

It is ``shard_node.connect`` on a loop in a thread of its own; the calls may come from any
thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, TypeVar

from shard_node.peer.api import (
    GATHER_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    SEND_TTL_S,
    Gathered,
    Receipt,
)
from shard_node.peer.connect import CONNECT_TIMEOUT_S, Client, Connection
from shard_node.peer.handlers import TopicName
from shard_node.wire.targets import Target

T = TypeVar("T")
GRACE_S: Final = 2.0
"""Beyond its own deadline, for the thread to say so."""


def connect(endpoint: str | None = None, name: str | None = None) -> SyncConnection:
    """As ``shard_node.connect``, for ``with``."""
    return SyncConnection(endpoint, name)


class SyncClient:
    """A program of the fleet; every call blocks until it is done."""

    def __init__(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    @property
    def name(self) -> str:
        """What others reach it by."""
        return self._client.name

    def publish(self, topic: TopicName, body: Any, *, lane: str | None = None) -> None:
        """As ``Peer.publish``."""
        self._call(self._publish(topic, body, lane), GRACE_S)

    def send(
        self,
        target: Target,
        topic: TopicName,
        body: Any,
        *,
        lane: str | None = None,
        ttl_s: float = SEND_TTL_S,
    ) -> Receipt:
        """As ``Peer.send``."""
        return self._call(self._client.send(target, topic, body, lane=lane, ttl_s=ttl_s), ttl_s)

    def request(
        self,
        target: Target,
        name: TopicName,
        body: Any = None,
        *,
        lane: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        reply: Any = Any,
    ) -> Any:
        """As ``Peer.request``."""
        asked = self._client.request(
            target, name, body, lane=lane, timeout_s=timeout_s, reply=reply
        )
        return self._call(asked, timeout_s)

    def gather(
        self,
        name: TopicName,
        body: Any = None,
        *,
        timeout_s: float = GATHER_TIMEOUT_S,
        reply: Any = Any,
    ) -> Gathered:
        """As ``Peer.gather``."""
        asked = self._client.gather(name, body, timeout_s=timeout_s, reply=reply)
        return self._call(asked, timeout_s)

    async def _publish(self, topic: TopicName, body: Any, lane: str | None) -> None:
        await self._client.publish(topic, body, lane=lane)

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s + GRACE_S)
        except BaseException:
            future.cancel()
            raise


class SyncConnection:
    """What ``connect`` returns."""

    def __init__(self, endpoint: str | None, name: str | None) -> None:
        self._connection = Connection(endpoint, name)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="shard-node-sync", daemon=True)

    def __enter__(self) -> SyncClient:
        self._thread.start()
        try:
            client = self._wait(self._connection.__aenter__(), CONNECT_TIMEOUT_S)
        except BaseException:
            self._end()
            raise
        return SyncClient(client, self._loop)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._wait(self._connection.__aexit__(kind, error, trace), GRACE_S)
        finally:
            self._end()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s + GRACE_S)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GRACE_S)
