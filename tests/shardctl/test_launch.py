"""The launch record, and how each process is started from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from shard_node.settings import read_settings
from shardctl import launch
from shardctl.launch import Bot, LaunchError, Record, Sandbox

RECORD = Record("f", "ipc:///s", "/data", "/run", Bot("/bot", "main.py"), python="/py")
INFO = {
    "rest_url": "http://127.0.0.1:9/api/v10",
    "token": "sandbox-token",
    "witness_url": "ws://127.0.0.1:9/sandbox/witness",
}
ENVIRON = {
    "DISCORD_TOKEN": "real-token",
    "MY_TOKEN": "real-token",
    "PYTHONPATH": "/hostile",
    "PYTHONSAFEPATH": "1",
    "SHARDCTL_SHARDS": "auto",
    "SHARDCTL_DEBUG": "1",
    "LANG": "C",
}
SPEC = {"name": "node:b", "epoch": 7, "index": 1, "shards": [2, 3], "num_shards": 4}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    for record in (RECORD, dataclasses.replace(RECORD, sandbox=Sandbox(guilds=3), shards=9)):
        launch.save_record(record, path)
        assert launch.load_record(path) == record
        assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["fleet.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "bot": {}, "x": 1}']
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.json").write_text(text)
    with pytest.raises(LaunchError):
        launch.load_record(tmp_path / "fleet.json")


def test_the_daemon_runs_apart_from_the_bot() -> None:
    command = launch.broker_command(RECORD, Path("/data/fleet.json"), None, ENVIRON)
    assert command.argv[:3] == ["/py", "-P", "-c"]
    assert command.cwd == "/"
    assert not [key for key in command.env if key.startswith("PYTHON")]
    assert command.env["SHARDCTL_FLEET_FILE"] == "/data/fleet.json"
    assert "SHARDCTL_SHARDS" not in command.env
    assert command.env["SHARDCTL_DEBUG"] == "1"
    folder = launch.daemon_folder()
    assert (folder / "store").is_dir()


def test_a_node_runs_in_the_bots_folder_with_the_authors_python() -> None:
    command = launch.node_command(RECORD, SPEC, None, ENVIRON)
    assert command.argv == ["/py", "-P", "-m", "shard_node"]
    assert command.cwd == "/bot"
    assert command.env["PYTHONPATH"] == "/hostile"
    assert "PYTHONSAFEPATH" not in command.env
    assert command.env["SHARDCTL_NODE"] == "b"
    assert command.env["SHARDCTL_SHARDS"] == "2,3"
    assert command.env["SHARDCTL_EPOCH"] == "7"
    assert command.env["DISCORD_TOKEN"] == "real-token"
    assert "SHARDCTL_WITNESS_URL" not in command.env


def test_on_the_sandbox_nobody_gets_the_real_token() -> None:
    record = dataclasses.replace(RECORD, sandbox=Sandbox(), token_env="MY_TOKEN")
    commands = [
        launch.broker_command(record, Path("/f"), INFO, ENVIRON),
        launch.node_command(record, SPEC, INFO, ENVIRON),
        launch.sandbox_command(record, ENVIRON),
    ]
    for command in commands:
        assert "real-token" not in command.env.values()
    assert commands[1].env["MY_TOKEN"] == commands[1].env["DISCORD_TOKEN"] == "sandbox-token"
    assert commands[1].env["SHARDCTL_API_BASE"] == INFO["rest_url"]


@pytest.mark.parametrize("debug", [False, True])
def test_a_node_is_in_debug_mode_where_the_record_says_so(debug: bool) -> None:
    record = dataclasses.replace(RECORD, debug=debug)
    for environ in ({}, {"SHARDCTL_DEBUG": "1"}):
        env = launch.node_command(record, SPEC, None, environ).env
        assert read_settings(env).debug is debug


def test_a_node_is_told_how_long_it_lingers_and_resumes() -> None:
    env = launch.node_command(RECORD, SPEC, None, {}).env
    assert (env["SHARDCTL_LINGER_S"], read_settings(env).resume_max_s) == ("900.0", 600.0)
    record = dataclasses.replace(RECORD, lifecycle={"linger_s": 0.0, "resume_max_s": 90.0})
    env = launch.node_command(record, SPEC, None, {}).env
    assert (env["SHARDCTL_LINGER_S"], read_settings(env).resume_max_s) == ("0.0", 90.0)


def test_the_sandbox_is_told_its_sizes() -> None:
    record = dataclasses.replace(RECORD, sandbox=Sandbox(guilds=7, identify_window_s=0.5))
    argv = launch.sandbox_command(record, {}, port=4711).argv
    pairs = dict(zip(argv[4::2], argv[5::2], strict=True))
    assert pairs["--guilds"] == "7"
    assert pairs["--identify-window-s"] == "0.5"
    assert pairs["--port"] == "4711"
    assert pairs["--info-file"] == "/run/sandbox.json"
    assert pairs["--state-file"] == "/run/sandbox-state.json"


def test_the_example_bot_is_there() -> None:
    bot = launch.example_bot()
    assert (Path(bot.folder) / bot.target).is_file()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    launch.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        launch.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
