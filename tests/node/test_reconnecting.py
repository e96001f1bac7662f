"""The broker has a shard connected anew: by RESUME or with a new session, once an operation."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import topics
from shard_node.wire.handover import Phase, ShardMoved
from shard_node.wire.operations import FleetReady, ShardReconnect
from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, node
from tests.node.test_warm import ready, said
from tests.support.sandbox import call
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip


def ask(broker: FakeBroker, op: str, shard: int, *, fresh: bool = False) -> ShardMoved:
    """What the node says of it last."""
    count = len(broker.of(topics.SHARD_MOVED))
    routing_id = broker.wait(topics.REGISTER)[-1].routing_id
    broker.send(routing_id, topics.SHARD_RECONNECT, ShardReconnect(op, shard, 2, fresh))
    body = broker.wait(topics.SHARD_MOVED, count + 1)[-1].body
    assert isinstance(body, ShardMoved)
    assert (body.op, body.shard) == (op, shard)
    return body


def test_a_shard_is_connected_anew_as_asked(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "bot"
    folder.mkdir()
    shutil.copy(BOTS / "recorder.py", folder / "main.py")
    with node(broker, folder, info=info) as process:
        ready(broker)
        wait_for("on_ready", lambda: said(process, folder, "ready"))
        sessions = {one["id"] for one in call(info, "/sessions")}

        resumed = ask(broker, "op-1", 1)
        assert (resumed.phase, resumed.identified, resumed.error) == (Phase.HELD, False, "")
        assert 0 < resumed.gap_ms < 5000
        ready(broker)
        assert {one["id"] for one in call(info, "/sessions")} == sessions

        assert ask(broker, "op-1", 1) == resumed  # told again, done once
        audit = call(info, "/audit")
        assert (audit["resumes"], audit["identifies"]) == (1, 2)

        fresh = ask(broker, "op-2", 0, fresh=True)
        assert (fresh.phase, fresh.identified) == (Phase.HELD, True)
        ready(broker)
        audit = call(info, "/audit")
        assert (audit["resumes"], audit["identifies"], audit["resumes_failed"]) == (1, 3, 0)
        gone = broker.of(topics.SHARD_DISCONNECT)
        assert [(s.body.shard, s.body.resumable) for s in gone] == [(1, True), (0, False)]

        call(info, "/play", {"kind": "message", "count": 5})
        wait_for("messages", lambda: said(process, folder, "message") == 5)
        assert said(process, folder, "ready") == 1
        assert said(process, folder, "join") == said(process, folder, "remove") == 0

        wrong = ask(broker, "op-3", 7)
        assert (wrong.phase, wrong.error) == (Phase.FAILED, "shard 7 of 2 is not held by a#7")


def test_a_refused_resume_identifies_and_a_shard_on_its_way_is_left_alone(
    info: dict[str, Any], broker: FakeBroker
) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        ready(broker)
        call(info, "/trouble", {"kind": "refuse_resume", "count": 1})
        moved = ask(broker, "op-1", 1)
        assert (moved.phase, moved.identified) == (Phase.HELD, True)
        ready(broker)

        permit = broker.answers.pop(topics.PERMIT)
        routing_id = broker.wait(topics.REGISTER)[-1].routing_id
        asked = len(broker.of(topics.PERMIT))
        again = ShardReconnect("op-2", 0, 2, fresh=True)
        broker.send(routing_id, topics.SHARD_RECONNECT, again)
        waiting = broker.wait(topics.PERMIT, asked + 1)[-1]
        refused = ask(broker, "op-3", 0)
        assert (refused.phase, refused.error) == (
            Phase.FAILED,
            "shard 0 is being reconnected by op-2",
        )
        broker.answer(waiting, permit(waiting))
        broker.answers[topics.PERMIT] = permit
        held = broker.wait(topics.SHARD_MOVED, 3)[-1].body
        assert (held.op, held.phase, held.identified) == ("op-2", Phase.HELD, True)

        broker.send(routing_id, topics.FLEET_READY, FleetReady("start"))
        assert process.popen.poll() is None


def test_heartbeats_carry_rates_and_processor_time(
    info: dict[str, Any], broker: FakeBroker
) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info):
        ready(broker)
        until = time.monotonic() + 20

        def look() -> bool:
            assert time.monotonic() < until
            call(info, "/play", {"kind": "message", "content": "hi", "count": 10})
            beat = broker.of(topics.HEARTBEAT)[-1].body
            return beat.cpu_s > 0.1 and any(one.events_per_s > 1 for one in beat.shards)

        wait_for("a rate", look, 20)
