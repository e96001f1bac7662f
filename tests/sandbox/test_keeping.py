"""The state file: a sandbox that was killed has its commands again."""

from __future__ import annotations

import itertools
import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from shard_node.sandbox import keeping
from shard_node.sandbox.keeping import StateFile
from shard_node.sandbox.registry import Registry
from tests.support.sandbox import WAIT_S, sandbox_process

APP = 77
PING = {"name": "ping", "description": "Answers."}


def registry(app: int = APP, first_id: int = 1) -> Registry:
    return Registry(app, itertools.count(first_id).__next__)


def opened(path: Path, app: int = APP, first_id: int = 1) -> Registry:
    made = registry(app, first_id)
    StateFile(path, made).open()
    return made


def test_each_change_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    one = opened(path)
    ping, _ = one.upsert(None, PING)
    assert path.stat().st_mode & 0o777 == 0o600
    one.overwrite(5, [PING, dict(PING, name="pong")])
    one.edit(None, ping, {"description": "Other."})
    one.delete(5, one.commands(5)[0])
    two = opened(path, first_id=1000)
    assert two.commands(None) == one.commands(None)
    assert two.commands(5) == one.commands(5)
    assert [c["name"] for c in two.slash_commands(5)] == ["ping", "pong"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: {**kept, "application_id": "78"},
        lambda kept: {**kept, "schema": 2},
        lambda kept: {**kept, "scopes": [{"guild_id": "x", "commands": []}]},
        lambda kept: {**kept, "scopes": [{"guild_id": None, "commands": [PING]}]},
        lambda kept: {**kept, "scopes": [{"guild_id": None, "commands": [{"name": 3}]}]},
        lambda kept: {**kept, "scopes": 3},
        lambda _: [],
    ],
)
def test_what_is_not_ours_is_not_used(
    spoil: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.json"
    opened(path).upsert(None, PING)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    assert opened(path).commands(None) == []
    assert f"{path} is not used" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_torn_file_is_not_used(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(data)
    assert opened(path).commands(None) == []


def test_what_is_too_large_is_said_once_and_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    made = opened(path)
    made.upsert(None, PING)
    monkeypatch.setattr(keeping, "STATE_BYTES_MAX", 100)
    made.upsert(None, PING)
    made.upsert(None, PING)
    assert not path.exists()
    assert capsys.readouterr().err.count("the commands are not kept") == 1
    path.write_bytes(b" " * 101)
    opened(path)
    assert "more than 100 bytes" in capsys.readouterr().err


def test_a_folder_that_is_gone_stops_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = opened(tmp_path / "gone" / "state.json")
    made.upsert(None, PING)
    assert made.commands(None)
    assert "not kept" in capsys.readouterr().err


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    (tmp_path / ".state.json.4711").write_text("{")
    opened(path)
    assert list(tmp_path.iterdir()) == []


def _commands(info: dict[str, Any], body: Any = None) -> Any:
    app = json.loads(_ask(info, "/applications/@me"))["id"]
    data = None if body is None else json.dumps(body).encode()
    return json.loads(_ask(info, f"/applications/{app}/commands", data))


def _ask(info: dict[str, Any], path: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(
        info["rest_url"] + path,
        data=data,
        method="GET" if data is None else "PUT",
        headers={"Authorization": f"Bot {info['token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return answer.read()


@pytest.mark.slow
def test_a_killed_sandbox_has_its_commands_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    argv = ("--seed", "3", "--guilds", "1", "--state-file", str(path))
    with sandbox_process(*argv) as info:
        made = _commands(info, [PING])
        os.kill(info["pid"], signal.SIGKILL)
    assert path.exists()
    with sandbox_process(*argv) as info:
        again = _commands(info)
        assert [c["id"] for c in again] == [c["id"] for c in made]
    assert not path.exists()
    path.write_text("{}")
    with sandbox_process("--seed", "3", "--guilds", "1", "--state-file", str(path)) as info:
        assert _commands(info) == []
