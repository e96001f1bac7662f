"""Connects a shard anew when the broker asks: by RESUME, or with a new session."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from shard_node.wire.bodies import ShardState
from shard_node.wire.handover import Phase, ShardMoved
from shard_node.wire.operations import ShardReconnect
from shard_node.wire.shard_states import CONNECTED
from shard_node.wire.topics import SHARD_MOVED

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeWebSocket
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

RECONNECT_MAX_S: Final = 60.0
"""Without RESUMED or READY for so long it has failed; waiting for a permit does not count."""


class Running(NamedTuple):
    """A shard that is on its way."""

    op: str
    task: asyncio.Task[None]
    settled: asyncio.Future[bool]
    """Whether it was RESUMED."""


class Reconnecting:
    """Of one bot. The broker may ask twice: each operation is done once for a shard."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._running: dict[int, Running] = {}
        self._ended: dict[int, ShardMoved] = {}
        """The last answer of each shard."""

    def asked(self, asked: ShardReconnect) -> None:
        """SHARD_RECONNECT came."""
        ended, running = self._ended.get(asked.shard), self._running.get(asked.shard)
        if ended is not None and ended.op == asked.op:
            self._hold.node.send_event(SHARD_MOVED, ended)
        elif running is not None and running.op == asked.op:
            return
        elif problem := self._problem(asked):
            self._say(asked, Phase.FAILED, error=problem)
        else:
            self._begin(asked)

    def settled(self, shard_id: int, *, resumed: bool) -> None:
        """RESUMED or READY came."""
        running = self._running.get(shard_id)
        if running is not None and not running.settled.done():
            running.settled.set_result(resumed)

    def has(self, shard_id: int) -> str:
        """The operation that reconnects this shard now, or nothing."""
        running = self._running.get(shard_id)
        return "" if running is None else running.op

    def _problem(self, asked: ShardReconnect) -> str:
        hold, shard = self._hold, asked.shard
        node = hold.node
        if asked.num_shards != node.num_shards or shard not in node.shards:
            return f"shard {shard} of {asked.num_shards} is not held by {node.name}#{node.epoch}"
        if hold.stopping or hold.client.is_closed():
            return f"node {node.name} stops"
        if op := self.has(shard):
            return f"shard {shard} is being reconnected by {op}"
        if op := hold.moves.has(shard):
            return f"shard {shard} is being handed over by {op}"
        state = node.table.state(shard)
        if shard not in hold.shards or state not in CONNECTED:
            return f"shard {shard} is {state.value}: it connects already"
        return ""

    def _begin(self, asked: ShardReconnect) -> None:
        _log.info("shard %d connects again (%s)", asked.shard, asked.op)
        loop = asyncio.get_running_loop()
        work = self._reconnect(asked)
        task = loop.create_task(work, name=f"shardctl: reconnect {asked.shard}")
        self._running[asked.shard] = Running(asked.op, task, loop.create_future())

    async def _reconnect(self, asked: ShardReconnect) -> None:
        before = self._hold.shards[asked.shard].ws
        began_at = time.monotonic()
        try:
            opening = self._open(asked)
            resumed = await self._wait(asked, opening, before)
        except _Failed as error:
            self._end(asked, Phase.FAILED, error=str(error))
        else:
            gap_ms = (time.monotonic() - began_at) * 1000
            self._end(asked, Phase.HELD, gap_ms=gap_ms, identified=not resumed)

    def _open(self, asked: ShardReconnect) -> asyncio.Task[bool]:
        hold = self._hold
        shard = hold.shards[asked.shard]
        if asked.fresh:
            shard.ws.discard_session = True
        opening = hold.recover(shard, resume=not asked.fresh)
        if opening is None:
            raise _Failed(f"node {hold.node.name} stops")
        return opening

    async def _wait(
        self, asked: ShardReconnect, opening: asyncio.Task[bool], before: NodeWebSocket
    ) -> bool:
        """Until RESUMED (True) or READY (False)."""
        hold, since = self._hold, time.monotonic()
        settled = self._running[asked.shard].settled
        while not settled.done():
            await asyncio.wait({settled}, timeout=1.0)
            if settled.done():
                break
            if asked.shard not in hold.shards:
                op = hold.moves.has(asked.shard) or "another operation"
                raise _Failed(f"shard {asked.shard} is being handed over by {op}")
            state = hold.node.table.state(asked.shard)
            if hold.stopping:
                raise _Failed(f"node {hold.node.name} stops")
            if opening.done() and hold.shards[asked.shard].ws is before:
                raise _Failed("no connection could be made")
            if state is ShardState.QUEUED:
                since = time.monotonic()  # it waits for a permit
            elif time.monotonic() - since > RECONNECT_MAX_S and not settled.done():
                raise _Failed(f"{state.value} for {RECONNECT_MAX_S:g} s; the node tries on")
        return settled.result()

    def _end(self, asked: ShardReconnect, phase: Phase, **more: object) -> None:
        self._running.pop(asked.shard, None)
        self._say(asked, phase, **more)

    def _say(self, asked: ShardReconnect, phase: Phase, **more: object) -> None:
        hold = self._hold
        shard = hold.shards.get(asked.shard)
        moved = ShardMoved(
            asked.op,
            asked.shard,
            asked.num_shards,
            phase,
            seq=0 if shard is None else shard.ws.sequence or 0,
            **more,  # type: ignore[arg-type]
        )
        self._ended[asked.shard] = moved
        hold.node.send_event(SHARD_MOVED, moved)


class _Failed(Exception):
    """Why a shard was not reconnected."""
