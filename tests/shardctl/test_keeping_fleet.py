"""A whole fleet's log is trimmed from the command line, behind a backup that brings it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardctl.keeping import RECORDS_MIN
from shardctl.paths import create_folders
from tests.support.fleet import Fleet
from tests.support.state_fill import fill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GONE = 2000
RECORDS = RECORDS_MIN + GONE


def shown(fleet: Fleet, *args: str, code: int = 0) -> Any:
    done = fleet.run(*args, "--json")
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_it_is_trimmed_proved_and_brought_back(tmp_path: Path) -> None:
    with Fleet(tmp_path) as fleet:
        create_folders(fleet.paths)
        fill(fleet.paths.data_dir / "state", RECORDS)
        (fleet.bot_folder / "shardctl.toml").write_text(
            f'[state]\nbackup_folder = "{tmp_path / "disk"}"\nkeep_records = {RECORDS_MIN}\n'
        )
        fleet.start(shards=2, nodes=1, guilds=2)
        would = shown(fleet, "state", "trim", "--dry-run")
        assert (would["first"], would["up_to"], would["records"]) == (1, GONE, GONE)
        assert fleet.run("state", "trim").returncode == 2  # nobody is there to be asked
        done = shown(fleet, "state", "trim", "--yes")
        assert (done["trimmed"], done["first"]) == (GONE, GONE + 1)
        assert "nothing to trim" in fleet.run("state", "trim", "--yes").stdout
        said = fleet.run("status", "--verbose").stdout
        assert f"{RECORDS_MIN} records ({GONE + 1} to {RECORDS})" in said
        assert f"verified, up to transaction {RECORDS}" in said
        (backup,) = shown(fleet, "backup", "list")["backups"]
        assert (backup["auto"], backup["verified"]) == (True, True)
        assert Path(backup["folder"]).parent == tmp_path / "disk" / fleet.name
        assert "broker" in fleet.run("backup", "list").stdout
        audit = shown(fleet, "economy", "audit")
        assert (audit["findings"], audit["log"]["proved"]) == ([], True)
        late = fleet.run("state", "rollback", "7", "--reason", "late")
        assert "trimmed from the log" in late.stderr, late.stderr
        fleet.stop()
        report = shown(fleet, "state", "check", "--since", backup["folder"])
        assert (report["ok"], report["first"], report["replayed"]) == (True, GONE + 1, True)
        shown(fleet, "backup", "restore", backup["folder"], "--yes")
        assert shown(fleet, "state", "stats")["log"] == {"first": 1, "last": RECORDS}
