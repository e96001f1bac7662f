"""Processes replaced, killed, stopped and started: sessions go on, and the audit is clean.

The sandbox is not the fleet's own, so that it outlives the fleet.
"""

from __future__ import annotations

import shutil
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
SANDBOX = (
    "--guilds", "12", "--shards", str(SHARDS), "--max-concurrency", str(SHARDS),
    "--identify-window-s", "0.3",
)  # fmt: skip


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
        made = Judged(fleet, info)
        made.start()
        yield made


def no_false_news(judged: Judged, processes: int) -> None:
    """Nothing joined or left, and each process was ready once."""
    assert judged.lines("join") == judged.lines("remove") == []
    ready = Counter(line[0] for line in judged.lines("ready"))
    assert set(ready.values()) == {1}
    assert len(ready) == processes


def test_a_respawn_in_sequence_resumes(judged: Judged) -> None:
    load = judged.begin_load(10, 60, 8)
    wait_for("the load", lambda: judged.audit()["interactions_sent"] > 10)
    call(judged.info, "/trouble", {"kind": "budget", "remaining": 0})  # it needs none
    done = judged.fleet.run("respawn", "0", check=True)
    assert "shard 1 ready on node a" in done.stderr
    sent = judged.end_load(load)
    judged.all_heard(sent["events_sent"])
    audit = judged.audit()
    assert (audit["identifies"], audit["resumes"], audit["resumes_failed"]) == (SHARDS, 2, 0)
    assert audit["answered_twice"] == audit["answered_never"] == 0
    assert audit["answered_once"] + audit["answered_late"] == sent["interactions_sent"]
    no_false_news(judged, 3)


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
    assert counts["shard_resumed"] == SHARDS
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
    no_false_news(judged, 4)
    call(judged.info, "/trouble", {"kind": "budget", "remaining": 1000})
    judged.fleet.run("stop", "--discard-sessions", "--yes", check=True)
    assert call(judged.info, "/sessions") == []
    assert not list((judged.fleet.paths.data_dir / "journal").glob("*/*.seg"))
    judged.start()
    assert judged.audit()["identifies"] == 2 * SHARDS
