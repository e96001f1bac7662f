"""The lifecycle under the whole load: 8 shards on 4 nodes, 100 interactions and 1,000 events a
second. Runs in `make soak` (SHARDCTL_LIFECYCLE=full, or =100,1000 for other rates); prints the
sandbox's audit."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

ASKED = os.environ.get("SHARDCTL_LIFECYCLE", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ASKED, reason="runs in make soak"),
    pytest.mark.xdist_group("lifecycle-soak"),
]

SHARDS, NODES = 8, 4
HANG_S = 3.0
NOTICED_S = 0.1
"""Of an exit; a hang is noticed within HANG_S and one beat."""
BEAT_S = 1.0
RESUMED_S = 2.0
"""Beside the start of the process."""
START_S = 1.5
FOUND_S = 3.0
"""A node that does not hang has registered with a new broker within this."""
DUE_S = 3.0
"""Discord waits so long for the answer to an interaction."""
GAP_MEDIAN_MS, GAP_MAX_MS = 250, 1000
EPOCH_MS = 1_420_070_400_000
"""Of Discord's ids."""
BOT = """
import os, disnake
from disnake.ext import commands
bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.all(), max_messages=None)
@bot.event
async def on_message(m): pass
@bot.event
async def on_guild_role_update(a, b): pass
@bot.event
async def on_raw_member_update(m): pass
@bot.event
async def on_raw_presence_update(m): pass
@bot.slash_command(description="says hello")
async def hello(inter): await inter.response.send_message("hello")
bot.run(os.environ["DISCORD_TOKEN"])
"""


def rates() -> tuple[int, int]:
    """Interactions and events a second."""
    if "," not in ASKED:
        return 100, 1000
    interactions, events = ASKED.split(",")
    return int(interactions), int(events)


class Soak:
    """A fleet under load, and what was done to it when."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.load = ""
        self.harmed: list[tuple[float, float]] = []
        """From when to when (wall clock) shards of somebody had no process."""

    def start(self) -> None:
        (self.fleet.bot_folder / "main.py").write_text(BOT)
        (self.fleet.bot_folder / "shardctl.toml").write_text(f"[lifecycle]\nhang_s = {HANG_S:g}\n")
        self.fleet.start("main.py", shards=SHARDS, nodes=NODES, max_concurrency=SHARDS, guilds=40)
        self.fleet.wait_ready()
        wait_for("the commands", lambda: self.fleet.audit()["command_syncs"])
        interactions, events = rates()
        self.load = self.fleet.load(interactions, 1800, events)
        wait_for("the load", lambda: self.fleet.audit()["events_sent"] > events)

    def settle(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ends the load; the audit, and what is bad by name."""
        url = f"{self.fleet.info()['control_url']}/load/{self.load}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10)
        keys = ("interactions_pending", "events_pending")
        wait_for("nothing pending", lambda: not any(self.fleet.audit()[k] for k in keys), 30)
        audit: dict[str, Any] = self.fleet.control("audit?named=1")
        named = audit.pop("named")
        print(json.dumps(audit))
        return audit, named

    def epochs(self) -> dict[str, int]:
        return {node["id"]: node["epoch"] for node in self.fleet.status()["nodes"]}

    def harm(self, name: str, number: signal.Signals) -> tuple[float, float]:
        """One node's process: after how long it was noticed, and all its shards had RESUMEd."""
        (node,) = (one for one in self.fleet.status()["nodes"] if one["id"] == name)
        before, held = self.fleet.audit()["resumes"], len(node["shards"])
        assert held, f"node {name} has no shards: {node}"
        wall = time.time()
        os.kill(node["pid"], number)
        wanted = before + held
        text = f"node {name}#{node['epoch']} was ended"
        noticed = wait_for(f"{text!r} in the log", lambda: self._said(text), HANG_S + 30)
        wait_for("RESUMEs", lambda: self.fleet.audit()["resumes"] >= wanted, 30)
        resumed = time.time() - wall
        self.harmed.append((wall, wall + resumed))
        self.fleet.wait_ready()
        return noticed - wall, resumed

    def _said(self, text: str) -> float | None:
        """When (wall clock) the broker said so."""
        for line in (self.fleet.paths.logs_dir / "broker.log").read_text().splitlines(True):
            said = json.loads(line) if line.endswith("\n") else {"text": ""}
            if said["text"].startswith(text):
                return datetime.fromisoformat(said["at"]).timestamp()
        return None

    def whole(self) -> bool:
        """Whether each node has as many shards as at the start."""
        return all(len(node["shards"]) == SHARDS // NODES for node in self.fleet.status()["nodes"])

    def named_by_journals(self) -> set[str]:
        """The events that a killed process was handling."""
        lines = [line for line in self.fleet.logs().splitlines() if "to the end, and not" in line]
        return set(re.findall(r"\(([0-9:]+)\)", "\n".join(lines)))

    def excused(self, ids: list[str]) -> list[str]:
        """Of interactions those that were due while nobody could have noticed, or while the next
        process started: the rest is nobody's but ours."""
        bad = []
        for one in ids:
            sent = ((int(one) >> 22) + EPOCH_MS) / 1000
            if not any(begin - DUE_S <= sent <= end for begin, end in self.harmed):
                bad.append(one)
        return bad


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Soak]:
    with Fleet(tmp_path, "soak") as fleet:
        made = Soak(fleet)
        made.start()
        yield made


def clean(audit: dict[str, Any]) -> None:
    """Nothing lost, nothing twice, no session."""
    assert audit["events_handled_twice"] == audit["events_handled_out_of_order"] == 0
    assert audit["answered_twice"] == 0
    assert audit["identifies"] == SHARDS
    assert audit["resumes_failed"] == audit["identifies_rejected"] == 0
    assert audit["guild_joins_seen"] == audit["guild_removes_seen"] == 0


def all_there(audit: dict[str, Any]) -> None:
    assert audit["answered_once"] == audit["interactions_sent"]
    assert audit["answered_late"] == audit["answered_never"] == 0
    assert audit["events_handled_once"] == audit["events_sent"]


def roll(soak: Soak, meanwhile: Callable[[], None] = lambda: None) -> None:
    before = soak.epochs()
    op = soak.fleet.run("respawn", "--all", "--no-wait", check=True).stdout.strip()
    meanwhile()
    done = soak.fleet.run("wait", op, timeout_s=180, check=True)
    assert "0 IDENTIFYs" in done.stdout, done.stdout
    print(done.stdout.strip().splitlines()[-1])
    assert soak.epochs() == {name: epoch + 1 for name, epoch in before.items()}


def judge_rolls(soak: Soak, rolls: int) -> None:
    audit, _ = soak.settle()
    clean(audit)
    all_there(audit)
    assert audit["resumes"] == audit["handovers"] == rolls * SHARDS
    assert audit["handover_median_ms"] < GAP_MEDIAN_MS
    assert audit["handover_max_ms"] < GAP_MAX_MS


@pytest.mark.timeout(600)
def test_all_nodes_are_respawned_three_times(soak: Soak) -> None:
    for _ in range(3):
        roll(soak)
    judge_rolls(soak, 3)


@pytest.mark.timeout(600)
def test_the_broker_is_killed_while_all_nodes_are_respawned(soak: Soak) -> None:
    dice = random.Random(7)

    def kill() -> None:
        for _ in range(3):
            time.sleep(dice.uniform(0.5, 6.0))  # somewhere in the steps
            soak.fleet.kill("broker")
            wait_for("the next broker", lambda: soak.fleet.run("status").returncode in (0, 3))

    roll(soak, kill)
    judge_rolls(soak, 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kills", "stops", "with_broker"), [(10, 1, False), (10, 2, True)])
def test_nodes_are_killed_and_stopped(
    soak: Soak, kills: int, stops: int, with_broker: bool
) -> None:
    took = []
    for number in range(kills + stops):
        wait_for("no shard away", soak.whole, 150)
        stopped = number >= kills
        broker_dies = with_broker and number % 4 == 3
        if broker_dies:
            soak.fleet.kill("broker")
            wait_for("the next broker", lambda: soak.fleet.run("status").returncode in (0, 3))
        name = "abcd"[number % NODES]
        noticed, resumed = soak.harm(name, signal.SIGSTOP if stopped else signal.SIGKILL)
        took.append((round(noticed, 3), round(resumed, 2)))
        unfound = FOUND_S if broker_dies else 0.0
        assert noticed < (HANG_S + BEAT_S + unfound if stopped else NOTICED_S), took
        assert resumed < noticed + RESUMED_S + START_S, took
    print("noticed after, RESUMEd after (s):", took)
    wait_for("no shard away", soak.whole, 150)
    assert sum(soak.epochs().values()) == NODES + kills + stops  # nobody else was started again
    audit, named = soak.settle()
    clean(audit)
    known = soak.named_by_journals()
    assert set(named["events_never"]) <= known
    late = [*named["interactions_never"], *named["interactions_late"]]
    assert soak.excused([one for one in late if one not in known]) == []
    print("late", audit["answered_late"], "never", audit["answered_never"], "named", len(known))
    print({k: v for k, v in soak.fleet.status()["broker"]["counts"].items() if v})
