"""Latency is that of the last beat, however early its acknowledgement comes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from shard_node.bridge.alive import NodeKeepAlive
from shard_node.bridge.gateway import NodeWebSocket

INTERVAL_S = 41.25


class Wire:
    """A websocket whose peer has acknowledged before the send returns, as on loopback."""

    close_code = None

    def __init__(self) -> None:
        self.ws: NodeWebSocket | None = None
        self.keep_alive: NodeKeepAlive | None = None

    async def send_str(self, _text: str) -> None:
        assert self.keep_alive is not None
        self.keep_alive.ack()


def beating(wire: Wire) -> tuple[NodeWebSocket, NodeKeepAlive]:
    ws = NodeWebSocket(wire, loop=asyncio.get_running_loop())
    ws._max_heartbeat_timeout = 60.0
    keep_alive = NodeKeepAlive(ws=ws, interval=INTERVAL_S, shard_id=0)
    wire.keep_alive = keep_alive
    # What the thread noted at the beat before.
    ws.beat_at = keep_alive._last_send = time.perf_counter() - INTERVAL_S
    return ws, keep_alive


def test_an_answer_before_the_thread_takes_note_counts_from_its_own_beat() -> None:
    async def beat() -> None:
        ws, keep_alive = beating(Wire())
        await ws.send_heartbeat(keep_alive.get_payload())
        assert 0 <= keep_alive.latency < 1

    asyncio.run(beat())


def test_a_beat_on_demand_is_measured_too() -> None:
    async def beat() -> None:
        ws, keep_alive = beating(Wire())
        data: Any = keep_alive.get_payload()
        await ws.send_as_json(data)
        assert 0 <= keep_alive.latency < 1

    asyncio.run(beat())


def test_a_slow_answer_is_not_made_fast() -> None:
    async def beat() -> None:
        _, keep_alive = beating(Wire())
        keep_alive.ack()
        assert INTERVAL_S <= keep_alive.latency < INTERVAL_S + 1

    asyncio.run(beat())
