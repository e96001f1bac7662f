"""disnake's keep-alive, held: latency, and connections whose gateway no longer answers.

disnake gives a connection up after 60 s without any frame. A gateway that goes on sending
events but acknowledges no heartbeat is a zombie too (Discord's documentation, Gateway,
"Heartbeat Interval"): whoever gets no acknowledgement between two beats closes the
connection and RESUMEs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from disnake.gateway import KeepAliveHandler

from shard_node.wire.health import ShardHealth
from shard_node.wire.topics import SHARD_HEALTH

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeWebSocket
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

GRACE_S: Final = 0.5
"""A loop that was blocked may have the acknowledgement still to read when it sends the next beat:
it gets a quarter of the interval for that, at most so long."""


class NodeKeepAlive(KeepAliveHandler):
    """Measures latency from the beat's sending.

    disnake notes the sending in its thread, after it: an answer that was there before
    counts from the beat before, a whole heartbeat interval too long.
    """

    def ack(self) -> None:
        """The gateway has acknowledged the last beat."""
        self._last_send = getattr(self.ws, "beat_at", self._last_send)
        super().ack()


def acknowledges(hold: Hold, ws: NodeWebSocket) -> int | None:
    """What a beat says: up to here nothing need be said again. Of guilds that others have that is
    what they have handled."""
    sequence = ws.sequence
    if sequence is None or not hold.exile or hold.keeping is None:
        return sequence
    journal = hold.keeping.journals.get(ws.shard_id or 0)
    if journal is None or not journal.story.out:
        return sequence
    return min(sequence, journal.story.resume_from)


async def answers(ws: NodeWebSocket) -> bool:
    """Whether the last beat was acknowledged, asked when the next is due."""
    beats, sent_at = ws._keep_alive, ws.beat_at
    if beats is None or beats._last_ack >= sent_at:
        return True
    await asyncio.sleep(min(GRACE_S, beats.interval / 4))
    return beats._last_ack >= sent_at


async def give_up(hold: Hold | None, ws: NodeWebSocket) -> None:
    """Leave a zombie: its session is RESUMEd over another connection."""
    shard_id = ws.shard_id or 0
    if hold is None or hold.stopping:
        await ws.abandon()
        return
    detail = "a heartbeat was not acknowledged before the next was due"
    _log.warning("shard %d: %s; it connects again", shard_id, detail)
    hold.node.table.zombie(shard_id)
    hold.node.refresh()
    health = ShardHealth(shard_id, hold.node.num_shards, "zombie", detail)
    hold.node.send_event(SHARD_HEALTH, health)
    shard = hold.shards.get(shard_id)
    if shard is not None and shard.ws is ws:
        hold.recover(shard, resume=True)
    else:  # it has just been made: whoever makes it tries again
        await ws.abandon()
