"""The state's commands with a real fleet: its broker, its disk, its death."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

USER = "80351110224678912"
FOLLOW_S = 20.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path) as fleet:
        fleet.start(shards=2, nodes=1, guilds=2)
        yield fleet


def shown(fleet: Fleet, *args: str, code: int = 0) -> Any:
    done = fleet.run(*args, "--json")
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_it_is_kept_through_kills_backed_up_and_brought_back(fleet: Fleet, tmp_path: Path) -> None:
    shown(fleet, "economy", "deposit", f"user:{USER}", "100", "--reason", "start")
    shown(fleet, "state", "set", "41", '{"prefix": "?"}', "--table", "config")
    shown(fleet, "ban", "add", "7", "--reason", "spam", "--for", "1d")
    shown(fleet, "premium", "grant", f"user:{USER}", "gold", "--for", "30d")
    backup = shown(fleet, "backup", "create", str(tmp_path / "backup"))
    assert backup["lsn"] == 4
    fleet.kill("broker", signal.SIGKILL)
    pay = ("economy", "transfer", f"user:{USER}", "shop", "30", "--idempotency-key", "k1")
    wait_for("the broker is back", lambda: fleet.run(*pay).returncode == 0, 30.0)
    assert shown(fleet, *pay)["tx"] == 5
    accounts = shown(fleet, "economy", "balance", f"user:{USER}", "shop")["accounts"]
    assert [one["balance"] for one in accounts] == [70, 30]
    records = shown(fleet, "state", "log")["records"]
    assert [record["tx"] for record in records] == [1, 2, 3, 4, 5]
    assert {record["actor"]["node"] for record in records} == {"shardctl"}
    assert [row["user"] for row in shown(fleet, "ban", "list")["bans"]] == ["7"]
    assert shown(fleet, "economy", "audit")["findings"] == []
    assert shown(fleet, "state", "check", "--copy")["ok"]
    assert shown(fleet, "state", "stats")["log"] == {"first": 1, "last": 5}

    for refused in (("state", "check"), ("backup", "restore", backup["folder"], "--yes")):
        done = fleet.run(*refused)
        assert done.returncode == 77, done.stderr
        assert "error[E_STORE_IN_USE]" in done.stderr
    fleet.stop()
    assert shown(fleet, "state", "check")["replayed"]
    shown(fleet, "backup", "restore", backup["folder"], "--yes")
    fleet.start(shards=2, nodes=1, guilds=2)
    balance = shown(fleet, "economy", "balance", f"user:{USER}")["accounts"][0]
    assert balance["balance"] == 100
    assert fleet.run("economy", "balance", "shop").returncode == 4
    shown(fleet, "state", "rollback", "1", "--reason", "never mind")
    assert shown(fleet, "economy", "audit")["tables"]["balance"] == 0


def test_a_person_is_forgotten_and_the_chain_stays_whole(fleet: Fleet) -> None:
    shown(fleet, "economy", "deposit", f"user:{USER}", "100")
    shown(fleet, "state", "set", f"41/{USER}", '{"nick": "Sandra"}', "--table", "member")
    shown(fleet, "state", "forget", USER, "--yes")
    assert fleet.run("economy", "balance", f"user:{USER}").returncode == 4

    def erased() -> bool:
        records = shown(fleet, "state", "log")["records"]
        return [record["ops"] is None for record in records] == [True, True, False]

    wait_for("the log tells no more of them", erased, FOLLOW_S)
    report = shown(fleet, "state", "check", "--copy")
    assert report["ok"], report
    audit = shown(fleet, "economy", "audit")
    assert (audit["findings"], audit["log"]["unknown"], audit["log"]["compares"]) == ([], 2, "")
    assert "shardctl backup create" in fleet.run("economy", "audit").stderr
    backup = shown(fleet, "backup", "create")["folder"]
    shown(fleet, "economy", "deposit", "shop", "5")
    assert f"audit --since {backup}" in fleet.run("economy", "audit").stderr
    since = shown(fleet, "economy", "audit", "--since", backup)
    assert (since["findings"], since["log"]["unknown"]) == ([], 0)
    assert fleet.run("economy", "audit", "--since", backup).stderr == ""


def test_the_log_is_followed_until_ctrl_c(fleet: Fleet, tmp_path: Path) -> None:
    with (tmp_path / "followed").open("w") as out:
        process = subprocess.Popen(
            [*fleet._command, "state", "log", "-f", "--json"],
            cwd=fleet.bot_folder,
            env=fleet.env | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=out,
        )
    try:
        for number in range(3):
            shown(fleet, "state", "set", "motd", str(number))

        def followed() -> bool:
            lines = (tmp_path / "followed").read_text().splitlines()
            return [json.loads(line)["tx"] for line in lines] == [1, 2, 3]

        wait_for("three records", followed, FOLLOW_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(FOLLOW_S) == 0
    finally:
        process.kill()
        process.wait()
