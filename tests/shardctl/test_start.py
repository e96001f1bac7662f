"""What `start` settles before anything runs: which bot, which folders, which Discord."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shardctl.cli import cli
from shardctl.cli.progress import Patience, waiting
from shardctl.cli.start import start_failed
from shardctl.client import no_broker
from shardctl.errors import ShardctlError
from shardctl.launch import write_json
from shardctl.paths import FleetPaths, run_fallback
from shardctl.supervisor import procs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("SHARDCTL_", "DISCORD_", "XDG_")):
            monkeypatch.delenv(name)
    for folder in ("bot", "run"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "bot")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "bot"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def test_the_bot_of_the_folder_comes_before_the_example(here: Path) -> None:
    assert "bot.py in" in run("start", "--sandbox", "--dry-run").stdout
    assert "examples" in run("start", "--sandbox", "--dry-run").stdout
    (here / "main.py").write_text("")
    assert f"main.py in {here}" in run("start", "--sandbox", "--dry-run").stdout


def test_the_hint_without_a_token_keeps_the_bot(here: Path) -> None:
    (here / "my bot.py").write_text("")
    done = run("start", "my bot.py")
    assert "hint: without a Discord account: shardctl start 'my bot.py' --sandbox" in done.stderr


@pytest.mark.parametrize("url", ["notaurl", "ftp://x", "http://", "http://[", "http://x:none"])
def test_an_api_base_that_is_no_url(here: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SHARDCTL_API_BASE", url)
    done = run("start", "--sandbox", "--dry-run")
    assert done.exit_code == 78
    assert f"SHARDCTL_API_BASE={url} is not allowed" in done.stderr


def test_an_empty_api_base_counts_as_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCTL_API_BASE", "")
    assert run("start", "--sandbox", "--dry-run").exit_code == 0


def test_a_state_folder_that_is_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = here / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(file))
    done = run("start", "--sandbox")
    assert done.exit_code == 78
    assert f"cannot use the folder {file}" in done.stderr


def test_a_folder_that_is_gone(here: Path) -> None:
    here.rmdir()
    for args in (["status"], ["stop"], ["start", "--sandbox"]):
        done = run(*args)
        assert done.exit_code == 78
        assert "this folder is gone" in done.stderr
    assert run("status", "--fleet", "x").exit_code == 69


def test_a_runtime_folder_that_is_not_used_is_spoken_of(tmp_path: Path) -> None:
    assert run_fallback({}) == ""
    assert run_fallback({"XDG_RUNTIME_DIR": str(tmp_path)}) == ""
    (tmp_path / "file").write_text("")
    said = run_fallback({"XDG_RUNTIME_DIR": str(tmp_path / "file")})
    assert "is not a folder; sockets go to /tmp/shardctl-" in said
    assert "does not exist" in run_fallback({"XDG_RUNTIME_DIR": str(tmp_path / "none")})
    assert "relative" in run_fallback({"XDG_RUNTIME_DIR": "run"})


@pytest.mark.slow
def test_a_full_disk_is_no_bug(here: Path) -> None:
    argv = [sys.executable, "-P", "-m", "shardctl", "start", "--sandbox", "--dry-run"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error[E_SYSTEM]: No space left on device.\n")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def failure(tmp_path: Path, **note: object) -> ShardctlError:
    paths = FleetPaths("f", tmp_path, tmp_path)
    write_json(tmp_path / "last-exit.json", {"pid": 7, "exit_code": 1, **note})
    return start_failed(paths, 7, 1)


def test_a_bot_that_cannot_be_loaded_is_told_once(tmp_path: Path) -> None:
    error = failure(
        tmp_path,
        exit_code=78,
        reason="fatal: E_BOT_SYNTAX: main.py:2: oh; hint: mend it",
        lines=["File main.py", "error[E_BOT_SYNTAX]: main.py:2: oh", "  hint: mend it"],
    )
    assert (error.code, error.exit_code) == ("E_BOT_SYNTAX", 78)
    assert error.message == "main.py:2: oh."
    assert error.consequence == "The fleet has stopped.\n| File main.py"
    assert error.hint == "mend it\nshardctl logs --fleet f"


def test_a_supervisor_that_left_no_note(tmp_path: Path) -> None:
    error = start_failed(FleetPaths("f", tmp_path, tmp_path), 7, 77)
    assert (error.code, error.exit_code) == ("E_RUNNING", 77)
    assert start_failed(FleetPaths("f", tmp_path, tmp_path), 7, -9).code == "E_START"


def test_a_wait_is_spoken_of_every_ten_seconds(tmp_path: Path) -> None:
    (tmp_path / "node-a.log").write_text("importing\nconnecting to my database\n\n")
    nodes = [
        {"id": "a", "state": "starting", "reason": ""},
        {"id": "b", "state": "backoff", "reason": "ended with 1"},
    ]
    report = {"nodes": nodes, "shards": [], "warnings": []}
    causes = waiting(report, tmp_path)
    assert causes == [
        "node a is starting; its last line: connecting to my database",
        "node b is backoff (ended with 1); it has written nothing",
    ]
    warned = {"nodes": [], "shards": [], "warnings": ["GET /gateway/bot failed: refused"]}
    assert waiting(warned, tmp_path) == ["GET /gateway/bot failed: refused; asked again"]
    patience = Patience(0.0)
    assert not patience.waits(False, 9.0)
    assert patience.waits(False, 10.0)
    assert patience.told(["x"], 10.0) == ["waiting for 10 s: x"]
    assert not patience.waits(False, 19.0)
    assert patience.waits(False, 20.0)
    assert not patience.waits(True, 20.0)
    assert not patience.ended(200.0)
    assert patience.ended(200.1)


def test_more_nodes_than_shards_is_spoken_of(here: Path) -> None:
    text = run("start", "--sandbox", "--dry-run", "--nodes", "9").stdout
    assert "4 (9 asked; no node is without a shard)" in text
    assert "needs 4 session starts, 1000 remain" in text


def test_a_broker_that_is_silent_is_not_a_fleet_that_is_down(here: Path) -> None:
    paths = FleetPaths("f", here / "data", here)
    assert "not running" in no_broker(paths, "no answer").hint
    mine = {"pid": os.getpid(), "started": procs.start_of(os.getpid()), "children": []}
    write_json(paths.supervisor_file, mine)
    error = no_broker(paths, "no answer")
    assert f"supervisor pid {os.getpid()}" in error.consequence
    assert "shardctl logs --broker" in error.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_run_folder_of_another_user_is_not_a_fleet_that_is_down(
    here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    # Short: under a long path the run folder would be another, hashed one.
    runtime = tempfile.TemporaryDirectory()
    request.addfinalizer(runtime.cleanup)
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime.name)
    folder = Path(runtime.name) / "shardctl"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    for verb in ("status", "stop"):
        done = run(verb)
        assert done.exit_code == 78
        assert "error[E_NOT_OURS]" in done.stderr
