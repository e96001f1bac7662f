"""How a shard comes: its caches warmed from the journal of who has it, a connection made ahead,
and the RESUME in the moment in which the lock is free."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from disnake.errors import ConnectionClosed
from disnake.gateway import ReconnectWebSocket

from shard_node.bridge.connecting import PASSING
from shard_node.bridge.gateway import NodeShard
from shard_node.bridge.keeping import Keeping, Past
from shard_node.bridge.onway import Moving
from shard_node.handing import Event, Happened
from shard_node.wire.handover import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

FOLLOW_S: Final = 0.25
"""How often the journal of a shard is read that is warm, and not to be taken yet."""
READ_S: Final = 0.01
"""The same, when it is to be taken at any moment."""
AGAIN_S: Final = 1.0
"""A connection made ahead that does not last is not made again sooner."""
_PASSING: tuple[type[Exception], ...] = (ReconnectWebSocket, ConnectionClosed, *PASSING)


class Teller(Protocol):
    """Who has the machines of the shards."""

    taken: Callable[[int], None]

    def tell(self, one: Moving, event: Event) -> None:
        """Something happened to a shard."""
        ...


class Taking:
    """Of one bot. The methods are the effects of ``handing.Do``."""

    def __init__(self, hold: Hold, moves: Teller) -> None:
        self._hold, self._moves = hold, moves
        self.launched = asyncio.Event()
        """The bot has logged in: its caches can be fed."""
        self._expected = set[int]()
        """What this process was started for and has not got yet."""
        self._warm = set[Moving]()
        self._following: asyncio.Task[None] | None = None
        self._sending = set[asyncio.Task[None]]()

    @property
    def _keeping(self) -> Keeping:
        keeping = self._hold.keeping
        assert keeping is not None  # moves refuses without journals
        return keeping

    def close(self) -> None:
        """The process ends."""
        for task in (self._following, *self._sending):
            if task is not None:
                task.cancel()
        for one in self._warm:
            one.end()

    # --- before

    def warm(self, one: Moving) -> None:
        """Feed the caches from the journal; then follow it."""
        hold = self._hold
        one.turn += 1
        hold.node.table.add(one.shard)
        hold.start.expect(one.shard)
        if one.handing.follows:
            self._expected.add(one.shard)
        one.then(partial(self._warmed, one, one.turn))

    async def _warmed(self, one: Moving, turn: int) -> None:
        await self.launched.wait()
        if one.turn != turn:
            return
        tail = one.tail = self._keeping.tail(one.shard)
        try:
            await tail.warm()
        except Exception:
            _log.exception("shard %d: its journal cannot be followed", one.shard)
            one.unread()
        if one.turn != turn:
            return
        self._hold.reports.changed()
        self._warm.add(one)
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="shardctl: follow")
        self._moves.tell(one, Happened.WARMED)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            for one in tuple(self._warm):
                if one.handing.phase is Phase.WARM:
                    self._read_on(one, FOLLOW_S / 2)
                    await asyncio.sleep(0)

    def _read_on(self, one: Moving, every_s: float) -> None:
        now = asyncio.get_running_loop().time()
        if one.tail is None or now - one.read_at < every_s:
            return
        one.read_at = now
        if not one.tail.more():
            _log.info("shard %d: its journal will be read as a whole", one.shard)
            one.unread()

    def connect(self, one: Moving) -> None:
        """Open a connection up to HELLO, where there is a session to RESUME."""
        one.disconnect()
        work = self._connect(one)
        one.connecting = asyncio.create_task(work, name=f"shardctl: ahead {one.shard}")

    async def _connect(self, one: Moving) -> None:
        loop, hold = asyncio.get_running_loop(), self._hold
        session = None if one.tail is None or one.tail.problem else one.tail.story.session
        if session is not None:
            await asyncio.sleep(max(0.0, one.connected_at + AGAIN_S - loop.time()))
            one.connected_at = loop.time()
            try:
                ws = await hold.connecting.ahead(one.shard, session.url)
            except _PASSING as error:
                _log.info("shard %d connects when it is free: %r", one.shard, error)
            else:
                one.ahead = NodeShard(ws, hold.client, hold.queue.put_nowait)
                one.ahead.launch()
        one.connecting = None
        self._moves.tell(one, Happened.CONNECTED)

    def disconnect(self, one: Moving) -> None:
        """It is not to be taken now."""
        one.disconnect()

    # --- the lock

    def try_lock(self, one: Moving) -> None:
        """Is it free?"""
        try:
            taken = self._keeping.place.take(one.shard)
        except OSError as error:
            _log.warning("shard %d: its lock cannot be tried: %s", one.shard, error)
            taken = False
        if not taken:
            self._read_on(one, READ_S)
        self._moves.tell(one, Happened.LOCKED if taken else Happened.REFUSED)

    def let_go(self, one: Moving) -> None:
        """It was only looked at."""
        self._keeping.place.free(one.shard)

    # --- the moment

    def take(self, one: Moving) -> None:
        """The lock is ours."""
        past = self._keeping.taken(one.shard, one.tail)
        self._enter(one, past)

    def retake(self, one: Moving) -> None:
        """The lock is ours again."""
        self._enter(one, self._keeping.again(one.shard))

    def _enter(self, one: Moving, past: Past | None) -> None:
        hold, shard = self._hold, one.shard
        one.unread()
        self._warm.discard(one)
        hold.own(shard)
        hold.node.table.disconnected(shard, resumable=past is not None)
        hold.reports.changed()
        ahead, one.ahead = one.ahead, None
        if past is not None and ahead is not None and ahead.ws.open:
            ahead.ws.continues(past)
            hold.shards[shard] = ahead
            task = asyncio.create_task(self._resume(ahead), name=f"shardctl: resume {shard}")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        else:
            if ahead is not None:
                ahead._cancel_task()
                one.close_soon(ahead)
            hold.open(shard, past)
        self._moves.taken(shard)
        if shard in self._expected:
            self._expected.discard(shard)
            if not self._expected:
                hold.client._connection.shards_launched.set()

    async def _resume(self, ahead: NodeShard) -> None:
        try:
            await ahead.ws.go_on()
        except Exception as error:
            _log.info("shard %d connects again: %r", ahead.id, error)
            self._hold.recover(ahead, resume=True)
