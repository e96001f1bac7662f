"""Node processes on the sandbox: started, held, stopped. The broker is played by the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import bodies, topics
from tests.node.fake_broker import FakeBroker, Seen
from tests.node.processes import BOTS, node
from tests.support.sandbox import call
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip


def sessions(info: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(info, "/sessions")
    return found


def audit(info: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = call(info, "/audit")
    return found


def trouble(info: dict[str, Any], kind: str, **args: Any) -> None:
    call(info, "/trouble", {"kind": kind, **args})


def slash(info: dict[str, Any], name: str, count: int = 1) -> None:
    call(info, "/play", {"kind": "slash", "name": name, "count": count})


def until_synced(info: dict[str, Any]) -> None:
    wait_for("the command sync", lambda: audit(info)["command_syncs"])


def both_ready(broker: FakeBroker, name: str = "a") -> None:
    def look() -> bool:
        return broker.shard_states(name) == {0: "ready", 1: "ready"}

    wait_for("both shards ready", look, 20)


def test_a_bot_that_runs_at_the_end_of_its_file(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        process.says("ready [0, 1] 2 8 a 7")
        both_ready(broker)
        until_synced(info)
        slash(info, "ping", 20)
        wait_for("20 answers", lambda: audit(info)["answered_once"] == 20)
        broker.wait(topics.COMMAND_SYNC, 2)
        assert broker.of(topics.COMMAND_SYNC)[-1].body.done
        ready = broker.of(topics.SHARD_READY)
        assert sorted((s.body.shard, s.body.resumed) for s in ready) == [(0, False), (1, False)]
        beat = broker.of(topics.HEARTBEAT)[-1].body
        assert sum(report.guilds for report in beat.shards) == 8
        assert all(report.sequence > 0 for report in beat.shards)
        assert sum(s.body.guilds for s in ready) == 8
        process.terminate()
        assert process.exit_code() == 0
        assert "after run: the farewell" in process.output
        assert info["token"] not in process.output
    report = audit(info)
    assert (report["identifies"], report["identifies_rejected"]) == (2, 0)
    assert [s["connected"] for s in sessions(info)] == [False, False]  # kept, resumable


def test_a_bot_with_a_main_and_a_hook_of_its_own(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "async_main.py", info=info) as process:
        process.says("ready [0, 1] 2")
        assert process.output.count("author's hook") == 2
        process.terminate()
        assert process.exit_code() == 0
        for words in ("author's close", "author's finally"):
            assert words in process.output
    sent = broker.of(topics.IDENTIFY_SENT)
    assert len(sent) == 2
    assert all(0 <= s.body.ago_ms < 1000 for s in sent)


@pytest.mark.parametrize(
    ("target", "factory", "words"),
    [
        ("targets:bot", "0", "ready [object] [0, 1]"),
        ("targets.py:bot", "0", "ready [object] [0, 1]"),
        ("targets:make", "1", "ready [made] [0, 1]"),
        ("targets:make_async", "1", "ready [made] [0, 1]"),
    ],
)
def test_a_target_with_a_name(
    info: dict[str, Any], broker: FakeBroker, target: str, factory: str, words: str
) -> None:
    with node(broker, BOTS, target, info=info, SHARDCTL_BOT_FACTORY=factory) as process:
        process.says(words)
        process.terminate()
        assert process.exit_code() == 0


def test_permits_are_asked_for_all_shards_and_each_goes_on_its_own(
    info: dict[str, Any], broker: FakeBroker
) -> None:
    held: list[Seen] = []

    def grant(seen: Seen) -> bodies.PermitGrant | None:
        if seen.body.shard == 0:
            held.append(seen)
            return None
        return bodies.PermitGrant(7, 30.0)

    broker.answers[topics.PERMIT] = grant
    with node(broker, BOTS, "run_at_end.py", info=info):
        wait_for("shard 1 ready", lambda: broker.shard_states("a") == {0: "queued", 1: "ready"})
        trouble(info, "reconnect", shard=1)  # served while shard 0 still waits
        wait_for("a RESUME", lambda: audit(info)["resumes"] == 1)
        assert audit(info)["identifies"] == 1
        broker.answer(held[0], bodies.PermitGrant(8, 30.0))
        both_ready(broker)
        sent = [(s.body.permit, s.body.shard) for s in broker.of(topics.IDENTIFY_SENT)]
        assert sent == [(7, 1), (8, 0)]


def test_a_permit_that_was_not_used_is_given_back(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "hook_fails_once.py", info=info) as process:
        process.says("ready [hook]")
        returned = broker.of(topics.PERMIT_RETURN)
        assert len(returned) == 1
        assert returned[0].body.permit not in [
            s.body.permit for s in broker.of(topics.IDENTIFY_SENT)
        ]


# --- the end


def test_a_stop_waits_for_the_handlers(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        process.says("ready [")
        until_synced(info)
        slash(info, "slow")
        process.says("slow handler begins")
        broker.stop_node("a")
        wait_for("draining", lambda: set(broker.shard_states("a").values()) == {"draining"})
        assert process.exit_code() == 0
        assert "slow handler ends" in process.output
    assert audit(info)["answered_once"] == 1


@pytest.mark.parametrize("how", ["second TERM", "INT", "drain 0"])
def test_a_quick_stop_waits_for_nothing(info: dict[str, Any], broker: FakeBroker, how: str) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        process.says("ready [")
        until_synced(info)
        slash(info, "slow")
        process.says("slow handler begins")
        if how == "INT":
            process.interrupt()
        elif how == "drain 0":
            broker.stop_node("a", drain_s=0.0)
        else:
            process.terminate()
            process.says("stopping: SIGTERM")
            process.terminate()
        assert process.exit_code(1.9) == 0
        assert "slow handler ends" not in process.output
    assert len(sessions(info)) == 2


def test_discarded_sessions_are_gone(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        process.says("ready [")
        broker.stop_node("a", discard=True)
        assert process.exit_code() == 0
    assert sessions(info) == []


def test_a_bot_that_closes_itself_ends_well(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        process.says("ready [")
        until_synced(info)
        slash(info, "leave")
        assert process.exit_code() == 0
    assert audit(info)["answered_once"] == 1


def test_the_supervisors_death_stops_the_node(info: dict[str, Any], broker: FakeBroker) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        process.says("ready [")
        os.close(process.lifeline)
        assert process.exit_code() == 0
        assert "the supervisor is gone" in process.output
    assert len(sessions(info)) == 2


def test_a_stop_before_the_bot_is_there(broker: FakeBroker, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(30)\n"
    )
    with node(broker, tmp_path) as process:
        process.says("importing")
        broker.wait(topics.HEARTBEAT, 2)  # it beats while it imports
        process.terminate()
        assert process.exit_code(3) == 0


def test_a_stop_while_nothing_is_connected(info: dict[str, Any], broker: FakeBroker) -> None:
    broker.answers[topics.PERMIT] = lambda seen: None
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        broker.wait(topics.PERMIT, 2)
        process.terminate()
        assert process.exit_code(3) == 0
        assert "the farewell" in process.output


def test_a_stop_while_discord_lets_the_login_wait(info: dict[str, Any], broker: FakeBroker) -> None:
    trouble(info, "storm_429", seconds=60, retry_after_s=30)
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        broker.wait(topics.REGISTER)
        wait_for("a 429", lambda: audit(info)["rest_429"])
        process.terminate()
        assert process.exit_code(4) == 0
        assert "the farewell" in process.output


def test_a_refused_epoch_stops_the_node(info: dict[str, Any], broker: FakeBroker) -> None:
    broker.answers[topics.REGISTER] = lambda seen: bodies.Welcome(
        False, "f", 1, 1.0, 5.0, reason="epoch 8 runs"
    )
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        assert process.exit_code() == 0
        assert "epoch 8 runs" in process.output


# --- the broker dies


def test_a_dead_broker_costs_no_session_and_no_identify(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path
) -> None:
    with node(broker, BOTS, "run_at_end.py", info=info) as process:
        both_ready(broker)
        until_synced(info)
        before = {s["id"] for s in sessions(info)}
        broker.close()
        slash(info, "ping", 5)
        trouble(info, "drop", shard=0)  # a RESUME needs no broker
        wait_for("a RESUME", lambda: audit(info)["resumes"] == 1)
        trouble(info, "invalid_session", shard=1)
        process.says("the broker is gone")
        wait_for("shard 1 without a session", lambda: len(sessions(info)) == 1)
        assert audit(info)["identifies"] == 2  # an IDENTIFY does
        with FakeBroker(broker.endpoint) as new:
            (register, *_) = new.wait(topics.REGISTER)
            assert register.body.epoch == 7
            both_ready(new)
            assert new.of(topics.PERMIT)[0].body.shard == 1
            assert [s.body.shard for s in new.of(topics.IDENTIFY_SENT)] == [1]
        slash(info, "ping", 5)
        wait_for("answers", lambda: audit(info)["answered_once"] == 10)
        assert len(before & {s["id"] for s in sessions(info)}) == 1
        assert process.popen.poll() is None


# --- two nodes


def test_one_node_of_two_syncs_the_commands(info: dict[str, Any], broker: FakeBroker) -> None:
    synced: list[bytes] = []
    waited: list[bytes] = []

    def elect(seen: Seen) -> bodies.CommandSyncReply:
        if seen.body.done:
            synced.append(seen.routing_id)
            return bodies.CommandSyncReply("skip")
        if synced:
            return bodies.CommandSyncReply("skip", "a")
        if seen.routing_id == b"b#7":
            waited.append(seen.routing_id)
            return bodies.CommandSyncReply("wait", "a")
        return bodies.CommandSyncReply("sync")

    broker.answers[topics.COMMAND_SYNC] = elect
    with (
        node(broker, BOTS, "run_at_end.py", info=info, name="b", shards=(1,)) as second,
    ):
        second.says("ready [1]")
        wait_for("b to wait", lambda: waited)
        with node(broker, BOTS, "run_at_end.py", info=info, shards=(0,)) as first:
            first.says("ready [0]")
            asked = broker.wait(topics.COMMAND_SYNC, 4)
            assert len({s.body.digest for s in asked}) == 1
            wait_for(
                "b to be told",
                lambda: len(broker.of(topics.COMMAND_SYNC, "b#")) > len(waited),
            )
            assert synced == [b"a#7"]
            assert audit(info)["command_syncs"] == 1
            slash(info, "ping", 16)
            wait_for("answers", lambda: audit(info)["answered_once"] == 16)


def test_a_loop_ticks_on_the_holder_of_its_lease_alone(
    info: dict[str, Any], broker: FakeBroker
) -> None:
    def lease(seen: Seen) -> bodies.LeaseReply:
        holder = "a" if seen.body.name == "outer" else "b"
        return bodies.LeaseReply(seen.routing_id.startswith(holder.encode()), holder)

    broker.answers[topics.LEASE] = lease
    with (
        node(broker, BOTS, "reminder.py", info=info, shards=(0,)) as a,
        node(broker, BOTS, "reminder.py", info=info, name="b", shards=(1,)) as b,
    ):
        a.says("outer tick")
        b.says("inner tick")
        wait_for("asking", lambda: len(broker.of(topics.LEASE)) > 10)
        assert "inner tick" not in a.output
        assert "outer tick" not in b.output
        names = {s.body.name for s in broker.of(topics.LEASE)}
        assert names == {"outer", "__main__.inner"}
