"""`shardctl invoke`: what it asks for, what it prints, and how it fails."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shard_node import errors, sync
from shard_node.wire.categories import CommandExec, CommandReply, CommandResult
from shard_node.wire.targets import Guild
from shardctl.cli import cli
from shardctl.cli import invoke as module

GUILD = 81384788765712384


class Fleet:
    """Answers instead of a fleet: ``answer`` is returned, or raised."""

    def __init__(self) -> None:
        self.answer: Any = result()
        self.asked: list[CommandExec] = []

    def request(self, target: Any, name: str, body: Any, **how: Any) -> Any:
        assert (target, name) == (Guild(GUILD), "COMMAND_EXEC")
        assert how["timeout_s"] > body.timeout_s
        self.asked.append(body)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @contextlib.contextmanager
    def connect(self, _endpoint: str, _name: str) -> Iterator[Any]:
        yield SimpleNamespace(request=self.request)


def result(*replies: CommandReply, **more: Any) -> CommandResult:
    made = {"node": "b", "shard": 3, "kind": "slash", "command": "ping", "user": 6, "channel": 7}
    return CommandResult(**{**made, "replies": replies, "elapsed_ms": 12.3, **more})


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fleet:
    fleet = Fleet()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sync, "connect", fleet.connect)
    monkeypatch.setattr(module, "_check_guild", lambda *_: None)
    return fleet


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["invoke", str(GUILD), *args])


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        (["ping"], CommandExec(GUILD, "ping", {}, 0, 0, 10.0)),
        (["add", "left=1", "right=-2"], CommandExec(GUILD, "add", {"left": "1", "right": "-2"})),
        (["mod", "ban", "u=@m", "y=a=b"], CommandExec(GUILD, "mod ban", {"u": "@m", "y": "a=b"})),
        (["!say hello = x"], CommandExec(GUILD, "!say hello = x")),
        (["!say", "hello"], CommandExec(GUILD, "!say hello")),
        (["e", "text="], CommandExec(GUILD, "e", {"text": ""})),
        (["x", "--as", "8", "--channel", "9", "--timeout", "2"], CommandExec(GUILD, "x", {}, 8, 9)),
    ],
)  # fmt: skip
def test_words_become_what_is_asked(fleet: Fleet, args: list[str], asked: CommandExec) -> None:
    assert run(*args).exit_code == 0
    (found,) = fleet.asked
    assert (found.command, found.options) == (asked.command, asked.options)
    assert (found.user, found.channel) == (asked.user, asked.channel)
    assert found.timeout_s == (2.0 if "--timeout" in args else 10.0)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["add", "left=1", "left=2"], "'left' is given twice"),
        (["ping", "--as", "me"], "'me' is no id"),
        (["ping", "--channel", "0"], "'0' is no id"),
        (["ping", "--timeout", "0"], "0.1"),
        ([], "COMMAND"),
    ],
)
def test_bad_words_are_refused_before_anything_is_asked(
    fleet: Fleet, args: list[str], words: str
) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert fleet.asked == []


def test_the_answer_is_alone_on_stdout(fleet: Fleet) -> None:
    embed = {"title": "T", "fields": [{"name": "n", "value": "v"}], "footer": {"text": "f"}}
    row = {"type": 1, "components": [{"type": 2, "label": "Press"}, {"type": 3, "custom_id": "c"}]}
    fleet.answer = result(
        CommandReply("pong", (embed,), False, (row,), ("a.png",)), CommandReply("psst", (), True)
    )
    done = run("ping")
    assert done.exit_code == 0
    assert (
        done.stdout == "pong\nT\nn: v\nf\n[component: Press]\n[component: c]\n[file: a.png]\npsst\n"
    )
    assert done.stderr.splitlines() == [
        "/ping on node b, shard 3, 12 ms",
        "only the user would see this:",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "gave no answer"),
        ({"deferred": True}, "promised an answer and gave none"),
        ({"finished": False}, "has answered and goes on"),
    ],
)
def test_what_is_odd_about_an_answer_is_said(
    fleet: Fleet, change: dict[str, Any], words: str
) -> None:
    fleet.answer = result(**change)
    done = run("ping")
    assert (done.exit_code, done.stdout) == (0, "")
    assert words in done.stderr


def test_an_answer_of_the_error_handler_is_a_failure(fleet: Fleet) -> None:
    fleet.answer = result(CommandReply("sorry"), error="KeyError: 'k'")
    done = run("ping")
    assert (done.exit_code, done.stdout) == (1, "sorry\n")
    assert "the command failed (KeyError: 'k'); this is what" in done.stderr


def test_json_has_ids_as_text_and_raw_seconds(fleet: Fleet) -> None:
    fleet.answer = result(CommandReply("pong"))
    found = json.loads(run("ping", "--json").stdout)
    assert found == {
        "schema": 1, "guild": str(GUILD), "node": "b", "shard": 3, "kind": "slash",
        "command": "ping", "user": "6", "channel": "7", "error": None, "finished": True,
        "deferred": False, "elapsed_s": 0.0123,
        "replies": [
            {"content": "pong", "embeds": [], "ephemeral": False, "components": [], "files": []}
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "exit_code", "words"),
    [
        (
            errors.RemoteError("COMMAND_EXEC: KeyError: 'k'", type_name="KeyError"),
            "E_COMMAND_FAILED", 1, ["the command failed: KeyError: 'k'", "shardctl logs"],
        ),
        (
            errors.RemoteError("COMMAND_EXEC: no command", code="E_NOT_FOUND", hint="near: x"),
            "E_NOT_FOUND", 4, ["no command", "hint: near: x"],
        ),
        (errors.RemoteError("C: no left", code="E_BAD_OPTION"), "E_BAD_OPTION", 2, ["no left"]),
        (errors.RemoteError("C: modal", code="E_NEEDS_A_USER"), "E_NEEDS_A_USER", 77, ["modal"]),
        (errors.RemoteError("C: slow", code="E_TIMEOUT"), "E_TIMEOUT", 75, ["slow"]),
        (errors.RequestTimeout("COMMAND_EXEC: no answer"), "E_TIMEOUT", 75, ["no answer"]),
        (errors.Undeliverable("COMMAND_EXEC: gone"), "E_UNREACHABLE", 75, ["gone"]),
        (errors.BrokerUnavailable("no broker"), "E_NO_BROKER", 69, ["no broker."]),
    ],
)  # fmt: skip
def test_failures_have_their_code_and_exit_status(
    fleet: Fleet, error: Exception, code: str, exit_code: int, words: list[str]
) -> None:
    fleet.answer = error
    done = run("ping")
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert done.stderr.startswith(f"error[{code}]: ")
    for word in words:
        assert word in done.stderr


def test_without_a_fleet_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SHARDCTL_FLEET", raising=False)
    done = run("ping")
    assert done.exit_code == 69
    assert "does not run" in done.stderr
