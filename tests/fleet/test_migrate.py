"""A guild that is handled by another process than the one that has its shard: there and back, as
people type it, under load; and whoever is killed meanwhile.

The longer ones run in `make soak` (SHARDCTL_HANDOVER=full).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import topics
from shard_node.wire.migration import MigrateRequest
from shardctl.client import Client
from shardctl.errors import Refused
from tests.node.processes import BOTS
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fleet-migrate")]

WHOLE = os.environ.get("SHARDCTL_HANDOVER") == "full"
in_soak = pytest.mark.skipif(not WHOLE, reason="runs in make soak")


@contextmanager
def running(tmp_path: Path, shards: int, nodes: int, **more: Any) -> Iterator[Fleet]:
    with Fleet(tmp_path, "migrate") as fleet:
        shutil.copy(BOTS / "recorder.py", fleet.bot_folder / "main.py")
        fleet.start("main.py", shards=shards, nodes=nodes, max_concurrency=shards, **more)
        fleet.wait_ready()
        wait_for("the commands", lambda: fleet.audit()["command_syncs"])
        yield fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running(tmp_path, 2, 2, guilds=4) as made:
        yield made


def guild_of(fleet: Fleet, shard: int, count: int) -> int:
    """A guild of the bot's on this shard."""
    found = [int(one["id"]) for one in fleet.control("guilds")]
    return next(guild for guild in found if (guild >> 22) % count == shard)


def clean(fleet: Fleet) -> dict[str, Any]:
    """The audit, once nothing is under way: each event once and in order."""
    keys = ("interactions_pending", "events_pending")
    wait_for("nothing pending", lambda: not any(fleet.audit()[k] for k in keys), 20.0)
    audit = fleet.audit()
    assert audit["answered_twice"] == audit["answered_never"] == 0, audit
    assert audit["events_handled_twice"] == audit["events_handled_out_of_order"] == 0, audit
    assert audit["guild_joins_seen"] == audit["guild_removes_seen"] == 0, audit
    return audit


def end_load(fleet: Fleet, load: str) -> None:
    """Until nothing is under way."""
    url = f"{fleet.info()['control_url']}/load/{load}"
    urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10)
    keys = ("interactions_pending", "events_pending")
    wait_for("nothing pending", lambda: not any(fleet.audit()[k] for k in keys), 30.0)


def listed(fleet: Fleet) -> list[dict[str, Any]]:
    done = fleet.run("migrate-guild", "--list", "--json", check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["guilds"]
    return found


def test_a_guild_goes_to_another_node_and_back_under_load(fleet: Fleet) -> None:
    guild = str(guild_of(fleet, 0, 2))
    load = fleet.load(10, 8, events_per_s=60)
    wait_for("the load", lambda: fleet.audit()["interactions_sent"] > 5)
    would = fleet.run("migrate-guild", guild, "b", "--dry-run", check=True)
    assert would.stdout == f"guild {guild} (shard 0) would go from node a to node b\n"
    there = fleet.run("migrate-guild", guild, "b", check=True)
    assert there.stdout.startswith(f"guild {guild} is handled by node b: held for ")
    where = fleet.run("where", guild, check=True).stdout
    assert "shard 0 of 2, node b (override)" in where
    (row,) = listed(fleet)
    assert (row["node"], row["gateway_node"], row["wanted"]) == ("b", "a", "b")
    again = fleet.run("migrate-guild", guild, "b")
    assert again.returncode != 0
    assert f"guild {guild} is handled by node b already" in again.stderr
    back = fleet.run("migrate-guild", guild, "--back", check=True)
    assert back.stdout.startswith(f"guild {guild} is handled by node a: held for ")
    assert listed(fleet) == []
    print(there.stdout, back.stdout)
    sent = fleet.wait_load(load)
    audit = clean(fleet)
    assert audit["events_handled_once"] == sent["events_sent"]
    assert audit["answered_once"] == sent["interactions_sent"]
    assert audit["identifies"] == 2
    assert audit["resumes"] == 0


def test_bad_input_is_said_in_words(fleet: Fleet) -> None:
    guild = str(guild_of(fleet, 0, 2))
    for args, words in (
        ((guild, "z"), "no node 'z' in the fleet"),
        ((guild, "shard:9"), "no shard 9 in the fleet"),
        ((guild, "a"), f"guild {guild} is handled by node a already"),
        ((guild, "--back"), f"guild {guild} is at home: node a has it, and its shard 0"),
        ((str(int(guild) + (2 << 22) * 10**6), "b"), "knows of no guild"),
        ((guild,), "name a GUILD, and a TARGET or --back"),
        ((guild, "b", "--drain", "5m"), "is no time up to 60s"),
    ):
        done = fleet.run("migrate-guild", *args)
        assert done.returncode != 0, args
        assert words in done.stderr, (args, done.stderr)
    assert listed(fleet) == []


@in_soak
def test_a_guild_goes_there_and_back_a_hundred_times(tmp_path: Path) -> None:
    """50 events and 10 interactions a second in that guild alone."""
    with running(tmp_path, 2, 2, guilds=1) as fleet:
        guild = str(fleet.control("guilds")[0]["id"])
        away = "ab"[1 - (int(guild) >> 22) % 2]
        load = fleet.load(10, 240, events_per_s=50)
        wait_for("the load", lambda: fleet.audit()["interactions_sent"] > 5)
        held = []
        for number in range(200):
            way = (guild, "--back") if number % 2 else (guild, away)
            done = fleet.run("migrate-guild", *way, "--json", check=True)
            held.append(json.loads(done.stdout)["operation"]["args"]["held_ms"])
        end_load(fleet, load)
        audit = clean(fleet)
        held.sort()
        print(json.dumps(audit), "held ms: p50", held[100], "p99", held[198], "max", held[-1])
        assert audit["events_handled_once"] == audit["events_sent"]
        assert audit["answered_once"] == audit["interactions_sent"]
        assert audit["answered_late"] == 0


_OTHER = {"a": "b", "b": "a", None: "b"}
KILLS = 24
DEATHS_MAX = 3
"""Of a node, before it is replaced in good order: five in ten minutes are a crash loop."""


@in_soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_whoever_is_killed_the_guild_is_somewhere(fleet: Fleet, seed: int) -> None:
    """The holder of its shard, the target or the broker, in the first moments of its way."""
    dice, deaths = random.Random(seed), Counter[str]()
    guild = guild_of(fleet, 0, 2)
    load = fleet.load(10, 3600, events_per_s=60)
    wait_for("the load", lambda: fleet.audit()["interactions_sent"] > 5)
    ended = Counter[str]()
    for number in range(KILLS):
        op = wait_for(f"a begin of {number}", lambda: _begun(fleet, guild), 60)
        time.sleep(dice.uniform(0.0, 0.15))  # somewhere in it
        who = dice.choice(["node:a", "node:b", "broker"])
        fleet.kill(who)
        deaths[who] += 1
        wait_for("all ready", lambda: fleet.run("status").returncode == 0, 60)
        state = wait_for(f"an end of {number}", lambda op=op: _ended(fleet, op), 60)
        ended[f"{who} {state}"] += 1
        if who != "broker" and deaths[who] == DEATHS_MAX:
            deaths[who] = 0
            fleet.run("respawn", "--node", who[-1], "--queue", check=True)
    print(sorted(ended.items()))
    end_load(fleet, load)
    audit = fleet.control("audit?named=1")
    named = audit.pop("named")
    print(json.dumps(audit))
    twice = ("events_handled_twice", "events_handled_out_of_order", "answered_twice")
    assert not any(audit[key] for key in twice), audit
    lines = [line for line in fleet.logs().splitlines() if "to the end, and not" in line]
    known = set(re.findall(r"\(([0-9:]+)\)", "\n".join(lines)))
    assert set(named["events_never"]) <= known


def _begun(fleet: Fleet, guild: int) -> str:
    """To the other node, or back; "" as long as it is refused, as while a shard is not ready."""
    back = bool(listed(fleet))
    there = json.loads(fleet.run("where", str(guild), "--json", check=True).stdout)["node"]
    body = MigrateRequest(guild, "" if back else _OTHER[there], back=back, queue=True)
    try:
        with Client(fleet.paths) as client:
            return str(client.ask(topics.MIGRATE, body).op)
    except Refused:
        return ""


def _ended(fleet: Fleet, op: str) -> str:
    """How an operation ended; "" as long as it has not."""
    done = fleet.run("operations", "--json")
    if done.returncode:
        return ""
    found = {one["op"]: one["state"] for one in json.loads(done.stdout)["operations"]}
    return found[op] if found[op] in ("done", "failed", "reverted", "cancelled") else ""
