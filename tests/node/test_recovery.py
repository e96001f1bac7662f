"""What a lost gateway connection costs: RESUME where a session lives, IDENTIFY where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import topics
from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, NodeProcess, node
from tests.support.sandbox import call, sandbox_process
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip


class Rig:
    def __init__(self, info: dict[str, Any], broker: FakeBroker, process: NodeProcess) -> None:
        self.info, self.broker, self.process = info, broker, process

    def audit(self, key: str) -> int:
        return int(call(self.info, "/audit")[key])

    def trouble(self, kind: str, **args: Any) -> None:
        call(self.info, "/trouble", {"kind": kind, **args})

    def ready(self) -> None:
        wait_for(
            "both shards ready",
            lambda: self.broker.shard_states("a") == {0: "ready", 1: "ready"},
            30,
        )

    def until(self, key: str, count: int, timeout_s: float = 20.0) -> None:
        wait_for(f"{count} {key}", lambda: self.audit(key) >= count, timeout_s)

    def sessions(self) -> set[str]:
        return {s["id"] for s in call(self.info, "/sessions")}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with (
        sandbox_process(*SANDBOX) as info,
        FakeBroker(f"ipc://{tmp_path}/b.sock") as broker,
        node(broker, BOTS, "run_at_end.py", info=info) as process,
    ):
        made = Rig(info, broker, process)
        made.ready()
        yield made


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("drop", {}),
        ("reconnect", {}),
        ("invalid_session", {"resumable": True}),
        ("close", {"code": 4000}),
        ("close", {"code": 1000}),
        ("close", {"code": 1001}),
        ("close", {"code": 4003}),
    ],
)
def test_a_lost_connection_resumes(rig: Rig, kind: str, args: dict[str, Any]) -> None:
    before = rig.sessions()
    rig.trouble(kind, shard=1, **args)
    rig.until("resumes", 1)
    rig.ready()
    assert (rig.audit("identifies"), rig.audit("resumes_failed")) == (2, 0)
    assert rig.sessions() == before
    told = rig.broker.wait(topics.SHARD_DISCONNECT)
    assert [(s.body.shard, s.body.resumable) for s in told] == [(1, True)]
    assert rig.broker.wait(topics.SHARD_READY, 3)[-1].body.resumed
    assert len(rig.broker.of(topics.PERMIT)) == 2


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("invalid_session", {"resumable": False}),
        ("close", {"code": 4007}),
        ("close", {"code": 4009}),
    ],
)
def test_a_lost_session_identifies_with_a_permit(rig: Rig, kind: str, args: dict[str, Any]) -> None:
    rig.trouble(kind, shard=1, **args)
    rig.until("identifies", 3)
    rig.ready()
    assert (rig.audit("identifies"), rig.audit("identifies_rejected")) == (3, 0)
    assert rig.audit("resumes") == 0
    assert [s.body.shard for s in rig.broker.wait(topics.IDENTIFY_SENT, 3)][2] == 1
    assert not rig.broker.of(topics.SHARD_DISCONNECT)[0].body.resumable
    assert rig.audit("guild_joins_seen") == 0


def test_a_refused_resume_identifies(rig: Rig) -> None:
    rig.trouble("refuse_resume", count=1)
    rig.trouble("drop", shard=0)
    rig.until("identifies", 3)
    rig.ready()
    assert rig.audit("identifies") == 3


def test_a_dead_resume_url_falls_back_to_the_main_one(rig: Rig) -> None:
    before = rig.sessions()
    rig.trouble("dead_resume_url")
    rig.trouble("reconnect", shard=0)
    rig.until("resumes", 1, 30)
    rig.ready()
    assert rig.audit("identifies") == 2
    assert rig.sessions() == before


def test_all_shards_at_once_resume_side_by_side(rig: Rig) -> None:
    rig.trouble("drop")
    rig.until("resumes", 2)
    rig.ready()
    assert rig.audit("identifies") == 2


def test_commands_are_answered_after_a_resume(rig: Rig) -> None:
    wait_for("sync", lambda: rig.audit("command_syncs"))
    rig.trouble("drop")
    rig.until("resumes", 2)
    call(rig.info, "/play", {"kind": "slash", "name": "ping", "count": 10})
    rig.until("answered_once", 10)


@pytest.mark.parametrize(
    ("code", "hint"), [(4014, "Privileged Gateway Intents"), (4004, "DISCORD_TOKEN")]
)
def test_a_fatal_code_ends_the_node_and_tells_the_fleet(rig: Rig, code: int, hint: str) -> None:
    rig.trouble("close", shard=0, code=code)
    assert rig.process.exit_code() == 78
    (fatal,) = rig.broker.wait(topics.FATAL)
    assert fatal.body.code == code
    assert hint in fatal.body.hint
    assert "error[E_BOT_FATAL]" in rig.process.output
    assert hint in rig.process.output
    assert rig.audit("identifies") == 2


def test_a_guild_that_leaves_while_the_session_is_lost_is_forgotten(rig: Rig) -> None:
    """disnake would keep it for ever."""

    def guilds() -> int:
        beat = rig.broker.of(topics.HEARTBEAT)[-1].body
        return sum(report.guilds for report in beat.shards)

    wait_for("8 guilds", lambda: guilds() == 8)
    rig.trouble("invalid_session")
    rig.trouble("remove_guilds", count=3)
    rig.until("identifies", 4)
    rig.ready()
    wait_for("5 guilds", lambda: guilds() == 5)
