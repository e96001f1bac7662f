"""The hold on one bot: its shards are connected, recovered and closed from here."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Final

import aiohttp
import disnake
from disnake.client import SessionStartLimit
from disnake.errors import ConnectionClosed
from disnake.gateway import ReconnectWebSocket
from disnake.shard import AutoShardedClient, EventItem, EventType

from shard_node.bridge import permits
from shard_node.bridge.feeds import Feeds
from shard_node.bridge.gateway import (
    HOLD_KEY,
    Attempt,
    NodeShard,
    NodeWebSocket,
    attempt_now,
)
from shard_node.bridge.reports import Reports
from shard_node.reconnect import FATAL, IDENTIFY_AFTER, ReconnectPlan, Way
from shard_node.runtime import Node
from shard_node.wire.bodies import ShardDisconnect
from shard_node.wire.topics import SHARD_DISCONNECT

_log = logging.getLogger(__name__)

IDENTIFY_TIMEOUT_S: Final = 60.0
"""From opening the connection to the IDENTIFY sent, the author's hook included."""
RESUME_TIMEOUT_S: Final = 15.0


class Hold:
    """A sharded bot as this node's. ``stopping`` ends all connecting."""

    def __init__(self, node: Node, client: AutoShardedClient) -> None:
        self.node = node
        self.client = client
        self.stopping = False
        self._gateway: str | None = None
        self._plans = {shard: ReconnectPlan() for shard in node.shards}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._launching: asyncio.Task[None] | None = None
        self._assign()
        client.__dict__[HOLD_KEY] = self
        self.reports = Reports(self)
        self.feeds = Feeds(self.node, client._connection)

    @property
    def shards(self) -> dict[int, NodeShard]:
        """The shards that were connected at least once."""
        found: dict[int, NodeShard] = self.client.__dict__["_AutoShardedClient__shards"]
        return found

    def _assign(self) -> None:
        """Whatever the author passed: this node's shards, of the fleet's count."""
        client, state = self.client, self.client._connection
        client.shard_ids = state.shard_ids = list(self.node.shards)
        client.shard_count = state.shard_count = self.node.num_shards

    # --- starting

    async def launch(self) -> None:
        """Ask for the gateway, then connect all shards at once, each when it is permitted.

        Returns before they are connected, so that the client's own loop serves a shard that
        is lost while another still waits for its permit.
        """
        client = self.client
        _, self._gateway, limit = await client.http.get_bot_gateway(
            encoding=client.gateway_params.encoding, zlib=client.gateway_params.zlib
        )
        client.session_start_limit = SessionStartLimit(limit)
        self._assign()
        self._launching = asyncio.create_task(self._launch_all(), name="shardctl: launch")

    async def _launch_all(self) -> None:
        try:
            await asyncio.gather(*(self._launch_one(shard) for shard in self.node.shards))
        except Exception as error:
            self._terminate(error)
        else:
            self.client._connection.shards_launched.set()

    async def _launch_one(self, shard_id: int) -> None:
        ws = await self._connected(shard_id, None)
        if ws is None:
            return
        shard = NodeShard(ws, self.client, self._queue.put_nowait)
        self.shards[shard_id] = shard
        shard.launch()

    # --- recovering

    def recover(self, shard: NodeShard, *, resume: bool) -> asyncio.Task[None] | None:
        """Connect a shard again, in the background. None where the node stops."""
        if self.stopping or self.client.is_closed():
            return None
        running = self._tasks.get(shard.id)
        if running is not None and not running.done():
            return running
        shard._cancel_task()
        self._tell_disconnected(shard, resume=resume)
        self._plans[shard.id].connection_ended(time.monotonic())
        task = asyncio.create_task(self._reopen(shard), name=f"shardctl: shard {shard.id}")
        self._tasks[shard.id] = task
        return task

    def _tell_disconnected(self, shard: NodeShard, *, resume: bool) -> None:
        ws, code = shard.ws, shard.ws.code
        if not resume or code in IDENTIFY_AFTER:
            ws.forget_session()
        resumable = ws.session_id is not None
        self.node.table.disconnected(shard.id, resumable=resumable)
        self.node.refresh()
        body = ShardDisconnect(shard.id, self.node.num_shards, code, resumable)
        self.node.send_event(SHARD_DISCONNECT, body)
        self.client.dispatch("disconnect")
        self.client.dispatch("shard_disconnect", shard.id)

    async def _reopen(self, shard: NodeShard) -> None:
        try:
            await shard.ws.abandon()
            ws = await self._connected(shard.id, shard.ws)
        except Exception as error:
            self._terminate(error)
            return
        if ws is not None:
            shard.ws = ws
            shard.launch()

    async def _connected(self, shard_id: int, last: NodeWebSocket | None) -> NodeWebSocket | None:
        """A connection of the shard: tries as its plan says, until one is made.

        None once the node stops. Raises what no further try can mend.
        """
        plan = self._plans[shard_id]
        while not self.stopping:
            has_session = last is not None and last.session_id is not None
            attempt = plan.next(has_session=has_session, spread=random.random())
            if attempt.delay_s:
                await asyncio.sleep(attempt.delay_s)
            if attempt.way is Way.IDENTIFY and last is not None:
                last.forget_session()
                self.node.table.disconnected(shard_id, resumable=False)
            try:
                return await self._open(shard_id, attempt.way, last)
            except ReconnectWebSocket as error:
                if not error.resume and last is not None:
                    last.forget_session()
            except ConnectionClosed as error:
                if error.code in FATAL:
                    self.fatal(shard_id, error.code)
                    raise
                _log.warning("shard %d: %s", shard_id, error)
            except _PASSING as error:
                _log.warning("shard %d could not %s: %r", shard_id, attempt.way.value, error)
            plan.failed()
        return None

    async def _open(self, shard_id: int, way: Way, last: NodeWebSocket | None) -> NodeWebSocket:
        permit = None
        if way is Way.IDENTIFY:
            permit = await permits.take(self.node, shard_id)
            self.node.table.permitted(shard_id)
            self.node.refresh()
        attempt = Attempt(permit)
        token = attempt_now.set(attempt)
        timeout_s = RESUME_TIMEOUT_S if permit is None else IDENTIFY_TIMEOUT_S
        try:
            return await asyncio.wait_for(self._from_client(shard_id, way, last), timeout_s)
        except BaseException:
            await attempt.abandon()
            raise
        finally:
            attempt_now.reset(token)
            if permit is not None:
                permit.close()

    async def _from_client(
        self, shard_id: int, way: Way, last: NodeWebSocket | None
    ) -> NodeWebSocket:
        if way is Way.IDENTIFY or last is None:
            return await NodeWebSocket.from_client(
                self.client, initial=last is None, gateway=self._gateway, shard_id=shard_id
            )
        return await NodeWebSocket.from_client(
            self.client,
            gateway=last.resume_gateway if way is Way.RESUME else self._gateway,
            shard_id=shard_id,
            session=last.session_id,
            sequence=last.sequence,
            resume=True,
        )

    # --- what happens to a shard

    def settled(self, shard_id: int) -> None:
        """READY or RESUMED came."""
        self._plans[shard_id].succeeded(time.monotonic())

    def shard_closed(self, shard: NodeShard) -> None:
        """A shard was disconnected on purpose."""
        if not self.stopping:
            self.node.table.closed(shard.id)
            self.node.refresh()

    def fatal(self, shard_id: int, code: int) -> None:
        """A close code that no reconnecting mends."""
        reason, hint = FATAL[code]
        _log.error("shard %d was closed with %d: %s", shard_id, code, reason)
        self.node.die(code, f"close code {code} on shard {shard_id}: {reason}", hint)

    # --- stopping

    def begin_stop(self, *, discard_sessions: bool = False) -> None:
        """No shard connects any more; the node's shards drain."""
        self.stopping = True
        self.node.table.drain()
        self.node.refresh()
        for task in (self._launching, *self._tasks.values()):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        for shard in self.shards.values():
            shard.ws.discard_session = discard_sessions

    @property
    def _queue(self) -> asyncio.PriorityQueue[EventItem]:
        found: asyncio.PriorityQueue[EventItem] = self.client.__dict__["_AutoShardedClient__queue"]
        return found

    def _terminate(self, error: Exception) -> None:
        """End the client's ``connect`` with ``error``, as stock disnake does."""
        self._queue.put_nowait(EventItem(EventType.terminate, None, error))


_PASSING: tuple[type[Exception], ...] = (
    OSError,
    disnake.HTTPException,
    disnake.GatewayNotFound,
    aiohttp.ClientError,
    asyncio.TimeoutError,
)
