"""Programs find the fleet that the command line finds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import shard_node
from shard_node.errors import BrokerUnavailable
from shard_node.peer import discovery
from shardctl import paths
from shardctl.cli.common import chosen_fleet
from shardctl.errors import ShardctlError
from shardctl.supervisor import procs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("SHARDCTL_", "XDG_")):
            monkeypatch.delenv(name)
    for folder in ("bot", "run", "other"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path / "bot")
    return tmp_path / "bot"


def alive(endpoint: str) -> None:
    """As if a broker listened there."""
    path = Path(endpoint.removeprefix("ipc://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def agreed(fleet: str = "") -> str:
    """What both find."""
    wanted = chosen_fleet(fleet or os.environ.get("SHARDCTL_FLEET")).endpoint
    alive(wanted)
    assert discovery.find_endpoint(fleet=fleet) == wanted
    return wanted


@pytest.mark.parametrize(
    ("own", "project", "fleet"),
    [
        (None, None, ""),
        ('fleet = "mine"', None, "mine"),
        ("shards = 4", '[tool.shardctl]\nfleet = "other"', ""),
        (None, '[tool.shardctl]\nfleet = "other"', "other"),
        (None, '[tool.ruff]\nselect = ["E"]', ""),
        (None, "[tool.shardctl.sandbox]\nguilds = 4", ""),
        (None, "not TOML at all", ""),
        (None, "tool = 5", ""),
    ],
)
def test_the_settings_of_the_folder(
    here: Path, own: str | None, project: str | None, fleet: str
) -> None:
    if own is not None:
        (here / "shardctl.toml").write_text(own)
    if project is not None:
        (here / "pyproject.toml").write_text(project)
    name = fleet or paths.fleet_name(here)
    assert agreed() == paths.fleet_paths(name).endpoint


def test_what_comes_first(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "shardctl.toml").write_text('fleet = "settings"')
    assert "/settings/" in agreed()
    monkeypatch.setenv("SHARDCTL_FLEET", "variable")
    assert "/variable/" in agreed()
    assert "/flag/" in agreed("flag")
    monkeypatch.setenv("SHARDCTL_ENDPOINT", "ipc:///given")
    assert discovery.find_endpoint() == "ipc:///given"
    assert "/flag/" in agreed("flag")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shardctl.toml", "fleet = "),
        ("shardctl.toml", 'fleet = "../up"'),
        ("shardctl.toml", "fleet = 5\nx = 1"),
        ("pyproject.toml", "[tool.shardctl]\nfleet = 'A B'"),
        ("pyproject.toml", "shardctl"),
    ],
)
def test_what_the_command_line_refuses_is_refused(here: Path, name: str, text: str) -> None:
    (here / name).write_text(text)
    with pytest.raises(ShardctlError):
        chosen_fleet(None)
    with pytest.raises(BrokerUnavailable, match="cannot") as caught:
        discovery.find_endpoint()
    assert not caught.value.retryable


@pytest.mark.parametrize("name", ["", "../up", "A", "x" * 65, "-a"])
def test_a_name_that_no_fleet_has(here: Path, name: str) -> None:
    assert not paths.is_fleet_name(name)
    with pytest.raises(BrokerUnavailable):
        discovery.endpoint_of(name)


@pytest.mark.parametrize("left_here", ["nothing", "living", "dead"])
@pytest.mark.parametrize("left_there", [True, False])
def test_a_fleet_that_was_started_with_another_runtime_folder(
    here: Path, left_here: str, left_there: bool
) -> None:
    found = paths.fleet_paths("far")
    there = here.parent / "other"
    found.data_dir.mkdir(parents=True)
    found.record_file.write_text(json.dumps({"run_dir": str(there)}))
    note = {"pid": os.getpid(), "started": procs.start_of(os.getpid())}
    if left_there:
        (there / "supervisor.json").write_text(json.dumps(note))
    if left_here != "nothing":
        found.run_dir.mkdir(parents=True)
        pid = note["pid"] if left_here == "living" else 1 << 22
        found.supervisor_file.write_text(json.dumps({**note, "pid": pid}))
    moved = left_there and left_here != "living"
    assert agreed("far") == (f"ipc://{there}/broker.sock" if moved else found.endpoint)


def test_an_endpoint_and_a_fleet_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="not both"):
        shard_node.connect("ipc:///x", fleet="mine")


def test_a_folder_that_is_gone(here: Path) -> None:
    here.rmdir()
    with pytest.raises(BrokerUnavailable, match="gone"):
        discovery.find_endpoint()


def test_the_state_s_folder_is_found_by_the_run_folder(tmp_path: Path) -> None:
    from shard_node.peer.discovery import find_state

    env = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "s")}
    run_dir, data = tmp_path / "run", tmp_path / "s" / "shardctl" / "mybot"
    endpoint = f"ipc://{run_dir}/broker.sock"
    data.mkdir(parents=True)
    assert find_state(endpoint, env) is None
    (data / "fleet.json").write_text(json.dumps({"run_dir": str(run_dir)}))
    assert find_state(endpoint, env) is None
    (data / "state").mkdir()
    assert find_state(endpoint, env) == data / "state"
    assert find_state(endpoint, env, fleet="mybot") == data / "state"
    assert find_state(endpoint, env, fleet="other") is None
    assert find_state("ipc:///elsewhere/broker.sock", env) is None
    assert find_state(endpoint, {**env, "SHARDCTL_STATE_DIR": "/x"}) == Path("/x")
