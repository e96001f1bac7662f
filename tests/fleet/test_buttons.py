"""Buttons survive deploys: who asked before a respawn gets the answers after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.processes import BOTS
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

WHOLE = os.environ.get("SHARDCTL_HANDOVER") == "full"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fleet-buttons")]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, "buttons") as made:
        shutil.copy(BOTS / "asker.py", made.bot_folder / "main.py")
        made.start("main.py", shards=2, nodes=2, max_concurrency=2, guilds=6)
        made.wait_ready()
        wait_for("the commands", lambda: made.audit()["command_syncs"])
        yield made


def heard(fleet: Fleet, word: str) -> list[int]:
    """The processes that wrote it down."""
    text = (fleet.bot_folder / "record.txt").read_text()
    return [int(line.split()[0]) for line in text.splitlines() if line.split()[1] == word]


def guild_of(fleet: Fleet, shard: int) -> str:
    found = (g["id"] for g in fleet.control("guilds") if g["shard"] == shard)
    return str(next(found))


def play(fleet: Fleet, kind: str, guild: str, **more: Any) -> None:
    fleet.control("play", {"kind": kind, "guild": guild, **more})


def answered(fleet: Fleet) -> None:
    wait_for("answers", lambda: fleet.audit()["interactions_pending"] == 0)
    audit = fleet.audit()
    bad = [audit[f"answered_{how}"] for how in ("late", "never", "twice")]
    assert bad == [0, 0, 0], audit


def test_who_asked_gets_the_answers(fleet: Fleet) -> None:
    guild = guild_of(fleet, 0)
    for name in ("view", "ask", "form", "listen", "hello"):
        play(fleet, "slash", guild, name=name)
    answered(fleet)
    old = heard(fleet, "hello")[0]
    fleet.run("respawn", "0", check=True)
    play(fleet, "slash", guild, name="hello")
    wait_for("the new process", lambda: len(heard(fleet, "hello")) == 2)
    new = heard(fleet, "hello")[1]
    assert new != old
    (node,) = (n for n in fleet.status()["nodes"] if n["id"] == "a")
    assert [(p["role"], p["pid"]) for p in node["processes"]] == [("lingering", old)]
    ticks = len([pid for pid in heard(fleet, "tick") if pid == old])

    fleet.kill("broker")
    play(fleet, "button", guild, custom_id="view-yes")
    wait_for("the view", lambda: heard(fleet, "view"), 15)
    play(fleet, "modal", guild, custom_id="form")
    play(fleet, "message", guild, count=40)
    play(fleet, "button", guild, custom_id="ask-well")
    for word in ("view", "form", "heard", "ask"):
        wait_for(word, lambda word=word: heard(fleet, word), 15)
        assert heard(fleet, word) == [old]
    wait_for("all messages", lambda: len(heard(fleet, "message")) == 40)
    assert set(heard(fleet, "message")) == {new}
    assert set(heard(fleet, "click")) == {old}
    answered(fleet)
    assert len([pid for pid in heard(fleet, "tick") if pid == old]) <= ticks + 1
    # Nothing waits in it any more.
    wait_for("its end", lambda: "a#1 ended" in fleet.logs(), 15)
    assert fleet.audit()["guild_joins_seen"] == 0
    assert fleet.audit()["identifies"] == 2


@pytest.mark.skipif(not WHOLE, reason="runs in make soak")
def test_who_asked_a_node_that_ends_gets_the_answers(fleet: Fleet) -> None:
    guild = guild_of(fleet, 1)
    for name in ("view", "ask", "form", "hello"):
        play(fleet, "slash", guild, name=name)
    answered(fleet)
    old = heard(fleet, "hello")[0]
    fleet.run("scale", "--nodes", "1", check=True)
    (staying, ending) = fleet.status()["nodes"]
    assert (ending["id"], ending["pid"], ending["state"]) == ("b", old, "lingering")
    assert (staying["shards"], ending["shards"]) == ([0, 1], [])
    play(fleet, "slash", guild, name="hello")
    wait_for("the new holder", lambda: len(heard(fleet, "hello")) == 2)
    assert heard(fleet, "hello")[1] == staying["pid"]
    play(fleet, "button", guild, custom_id="view-yes")
    play(fleet, "modal", guild, custom_id="form")
    play(fleet, "button", guild, custom_id="ask-well")
    for word in ("view", "form", "ask"):
        wait_for(word, lambda word=word: heard(fleet, word), 15)
        assert heard(fleet, word) == [old]
    answered(fleet)
    # Nothing waits in it any more.
    wait_for("its end", lambda: len(fleet.status()["nodes"]) == 1, 15)
    assert fleet.audit()["identifies"] == 2
