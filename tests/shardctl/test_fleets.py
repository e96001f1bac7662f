"""`shardctl status --all`: which fleets there are, without one that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shardctl.cli import cli


def run(*args: str, **extra: Any) -> Result:
    return CliRunner().invoke(cli, args, **extra)


def test_all_fleets_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert "no fleet was started yet" in run("status", "--all").stderr
    for name in ("one", "other"):
        (tmp_path / "state" / "shardctl" / name).mkdir(parents=True)
        (tmp_path / "state" / "shardctl" / name / "fleet.json").write_text(
            json.dumps({"bot": {"folder": f"/bots/{name}"}})
        )
    done = run("status", "--all")
    assert done.exit_code == 0
    assert done.stdout == "one    stopped  /bots/one\nother  stopped  /bots/other\n"
    found = json.loads(run("status", "--all", "--json").stdout)
    assert [fleet["state"] for fleet in found["fleets"]] == ["stopped", "stopped"]
