"""Processes replaced, killed, stopped and started: sessions go on, and the audit is clean.

The sandbox is not the fleet's own, so that it outlives the fleet.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.processes import BOTS
from tests.support.fleet import Fleet
from tests.support.sandbox import call, sandbox_process
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fleet-respawn")]

SHARDS = 4
READY_S = 12
SANDBOX = (
    "--guilds", "12", "--shards", str(SHARDS), "--max-concurrency", str(SHARDS),
    "--identify-window-s", "0.3",
)  # fmt: skip


in_soak = pytest.mark.skipif(
    os.environ.get("SHARDCTL_HANDOVER") != "full", reason="runs in make soak"
)


class Judged:
    """A fleet on a sandbox that outlives it, and what its bot wrote down."""

    def __init__(self, fleet: Fleet, info: dict[str, Any]) -> None:
        self.fleet, self.info = fleet, info
        self.processes = 0

    def start(self) -> None:
        self.fleet.run("start", "main.py", "--nodes", "2", check=True)
        self.fleet.wait_ready()
        self.processes += 2
        wait_for("the bots", lambda: len(self.lines("ready")) == self.processes)
        wait_for("the commands", lambda: self.audit()["command_syncs"])

    def audit(self) -> dict[str, int]:
        found: dict[str, int] = call(self.info, "/audit")
        return found

    def begin_load(self, interactions_per_s: int, events_per_s: int, seconds: int) -> str:
        body = {
            "interactions_per_s": interactions_per_s,
            "events_per_s": events_per_s,
            "seconds": seconds,
        }
        return str(call(self.info, "/load", body)["id"])

    def end_load(self, load: str) -> dict[str, Any]:
        """What was sent, once it is all settled."""
        look = lambda: (found := call(self.info, f"/load/{load}"))["done"] and found  # noqa: E731
        sent: dict[str, Any] = wait_for("the load's end", look, 60.0)
        wait_for("answers", lambda: self.audit()["interactions_pending"] == 0, 20.0)
        return sent

    def lines(self, kind: str) -> list[list[str]]:
        path = self.fleet.bot_folder / "record.txt"
        return [
            words for line in path.read_text().splitlines() if (words := line.split())[1] == kind
        ]

    def missed(self, sent: int) -> int:
        """Events that no handler heard; raises for one that came twice or out of order."""
        heard, roles = self.lines("message"), self.lines("role")
        twice = [one for one, count in Counter(m[3] for m in heard).items() if count > 1]
        assert not twice, f"handled twice: {twice}"
        by_guild = defaultdict[str, list[int]](list)
        for _, _, guild, message in heard:
            by_guild[guild].append(int(message))
        for guild, ids in by_guild.items():
            assert ids == sorted(ids), f"guild {guild} out of order"
        return sent - len(heard) - len(roles)

    def all_heard(self, sent: int, named: int = 0) -> None:
        wait_for("the events", lambda: self.missed(sent) <= named, 20.0)
        assert 0 <= self.missed(sent) <= named


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Judged]:
    with sandbox_process(*SANDBOX) as info, Fleet(tmp_path, "respawn") as fleet:
        fleet.env |= {"SHARDCTL_API_BASE": info["rest_url"], "DISCORD_TOKEN": info["token"]}
        shutil.copy(BOTS / "recorder.py", fleet.bot_folder / "main.py")
        # Who kills a node here wants to see its next process.
        settings = '[lifecycle]\nsurvivors = "never"\n'
        (fleet.bot_folder / "shardctl.toml").write_text(settings)
        table = f"[lifecycle]\nready_s = {READY_S}\n"
        (fleet.bot_folder / "shardctl.toml").write_text(table)
        made = Judged(fleet, info)
        made.start()
        yield made


def no_false_news(judged: Judged, processes: int, starts: int = 1) -> None:
    """Nothing joined or left, each process was ready once, and the fleet once a start."""
    assert judged.lines("join") == judged.lines("remove") == []
    wait_for("on_fleet_ready", lambda: len(judged.lines("fleet_ready")) >= starts)
    assert len(judged.lines("fleet_ready")) == starts
    ready = Counter(line[0] for line in judged.lines("ready"))
    assert set(ready.values()) == {1}
    assert len(ready) == processes


def all_answered(judged: Judged, sent: dict[str, Any]) -> None:
    audit = judged.audit()
    assert audit["answered_twice"] == audit["answered_never"] == 0
    assert audit["answered_once"] + audit["answered_late"] == sent["interactions_sent"]


def resumed_only(judged: Judged, resumes: int) -> None:
    audit = judged.audit()
    found = (audit["identifies"], audit["resumes"], audit["resumes_failed"])
    assert found == (SHARDS, resumes, 0)


def epochs(judged: Judged) -> dict[str, int]:
    return {node["id"]: node["epoch"] for node in judged.fleet.status()["nodes"]}


def test_a_respawn_hands_over_to_a_process_beside(judged: Judged) -> None:
    load = judged.begin_load(20, 100, 8)
    wait_for("the load", lambda: judged.audit()["interactions_sent"] > 10)
    call(judged.info, "/trouble", {"kind": "budget", "remaining": 0})  # it needs none
    done = judged.fleet.run("respawn", "2", check=True)
    assert "shard 3 moves with it" in done.stderr
    assert "0 IDENTIFYs" in done.stdout
    sent = judged.end_load(load)
    judged.all_heard(sent["events_sent"])
    resumed_only(judged, 2)
    all_answered(judged, sent)
    assert judged.audit()["answered_late"] == 0
    assert epochs(judged) == {"a": 1, "b": 2}
    no_false_news(judged, 3)


@in_soak
def test_a_respawn_in_sequence_resumes(judged: Judged) -> None:
    load = judged.begin_load(10, 60, 8)
    wait_for("the load", lambda: judged.audit()["interactions_sent"] > 10)
    call(judged.info, "/trouble", {"kind": "budget", "remaining": 0})  # it needs none
    judged.fleet.run("respawn", "0", "--in-sequence", check=True)
    sent = judged.end_load(load)
    judged.all_heard(sent["events_sent"])
    resumed_only(judged, 2)
    all_answered(judged, sent)
    no_false_news(judged, 3)


@in_soak
def test_a_version_that_cannot_start_leaves_the_old_process(judged: Judged) -> None:
    (judged.fleet.bot_folder / "main.py").write_text("import nothing_of_that_name\n")
    done = judged.fleet.run("respawn", "--node", "a")
    assert done.returncode == 1
    assert "nothing_of_that_name" in done.stderr
    assert epochs(judged) == {"a": 1, "b": 1}
    sent = judged.end_load(judged.begin_load(10, 50, 1))
    judged.all_heard(sent["events_sent"])
    resumed_only(judged, 0)
    all_answered(judged, sent)


@in_soak
def test_a_version_that_is_not_ready_in_time_leaves_the_old_process(judged: Judged) -> None:
    (judged.fleet.bot_folder / "main.py").write_text("import time\ntime.sleep(1000)\n")
    done = judged.fleet.run("respawn", "0")
    assert done.returncode == 1
    assert f"did not become ready within {READY_S} s" in done.stderr
    assert "the old process goes on" in done.stderr
    assert epochs(judged) == {"a": 1, "b": 1}
    sent = judged.end_load(judged.begin_load(10, 50, 1))
    judged.all_heard(sent["events_sent"])
    resumed_only(judged, 0)
    all_answered(judged, sent)
    assert len(judged.fleet.status()["nodes"][0]["processes"]) == 0


@in_soak
def test_a_successor_that_dies_at_once_gives_way_to_the_old_process(judged: Judged) -> None:
    load = judged.begin_load(10, 60, 10)
    wait_for("the load", lambda: judged.audit()["interactions_sent"] > 10)
    judged.fleet.run("respawn", "--node", "a", "--no-wait", check=True)
    # It has the shards, and is not trusted with them yet.
    wait_for("the RESUMEs", lambda: judged.audit()["resumes"] == 2)
    successor = [c for c in judged.fleet.note()["children"] if c["name"] == "node:a"][-1]
    os.kill(int(successor["pid"]), signal.SIGKILL)
    wait_for("the way back", lambda: judged.audit()["resumes"] == 4, 20.0)
    sent = judged.end_load(load)
    judged.all_heard(sent["events_sent"], named=2)
    resumed_only(judged, 4)
    assert judged.audit()["answered_twice"] == 0
    assert judged.audit()["answered_never"] <= 1
    assert epochs(judged) == {"a": 1, "b": 1}
    told_ready = {line[0] for line in judged.lines("ready")}
    no_false_news(judged, len(told_ready))
    assert len(told_ready) in (2, 3)


@in_soak
def test_the_broker_dies_in_the_middle(judged: Judged) -> None:
    load = judged.begin_load(20, 100, 10)
    wait_for("the load", lambda: judged.audit()["interactions_sent"] > 10)
    judged.fleet.run("respawn", "--all", "--no-wait", check=True)
    for resumes in (1, 3):
        wait_for("RESUMEs", lambda count=resumes: judged.audit()["resumes"] >= count, 20.0)
        judged.fleet.kill("broker")
    wait_for("both nodes", lambda: epochs(judged) == {"a": 2, "b": 2}, 30.0)
    sent = judged.end_load(load)
    judged.all_heard(sent["events_sent"])
    resumed_only(judged, SHARDS)
    all_answered(judged, sent)
    assert judged.audit()["answered_late"] == 0
    no_false_news(judged, 4)


@in_soak
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_fleet_ends_in_the_middle_and_goes_on_after_a_start(judged: Judged, end: str) -> None:
    """Whatever a respawn has come to, all its processes end, and the shards RESUME."""
    load = judged.begin_load(0, 60, 30)
    for number, after_s in enumerate((0.5, 1.5, 2.5), 1):
        judged.fleet.run("respawn", "--all", "--no-wait", check=True)
        time.sleep(after_s)  # about: spawned, warm, held
        if end == "stop":
            assert judged.fleet.stop().returncode == 0
        else:
            judged.fleet.kill("supervisor")
        wait_for("their end", lambda: not judged.fleet.processes(), 20.0)
        judged.fleet.run("start", "main.py", "--nodes", "2", check=True)
        judged.fleet.wait_ready()
        newest = json.loads(judged.fleet.run("operations", "--json", check=True).stdout)
        states = Counter(op["state"] for op in newest["operations"])
        assert sum(states.values()) == number
        assert states.keys() <= {"cancelled", "failed", "done"}
    judged.all_heard(judged.end_load(load)["events_sent"])
    audit = judged.audit()
    assert (audit["identifies"], audit["resumes_failed"]) == (SHARDS, 0)
    assert judged.lines("join") == judged.lines("remove") == []


def test_a_killed_node_resumes_and_names_what_it_left(judged: Judged) -> None:
    load = judged.begin_load(10, 200, 8)
    wait_for("the load", lambda: judged.audit()["interactions_sent"] > 10)
    for name in ("node:a", "node:b"):
        judged.fleet.kill(name)
    wait_for("the RESUMEs", lambda: judged.audit()["resumes"] >= SHARDS, 30.0)
    judged.fleet.wait_ready()
    sent = judged.end_load(load)
    counts = judged.fleet.status()["broker"]["counts"]
    named = counts.get("handlers_interrupted", 0)
    judged.all_heard(sent["events_sent"], named)
    audit = judged.audit()
    assert (audit["identifies"], audit["resumes"], audit["resumes_failed"]) == (SHARDS, SHARDS, 0)
    assert audit["answered_twice"] == 0
    assert audit["answered_never"] <= named
    assert counts["shard_resumed_cold"] == counts["shard_dead"] == SHARDS
    no_false_news(judged, 4)


def test_a_fleet_that_is_stopped_and_started_resumes(judged: Judged) -> None:
    first = judged.end_load(judged.begin_load(0, 50, 1))["events_sent"]
    assert judged.fleet.stop().returncode == 0
    away = judged.end_load(judged.begin_load(0, 50, 1))["events_sent"]
    assert away
    call(judged.info, "/trouble", {"kind": "budget", "remaining": 0})
    judged.start()
    judged.all_heard(first + away)
    audit = judged.audit()
    assert (audit["identifies"], audit["resumes"], audit["resumes_failed"]) == (SHARDS, SHARDS, 0)
    no_false_news(judged, 4, starts=2)
    call(judged.info, "/trouble", {"kind": "budget", "remaining": 1000})
    judged.fleet.run("stop", "--discard-sessions", "--yes", check=True)
    assert call(judged.info, "/sessions") == []
    assert not list((judged.fleet.paths.data_dir / "journal").glob("*/*.seg"))
    judged.start()
    assert judged.audit()["identifies"] == 2 * SHARDS
