"""The fleet from code that does not await: scripts, dashboards.

    with shard_node.sync.connect() as node:
        node.publish("reload", {"cog": "trade"})
        print(node.request(shard_node.Guild(81384788765712384), "balance", 42))

It is ``shard_node.connect`` on a loop in a thread of its own. The calls may come from any
thread and block until they are done; each ends by its own deadline. Handlers (``on``,
``serve``) run on the connection's thread: one that blocks holds up everything that the
connection does, and none may call back into it; ``async def`` handlers may wait.

A program that cannot use ``with`` calls ``open`` and ``close``; what it left open is closed
when the interpreter exits. A fork does not take the connection along: a child connects anew.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, TypeVar, overload

from shard_node.errors import BrokerUnavailable, RequestTimeout
from shard_node.peer.api import (
    GATHER_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    SEND_TTL_S,
    Call,
    Gathered,
    Receipt,
)
from shard_node.peer.connect import CONNECT_TIMEOUT_S, FLUSH_TIMEOUT_S, Client, Connection
from shard_node.peer.handlers import Message, TopicName
from shard_node.peer.turns import ROOM_TIMEOUT_S
from shard_node.shared.blocking import Blocking, BlockingTransaction
from shard_node.wire.guildview import GuildView
from shard_node.wire.targets import Target

_log = logging.getLogger(__name__)

T = TypeVar("T")
GRACE_S: Final = 2.0
"""Beyond its own deadline, for the thread to say so."""


def connect(
    endpoint: str | None = None, name: str | None = None, *, fleet: str | None = None
) -> SyncConnection:
    """As ``shard_node.connect``, for ``with``."""
    return SyncConnection(endpoint, name, fleet)


class SyncClient:
    """A program of the fleet; every call blocks until it is done.

    All raise BrokerUnavailable once the connection is closed or in a forked child, and
    RequestTimeout where a handler keeps the connection's thread from its work.
    """

    def __init__(self, client: Client, thread: _LoopThread) -> None:
        self._client, self._thread = client, thread

    @property
    def name(self) -> str:
        """What others reach it by."""
        return self._client.name

    @property
    def broker_up(self) -> bool:
        """Whether the broker answers now."""
        return self._thread.is_open and self._client.broker_up

    # --- handlers

    @overload
    def on(self, topic: TopicName) -> Callable[[Call], Call]: ...
    @overload
    def on(self, topic: TopicName, handler: Call) -> Call: ...
    def on(self, topic: TopicName, handler: Call | None = None) -> Any:
        """As ``Peer.on``; the handler runs on the connection's thread."""
        if handler is None:
            return lambda call: self.on(topic, call)
        return self._thread.call(lambda: _now(self._client.on, topic, handler))

    def off(self, topic: TopicName, handler: Callable[[Message], Any]) -> None:
        """As ``Peer.off``."""
        self._thread.call(lambda: _now(self._client.off, topic, handler))

    @overload
    def serve(self, name: TopicName) -> Callable[[Call], Call]: ...
    @overload
    def serve(self, name: TopicName, handler: Call) -> Call: ...
    def serve(self, name: TopicName, handler: Call | None = None) -> Any:
        """As ``Peer.serve``; the handler runs on the connection's thread."""
        if handler is None:
            return lambda call: self.serve(name, call)
        return self._thread.call(lambda: _now(self._client.serve, name, handler))

    def unserve(self, name: TopicName, handler: Callable[[Message], Any]) -> None:
        """As ``Peer.unserve``."""
        self._thread.call(lambda: _now(self._client.unserve, name, handler))

    # --- saying something

    def publish(self, topic: TopicName, body: Any, *, lane: str | None = None) -> None:
        """As ``Peer.publish``, awaited."""
        client = self._client
        self._thread.call(
            lambda: _awaited(client.publish, topic, body, lane=lane), timeout_s=ROOM_TIMEOUT_S
        )

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
        return self._thread.call(
            lambda: self._client.send(target, topic, body, lane=lane, ttl_s=ttl_s),
            timeout_s=ttl_s,
        )

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
        return self._thread.call(
            lambda: self._client.request(
                target, name, body, lane=lane, timeout_s=timeout_s, reply=reply
            ),
            timeout_s=timeout_s,
        )

    def gather(
        self,
        name: TopicName,
        body: Any = None,
        *,
        timeout_s: float = GATHER_TIMEOUT_S,
        reply: Any = Any,
    ) -> Gathered:
        """As ``Peer.gather``."""
        return self._thread.call(
            lambda: self._client.gather(name, body, timeout_s=timeout_s, reply=reply),
            timeout_s=timeout_s,
        )

    def fetch_guild(self, guild_id: int, *, timeout_s: float = REQUEST_TIMEOUT_S) -> GuildView:
        """As ``Peer.fetch_guild``."""
        return self._thread.call(
            lambda: self._client.fetch_guild(guild_id, timeout_s=timeout_s), timeout_s=timeout_s
        )

    def nodes(self, *, timeout_s: float = REQUEST_TIMEOUT_S) -> list[str]:
        """As ``Peer.nodes``."""
        return self._thread.call(
            lambda: self._client.nodes(timeout_s=timeout_s), timeout_s=timeout_s
        )

    # --- the shared state: the same names and arguments, and every call blocks

    def guild_config(self, guild_id: int, kind: Any = dict) -> Blocking:
        """As ``Peer.guild_config``."""
        return Blocking(self._client.guild_config(guild_id, kind), self._thread.call)

    def transaction(self, **said: Any) -> BlockingTransaction:
        """As ``Peer.transaction``, for ``with``."""
        return BlockingTransaction(self._client.transaction(**said), self._thread.call)

    @property
    def state(self) -> Blocking:
        """As ``Peer.state``."""
        return Blocking(self._client.state, self._thread.call)

    @property
    def members(self) -> Blocking:
        """As ``Peer.members``."""
        return Blocking(self._client.members, self._thread.call)

    @property
    def permissions(self) -> Blocking:
        """As ``Peer.permissions``."""
        return Blocking(self._client.permissions, self._thread.call)

    @property
    def users(self) -> Blocking:
        """As ``Peer.users``."""
        return Blocking(self._client.users, self._thread.call)

    @property
    def premium(self) -> Blocking:
        """As ``Peer.premium``."""
        return Blocking(self._client.premium, self._thread.call)

    @property
    def cooldowns(self) -> Blocking:
        """As ``Peer.cooldowns``."""
        return Blocking(self._client.cooldowns, self._thread.call)

    @property
    def economy(self) -> Blocking:
        """As ``Peer.economy``."""
        return Blocking(self._client.economy, self._thread.call)

    @property
    def moderation(self) -> Blocking:
        """As ``Peer.moderation``."""
        return Blocking(self._client.moderation, self._thread.call)


class SyncConnection:
    """What ``connect`` returns; it can be opened again once it is closed."""

    def __init__(self, endpoint: str | None, name: str | None, fleet: str | None = None) -> None:
        self._connection = Connection(endpoint, name, fleet)
        self._thread: _LoopThread | None = None

    def __enter__(self) -> SyncClient:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(kind, error, trace)

    def open(self) -> SyncClient:
        """Connect. Raises as entering ``shard_node.connect``, RuntimeError where it is open."""
        if self._thread is not None:
            raise RuntimeError("this connection is open already")
        thread = self._thread = _LoopThread()
        try:
            client = thread.call(self._connection.__aenter__, timeout_s=CONNECT_TIMEOUT_S)
        except BaseException:
            self._thread = None
            thread.stop()
            raise
        atexit.register(self.close)
        return SyncClient(client, thread)

    def close(self) -> None:
        """Let what was said leave, then leave the fleet. Twice does nothing."""
        self._leave(None, None, None)

    def _leave(self, *why: Any) -> None:
        thread, self._thread = self._thread, None
        atexit.unregister(self.close)
        if thread is None or not thread.is_open:
            return
        try:
            thread.call(lambda: self._connection.__aexit__(*why), timeout_s=FLUSH_TIMEOUT_S)
        except RequestTimeout:
            _log.warning("a handler holds the connection's thread, which is left to it")
        finally:
            thread.stop()


class _LoopThread:
    """A loop in a thread. ``call`` may come from any other thread of this process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="shard-node-sync", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether it can be called: not stopped, and not that of the process forked from."""
        return self._pid == os.getpid() and not self._stopped

    def call(self, begin: Callable[[], Coroutine[Any, Any, T]], timeout_s: float = 0.0) -> T:
        """Run what ``begin`` makes on the loop, and wait for it GRACE_S longer than it may
        take. Raises what it raises, BrokerUnavailable where there is no loop any more,
        RequestTimeout where the loop is busy, RuntimeError on the loop's own thread."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a handler cannot call its own connection: it would wait for itself")
        if self._pid != os.getpid():
            hint = "connect in this process"
            raise BrokerUnavailable("the connection is another process's", hint=hint)
        with self._lock:  # nothing is given to a loop that has begun to end
            if self._stopped:
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(begin(), self._loop)
        try:
            return future.result(timeout_s + GRACE_S)
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except TimeoutError:
            if future.done():  # it is the call's own
                raise
            future.cancel()
            raise RequestTimeout("the connection's thread is busy; does a handler block?") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread; who waits for a call hears that the connection is closed."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(GRACE_S)

    def _run(self) -> None:
        loop = self._loop
        try:
            loop.run_forever()
            loop.run_until_complete(_cancelled(asyncio.all_tasks(loop)))
        finally:
            loop.close()


async def _cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _now(call: Callable[..., T], *args: Any) -> T:
    return call(*args)


async def _awaited(call: Callable[..., Awaitable[T]], *args: Any, **more: Any) -> T:
    return await call(*args, **more)


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("the connection is closed", hint="connect again", retryable=False)
