"""How a shard goes: no event is read any more, the journal gets its last word, the lock is
free. Handlers that have started run on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from shard_node.bridge.keeping import Keeping
from shard_node.bridge.onway import Moving
from shard_node.handing import Event, Happened

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeShard
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

STARTS_TURNS: Final = 2
"""Turns of the loop in which handlers take their first step that were scheduled last."""
CLOSE_TURNS: Final = 3
"""Turns of the loop in which a close frame leaves."""
BUSY_EVERY_S: Final = 0.25
BUSY_MAX_S: Final = 900.0
"""So long the caches of a shard stay for what runs on here."""


class Moves(Protocol):
    """Who has the machines of the shards."""

    releasing: Callable[[int, str], None]
    settled: Callable[[], None]
    busy: Callable[[int], bool]

    def tell(self, one: Moving, event: Event) -> None:
        """Something happened to a shard."""
        ...


class Giving:
    """Of one bot. The methods are the effects of ``handing.Do``."""

    def __init__(self, hold: Hold, moves: Moves) -> None:
        self._hold, self._moves = hold, moves
        self._forgetting = set[asyncio.Task[None]]()

    @property
    def _keeping(self) -> Keeping:
        keeping = self._hold.keeping
        assert keeping is not None  # moves refuses without journals
        return keeping

    def close(self) -> None:
        """The process ends."""
        for task in tuple(self._forgetting):
            task.cancel()

    def give(self, one: Moving) -> None:
        """To whom the release names. The shard's state stays, as does what its caches hold."""
        one.then(partial(self._give, one))

    async def _give(self, one: Moving) -> None:
        await self._let_go(one, one.handing.target, one.handing.reason or "move")
        self._moves.tell(one, Happened.GIVEN)

    async def _let_go(self, one: Moving, to: str, reason: str) -> None:
        hold, keeping, shard = self._hold, self._keeping, one.shard
        held = hold.shards.pop(shard, None)
        await hold.halt(shard)
        held = hold.shards.pop(shard, held)
        try:
            if held is not None:
                await _unread(held)
                for _ in range(STARTS_TURNS):
                    await asyncio.sleep(0)
            await hold.exile.freeze(shard)
            self._last_words(shard, to)
        finally:
            keeping.give(shard, to, reason)
            if held is not None:
                one.close_soon(held)
                for _ in range(CLOSE_TURNS):
                    await asyncio.sleep(0)
            keeping.place.free(shard)

    def _last_words(self, shard: int, to: str) -> None:
        """What goes with the shard. A fault of ours holds up nobody."""
        try:
            self._hold.reports.left(shard)
            self._hold.listening.left(shard)
            self._moves.releasing(shard, to)
        except Exception:
            _log.exception("shard %d goes without what was to go with it", shard)

    def drop(self, one: Moving) -> None:
        """Nothing of the shard stays here."""
        hold = self._hold
        one.turn += 1
        if one.handing.follows:
            hold.node.table.disconnected(one.shard, resumable=False)
        else:
            hold.disown(one.shard)
        one.disconnect()
        one.then(partial(self._drop, one))

    async def _drop(self, one: Moving) -> None:
        keeping = self._keeping
        one.unread()
        if one.shard in keeping.place.held:
            await self._let_go(one, "", one.handing.error or "disarmed")
        keeping.gone(one.shard)
        keeping.feeder.forget(one.shard)
        self._hold.reports.changed()

    def leave(self, one: Moving) -> None:
        """It is another's for good. A process that was replaced keeps its caches as long as it
        lives; one that goes on forgets the shard once nothing here needs it."""
        node = self._hold.node
        one.turn += 1
        one.handing.follows = False
        self._hold.disown(one.shard)
        if one.handing.target.partition("#")[0] != node.name:
            task = asyncio.create_task(self._forget(one, one.turn), name="shardctl: forget")
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)
        elif not node.shards:
            self._moves.settled()

    async def _forget(self, one: Moving, turn: int) -> None:
        until = asyncio.get_running_loop().time() + BUSY_MAX_S
        while self._moves.busy(one.shard) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(BUSY_EVERY_S)
        if one.turn == turn:  # else it comes back, or has
            keeping = self._keeping
            keeping.gone(one.shard)
            keeping.feeder.forget(one.shard)
            self._hold.reports.changed()


async def _unread(held: NodeShard) -> None:
    """Until nothing more of it is read."""
    worker = held._task
    held._cancel_task()
    if worker is not None:
        await asyncio.wait({worker})
