"""The command line without a fleet: help, usage, errors, the plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from shard_node.journal.found import FOLDER
from shard_node.journal.place import Place
from shard_node.journal.records import Head
from shard_node.journal.story import Story
from shard_node.journal.writer import ShardJournal
from shard_node.shared.clock import this_boot
from shard_node.wire.identity import application_key
from shardctl.cli import COMMANDS, cli
from shardctl.cli.plan import Gateway, make_plan, print_plan
from shardctl.errors import ShardctlError
from shardctl.launch import Bot, Record, Sandbox
from tests.support.journals import StillLoop, session


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("SHARDCTL_", "DISCORD_", "XDG_")):
            monkeypatch.delenv(name)
    (tmp_path / "bot").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "bot")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "bot"


def run(*args: str, **extra: Any) -> Result:
    return CliRunner().invoke(cli, args, **extra)


def test_the_help_is_short_and_has_examples() -> None:
    done = run("--help")
    assert done.exit_code == 0
    assert len(done.output.splitlines()) <= 50
    assert "shardctl start --sandbox" in done.output
    for name in COMMANDS:
        assert f"  {name} " in done.output


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sandbox"])
def test_every_command_says_what_its_options_are(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: cli {name}")


@pytest.mark.parametrize("args", [(), ("sandbox",)])
def test_without_a_command_there_is_the_help_and_nothing_else(args: tuple[str, ...]) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert done.stderr == run(*args, "--help").output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("where", "abc"), "'abc' is not a whole number"),
        (("respawn", "x"), "'x' is not a whole number"),
        (("status", "--watch", "x"), "'x' is not a number"),
        (("status", "--top", "0"), "0 is less than 1"),
    ],
)
def test_numbers_are_asked_for_in_plain_words(args: tuple[str, ...], said: str) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "range" not in done.stderr.splitlines()[0]


def test_an_option_names_its_variable() -> None:
    text = " ".join(run("start", "--help").output.split())
    for name in ("SHARDS", "NODES", "SANDBOX", "FLEET", "FOREGROUND", "IDENTIFY_WINDOW_S"):
        assert f"SHARDCTL_{name}" in text


def test_an_unknown_command_is_guessed() -> None:
    done = run("strat")
    assert done.exit_code == 2
    assert "Did you mean 'state' or 'start'?" in done.stderr
    assert done.stdout == ""


def test_a_usage_error_names_the_next_command_to_type(here: Path) -> None:
    done = run("status", "--sort", "colour")
    assert done.exit_code == 2
    assert done.stderr.startswith("error[E_USAGE]: ")
    assert "status --help" in done.stderr


def test_a_bug_of_ours_is_70_without_a_traceback(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError(os.environ["DISCORD_TOKEN"])

    monkeypatch.setenv("DISCORD_TOKEN", "canary-token")
    monkeypatch.setattr("shardctl.cli.version.version", broken)
    done = run("version")
    assert done.exit_code == 70
    assert "Traceback" not in done.stderr
    report = Path(done.stderr.split("details are in ")[1].split("\n")[0].rstrip("."))
    assert "ZeroDivisionError: [token]" in report.read_text()
    assert report.stat().st_mode & 0o077 == 0
    report.unlink()
    monkeypatch.setenv("SHARDCTL_DEBUG", "1")
    assert "Traceback" in run("version").stderr


def test_an_error_of_ours_keeps_its_exit_code(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def refused() -> None:
        raise ShardctlError("no.", consequence="so\nit is", hint="a\nb", code="E_X", exit_code=75)

    monkeypatch.setattr("shardctl.cli.version.version", refused)
    done = run("version")
    assert done.exit_code == 75
    assert done.stderr == "error[E_X]: no.\n  so\n  it is\n  hint: a\n  hint: b\n"


def test_the_version(here: Path) -> None:
    assert run("version").output.startswith("shardctl ")
    assert run("--version").output == run("version").output.split(" (")[0] + "\n"
    found = json.loads(run("version", "--json").output)
    assert found["schema"] == 1
    assert found["packages"]["disnake"]


@pytest.mark.parametrize(
    "args",
    [["status"], ["respawn", "1"], ["where", "1"], ["stop"], ["wait", "op-1"], ["operations"]],
)
def test_without_a_fleet_the_exit_code_is_69(here: Path, args: list[str]) -> None:
    done = run(*args)
    assert done.exit_code == 69
    assert "not running -> `shardctl start`" in done.stderr
    assert "--fleet NAME" in done.stderr


def test_a_start_without_a_bot(here: Path) -> None:
    done = run("start")
    assert done.exit_code == 4
    assert "shardctl start --sandbox" in done.stderr


def test_a_start_without_a_token_names_every_place(here: Path) -> None:
    (here / "main.py").write_text("")
    done = run("start")
    assert done.exit_code == 78
    for word in ("DISCORD_TOKEN", ".env", "token_file", "CREDENTIALS_DIRECTORY"):
        assert word in done.stderr


def test_there_is_no_flag_for_the_token(here: Path) -> None:
    assert run("start", "--token", "x").exit_code == 2


def test_sizes_of_the_sandbox_need_the_sandbox(here: Path) -> None:
    (here / "main.py").write_text("")
    done = run("start", "--guilds", "3")
    assert done.exit_code == 2
    assert "needs --sandbox" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "65537"])
def test_a_number_of_shards_that_cannot_be(here: Path, value: str) -> None:
    done = run("start", "--sandbox", "--shards", value)
    assert done.exit_code == 2
    assert "neither 'auto' nor a whole number" in done.stderr


def test_flag_before_variable_before_file_before_default(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shards(*args: str) -> str:
        plan = run("start", "--sandbox", "--dry-run", *args).output
        return next(line for line in plan.splitlines() if line.startswith("shards")).split()[1]

    assert shards() == "4"
    (here / "shardctl.toml").write_text("shards = 5\n")
    assert shards() == "5"
    monkeypatch.setenv("SHARDCTL_SHARDS", "6")
    assert shards() == "6"
    assert shards("--shards", "7") == "7"


def test_debug_mode_is_off_until_somebody_turns_it_on(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[Record] = []
    monkeypatch.setattr("shardctl.cli.plan.print_plan", lambda record, _: records.append(record))

    def debug(*args: str) -> bool:
        assert run("start", "--sandbox", "--dry-run", *args).exit_code == 0
        return records[-1].debug

    assert not debug()
    assert debug("--debug")
    (here / "shardctl.toml").write_text("debug = true\n")
    assert debug()
    monkeypatch.setenv("SHARDCTL_DEBUG", "0")
    assert not debug()
    (here / "shardctl.toml").write_text("")
    monkeypatch.setenv("SHARDCTL_DEBUG", "1")
    assert debug()


def test_a_dry_run_makes_nothing(here: Path) -> None:
    done = run("start", "--sandbox", "--dry-run", "--shards", "16", "--max-concurrency", "4")
    assert done.exit_code == 0
    assert "15 s at least" in done.output
    assert not (here.parent / "state").exists()


def test_a_bad_file_is_78(here: Path) -> None:
    (here / "main.py").write_text("")
    (here / "shardctl.toml").write_text("shards = 0\n")
    for command in (["start"], ["status"]):
        done = run(*command)
        assert done.exit_code == 78
        assert "shardctl.toml:1: shards = 0" in done.stderr


def test_a_port_in_use_is_said_before_anything_starts(here: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (here / "shardctl.toml").write_text(f"[sandbox]\nport = {port}\n")
        done = run("start", "--sandbox")
    assert done.exit_code == 1
    assert f"port {port}" in done.stderr


def test_the_plan_of_a_real_fleet() -> None:
    record = Record("f", "e", "d", "r", Bot("/b", "main.py"), nodes_max=3)
    plan = make_plan(record, Gateway(48, 16, 1000, 900, 0.0))
    assert (plan.shards, plan.nodes, plan.keys, plan.seconds) == (48, 3, 16, 10.0)
    small = make_plan(record, Gateway(1, 1, 1000, 900, 0.0))
    assert (small.shards, small.nodes, small.keys, small.seconds) == (1, 1, 1, 0.0)
    some = make_plan(record, Gateway(48, 16, 1000, 900, 0.0), {48: set(range(40)), 8: {1}})
    assert (some.shards, some.resumed, some.starts, some.seconds) == (48, 40, 8, 0.0)
    # Shards 0 and 16 have the same key.
    two = make_plan(record, Gateway(48, 16, 1000, 900, 0.0), {48: set(range(48)) - {0, 16}})
    assert (two.starts, two.seconds) == (2, 5.0)
    grown = make_plan(record, Gateway(50, 16, 1000, 900, 0.0), {48: {1}})
    assert (grown.shards, grown.resumed) == (48, 1)
    on_sandbox = Record("f", "e", "d", "r", Bot("/b", "main.py"), sandbox=Sandbox())
    assert make_plan(on_sandbox, Gateway(4, 1, 1000, 900, 0.0)).nodes == 2


def test_the_plan_counts_what_the_last_run_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A journal on disk, of this boot and this token; one shard is over the budget."""
    base, token = "http://127.0.0.1:9/api/v10", "a-token"
    monkeypatch.setattr("shardctl.cli.plan.ask_gateway", lambda *_: Gateway(4, 1, 1000, 2, 0.0))
    record = Record("f", "e", str(tmp_path), "r", Bot("/b", "main.py"), nodes_max=3, api_base=base)
    place = Place(tmp_path / FOLDER, 4, this_boot() or "", application_key(base, token))
    head = Head(place.boot_id, place.application, 4, 1, "a", 1, os.getpid(), 0, 0.0)
    journal = ShardJournal(place.next_segment(1, "a", 1), head, Story(), StillLoop())
    journal.session(0, session())
    journal.close()
    print_plan(record, {"DISCORD_TOKEN": token})
    printed = capsys.readouterr()
    assert "resumed   1 shard by their journals; the other 3 IDENTIFY\n" in printed.out
    assert "needs 3 session starts, 2 remain" in printed.out
    assert "needs 3 session starts, 2 remain" in printed.err
    print_plan(record, {"DISCORD_TOKEN": "another"})
    assert "resumed" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['shardctl', '--help']\n"
        "import shardctl.__main__ as m\n"
        "try:\n m.main()\nexcept SystemExit:\n pass\n"
        "print(*sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stderr.split()) & {"zmq", "rich", "msgspec", "aiohttp", "asyncio"} == set()
