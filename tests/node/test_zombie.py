"""A gateway that acknowledges no heartbeats is left, and its session RESUMEd elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.bridge import alive
from shard_node.bridge.alive import NodeKeepAlive
from shard_node.bridge.gateway import NodeWebSocket
from shard_node.wire import topics
from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, node
from tests.support.sandbox import call, sandbox_process
from tests.support.waiting import wait_for

INTERVAL_S = 0.8
SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
    "--heartbeat-interval-ms", str(int(INTERVAL_S * 1000)),
)  # fmt: skip


class Wire:
    """A socket whose peer acknowledges a beat after ``ack_s``, or (None) never."""

    close_code = None

    def __init__(self, ack_s: float | None) -> None:
        self.ack_s = ack_s
        self.keep_alive: NodeKeepAlive | None = None

    async def send_str(self, _text: str) -> None:
        assert self.keep_alive is not None
        if self.ack_s is not None:
            asyncio.get_running_loop().call_later(self.ack_s, self.keep_alive.ack)


def connection(ack_s: float | None) -> tuple[NodeWebSocket, NodeKeepAlive]:
    wire = Wire(ack_s)
    ws = NodeWebSocket(wire, loop=asyncio.get_running_loop())
    ws._max_heartbeat_timeout = 60.0
    ws._keep_alive = wire.keep_alive = NodeKeepAlive(ws=ws, interval=0.4, shard_id=0)
    return ws, wire.keep_alive


@pytest.mark.parametrize(
    ("ack_s", "alike"), [(0.0, True), (0.1, True), (0.3, False), (None, False)]
)
def test_a_late_acknowledgement_has_a_moment_more(ack_s: float | None, alike: bool) -> None:
    """A beat is asked about when the next is due; here that is at once. 0.1 s is within the
    quarter of the interval that a loop has to read what is there already; 0.3 s is not."""

    async def beat() -> bool:
        ws, keep_alive = connection(ack_s)
        assert await alive.answers(ws)  # none was sent
        await ws.send_as_json(keep_alive.get_payload())
        if ack_s == 0.0:
            await asyncio.sleep(0.01)
        return await alive.answers(ws)

    asyncio.run(beat())
    assert asyncio.run(beat()) is alike


@pytest.fixture
def info() -> Iterator[dict[str, Any]]:
    with sandbox_process(*SANDBOX) as found:
        yield found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FakeBroker]:
    with FakeBroker(f"ipc://{tmp_path}/b.sock") as made:
        yield made


@pytest.mark.slow
def test_a_zombie_under_traffic_is_resumed(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info):
        ready = {0: "ready", 1: "ready"}
        wait_for("both shards ready", lambda: broker.shard_states("a") == ready, 30)
        since = time.monotonic()
        call(info, "/trouble", {"kind": "no_ack", "shard": 1})

        def look() -> bool:  # events go on flowing meanwhile
            call(info, "/play", {"kind": "message", "content": "hello", "count": 5})
            return bool(broker.of(topics.SHARD_HEALTH))

        wait_for("the zombie", look, 20)
        told = broker.of(topics.SHARD_HEALTH)[0]
        # One beat that was answered, the one that was not, the next and its grace.
        assert told.at - since < 2 * INTERVAL_S + INTERVAL_S / 4 + 1.0
        assert (told.body.shard, told.body.what) == (1, "zombie")
        wait_for("the RESUME", lambda: call(info, "/audit")["resumes"] == 1, 10)
        wait_for("both shards ready", lambda: broker.shard_states("a") == ready, 10)
        audit = call(info, "/audit")
        assert (audit["identifies"], audit["resumes_failed"]) == (2, 0)
        gone = broker.of(topics.SHARD_DISCONNECT)
        assert [(s.body.shard, s.body.resumable) for s in gone] == [(1, True)]
        assert len(broker.of(topics.SHARD_HEALTH)) == 1
