"""The hold on one bot: its shards are connected, recovered and closed from here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from disnake.client import SessionStartLimit
from disnake.shard import AutoShardedClient, EventItem, EventType

from shard_node.bridge.connecting import Connecting, Last
from shard_node.bridge.exile import Exile
from shard_node.bridge.feeds import Feeds
from shard_node.bridge.gateway import HOLD_KEY, NodeShard
from shard_node.bridge.hosting import Hosting
from shard_node.bridge.keeping import Keeping, Past
from shard_node.bridge.lingering import Lingering
from shard_node.bridge.listening import Listening
from shard_node.bridge.moves import Moves
from shard_node.bridge.mute import Mute
from shard_node.bridge.passing import Passing
from shard_node.bridge.reconnecting import Reconnecting
from shard_node.bridge.remote import Asked, stand_in
from shard_node.bridge.reports import Reports
from shard_node.bridge.sent import Sent
from shard_node.bridge.tracking import Tracking
from shard_node.bridge.warm import Start
from shard_node.reconnect import FATAL, IDENTIFY_AFTER
from shard_node.runtime import Node
from shard_node.settings import SUCCESSOR
from shard_node.wire.bodies import ShardDisconnect
from shard_node.wire.topics import SHARD_DISCONNECT

_log = logging.getLogger(__name__)


class Hold:
    """A sharded bot as this node's. ``stopping`` ends all connecting."""

    def __init__(self, node: Node, client: AutoShardedClient) -> None:
        self.node = node
        self.client = client
        self.stopping = False
        self._discard = False
        self.connecting = Connecting(self)
        self._tasks: dict[int, asyncio.Task[bool]] = {}
        self._launching: asyncio.Task[None] | None = None
        self._assign()
        client.__dict__[HOLD_KEY] = self
        state = client._connection
        self.stock = dict(state.parsers)
        """disnake's parsers, before anybody stands in for them."""
        self.mute = Mute(state.dispatch)
        vars(state)["dispatch"] = self.mute
        self.tracking = Tracking()
        self.keeping: Keeping | None = None
        """The journals; None where the node has none."""
        self.start = Start(self)
        self.moves = Moves(self)
        self.sent = Sent()
        self.passing = Passing(self)
        self.lingering = Lingering(self)
        self.lingering.hang_in()
        self.moves.taken = self._taken
        self.hosting = Hosting(self)
        """Guilds whose shards other processes have."""
        self.exile = Exile(self)
        """Guilds of this process's shards that others have."""
        self.asked = Asked(self)
        stand_in(self)
        self.reconnecting = Reconnecting(self)
        self.listening = Listening(self)
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

    def own(self, shard_id: int) -> None:
        """A shard has come to this process."""
        self.connecting.begin(shard_id)
        self.node.shards = {*self.node.shards, shard_id}
        self._assign()

    def disown(self, shard_id: int) -> None:
        """A shard is another process's."""
        self.node.shards = {*self.node.shards} - {shard_id}
        self.node.table.remove(shard_id)
        self.start.left(shard_id)
        self._assign()
        # At once: a new broker that was told of the shard would refuse this process.
        self.node.refresh()

    # --- starting

    def keep(self, folder: Path, token: str) -> None:
        """Write journals in ``folder``. Without it the node works, but cannot be RESUMEd."""
        try:
            self.keeping = Keeping(self, folder, token)
            self.keeping.feeder.elsewhere = self.hosting.knows
        except OSError as error:
            _log.warning("no journal in %s, so each start IDENTIFYs: %s", folder, error)

    async def launch(self) -> None:
        """Ask for the gateway, then connect all shards at once, each when it is permitted.

        Returns before they are connected, so that the client's own loop serves a shard that
        is lost while another still waits for its permit.
        """
        client = self.client
        _, self.connecting.gateway, limit = await client.http.get_bot_gateway(
            encoding=client.gateway_params.encoding, zlib=client.gateway_params.zlib
        )
        client.session_start_limit = SessionStartLimit(limit)
        self._assign()
        self.moves.launch()
        self.hosting.launched.set()
        if self.node.settings.role != SUCCESSOR:
            self._launching = asyncio.create_task(self._launch_all(), name="shardctl: launch")
        if self.node.settings.deaf and self.keeping is not None:  # its tap counts what comes
            self.listening.start()

    async def _launch_all(self) -> None:
        wanted = [shard for shard in self.node.shards if not self.moves.has_left(shard)]
        tasks = [self._begin(shard, partial(self._launch_one, shard)) for shard in wanted]
        if tasks:
            await asyncio.wait(tasks)
        if all(task.cancelled() or task.result() for task in tasks):
            self.client._connection.shards_launched.set()

    async def _launch_one(self, shard_id: int) -> None:
        past = None if self.keeping is None else await self.keeping.take(shard_id)
        self.passing.restore(shard_id)
        if past is not None:
            self.node.table.disconnected(shard_id, resumable=True)
            self.reports.changed()
        await self._connect(shard_id, past)

    def open(self, shard_id: int, past: Past | None) -> None:
        """Connect a shard that has come, in the background: its lock is ours."""
        self._begin(shard_id, partial(self._connect, shard_id, past))

    async def _connect(self, shard_id: int, past: Past | None) -> None:
        ws = await self.connecting.connected(shard_id, past)
        if ws is None:
            return
        shard = NodeShard(ws, self.client, self.queue.put_nowait)
        self.shards[shard_id] = shard
        shard.launch()

    def _begin(
        self, shard_id: int, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> asyncio.Task[bool]:
        """One task a shard; what it raises ends the client."""

        async def done() -> bool:
            try:
                await work()
            except Exception as error:
                self._terminate(error)
                return False
            return True

        task = asyncio.create_task(done(), name=f"shardctl: shard {shard_id}")
        self._tasks[shard_id] = task
        return task

    def _taken(self, shard_id: int) -> None:
        self.lingering.taken(shard_id)
        self.passing.restore(shard_id)

    async def halt(self, shard_id: int) -> None:
        """Stop what connects a shard now."""
        task = self._tasks.get(shard_id)
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    # --- recovering

    def recover(self, shard: NodeShard, *, resume: bool) -> asyncio.Task[bool] | None:
        """Connect a shard again, in the background. None where the node stops, or the shard is
        another's."""
        if self.stopping or self.client.is_closed():
            return None
        if self.shards.get(shard.id) is not shard:
            self.moves.lost(shard)
            return None
        running = self._tasks.get(shard.id)
        if running is not None and not running.done():
            return running
        shard._cancel_task()
        self._tell_disconnected(shard, resume=resume)
        self.connecting.ended(shard.id)
        return self._begin(shard.id, partial(self._reopen, shard))

    def _tell_disconnected(self, shard: NodeShard, *, resume: bool) -> None:
        ws, code = shard.ws, shard.ws.code
        if not resume or code in IDENTIFY_AFTER:
            self.forget(shard.id, ws)
        resumable = ws.session_id is not None
        self.node.table.disconnected(shard.id, resumable=resumable)
        self.node.refresh()
        body = ShardDisconnect(shard.id, self.node.num_shards, code, resumable)
        self.node.send_event(SHARD_DISCONNECT, body)
        self.client.dispatch("disconnect")
        self.client.dispatch("shard_disconnect", shard.id)

    async def _reopen(self, shard: NodeShard) -> None:
        await shard.ws.abandon()
        ws = await self.connecting.connected(shard.id, shard.ws)
        if ws is not None:
            shard.ws = ws
            shard.launch()

    # --- what happens to a shard

    def settled(self, shard_id: int, *, resumed: bool) -> None:
        """READY or RESUMED came."""
        self.connecting.settled(shard_id)
        if resumed:
            self.start.resumed(shard_id)
        else:
            self.start.identified(shard_id)
            self.passing.keep(shard_id)  # a new session's part of the journal begins empty
        self.reconnecting.settled(shard_id, resumed=resumed)
        if self.keeping is not None:
            self.keeping.settled(shard_id, resumed=resumed)
        self.moves.joined(shard_id, resumed=resumed)

    def forget(self, shard_id: int, last: Last) -> None:
        """The shard's session is over."""
        last.forget_session()
        if self.keeping is not None:
            self.keeping.ended(shard_id)

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
        self.moves.begin_stop()
        self.hosting.begin_stop()
        self._discard = discard_sessions
        self.node.table.drain()
        self.node.refresh()
        for task in (self._launching, *self._tasks.values()):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        for shard in self.shards.values():
            shard.ws.discard_session = discard_sessions

    def leave(self) -> None:
        """The bot is closed and its handlers have ended: others may have the shards."""
        self.listening.close()
        self.reports.close()
        self.start.close()
        self.moves.leave()
        self.lingering.close()
        self.passing.close()
        self.hosting.close()
        self.exile.close()
        if self.keeping is not None:
            self.keeping.close(discard=self._discard)

    @property
    def queue(self) -> asyncio.PriorityQueue[EventItem]:
        """Where disnake's loop hears of its shards."""
        found: asyncio.PriorityQueue[EventItem] = self.client.__dict__["_AutoShardedClient__queue"]
        return found

    def _terminate(self, error: Exception) -> None:
        """End the client's ``connect`` with ``error``, as stock disnake does."""
        self.queue.put_nowait(EventItem(EventType.terminate, None, error))
