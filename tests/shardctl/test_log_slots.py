"""Two living processes of a node: each writes into a log of its own, and both are shown."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from shardctl.cli import cli
from shardctl.follow import newest_log, process_of
from shardctl.launch import Command
from shardctl.supervisor.children import Children
from shardctl.supervisor.effects import BROKER
from tests.support.waiting import wait_for

SPEAKS = "import sys; print('I am', sys.argv[1], flush=True); sys.stdin.read()"
WAITS = f"{SPEAKS}; import time; time.sleep(60)"


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    made = Children(tmp_path)
    yield made
    for name in ("node:a", BROKER):
        for epoch in range(10):
            made.signal(name, epoch, "KILL")
    wait_for("their ends", lambda: not [*made.reap()] and not made.known())
    made.close()


def spawn(children: Children, epoch: int, code: str = WAITS, name: str = "node:a") -> None:
    argv = [sys.executable, "-I", "-c", code, f"{name}#{epoch}"]
    children.spawn(name, epoch, Command(argv, dict(os.environ), "/"))


def end(children: Children, epoch: int) -> tuple[str, ...]:
    """Kill one; the last lines that are told of it."""
    children.signal("node:a", epoch, "KILL")
    ended = wait_for("the end", lambda: next(iter(children.reap()), None))
    assert ended.epoch == epoch
    return tuple(ended.end.tail)


def words(log: Path) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.removeprefix("I am node:") for line in lines if line.startswith("I am")]


def test_a_second_living_process_has_a_log_of_its_own(children: Children, tmp_path: Path) -> None:
    first, second = tmp_path / "node-a.log", tmp_path / "node-a.2.log"
    spawn(children, 1)
    spawn(children, 2)
    wait_for("both", lambda: (words(first), words(second)) == (["a#1"], ["a#2"]))
    assert second.stat().st_mode & 0o777 == 0o600
    # What is told of one is its own.
    assert end(children, 1) == ("I am node:a#1",)
    spawn(children, 3)
    wait_for("the free log", lambda: words(first) == ["a#1", "a#3"])
    assert end(children, 2) == ("I am node:a#2",)
    assert words(second) == ["a#2"]
    spawn(children, 4)
    spawn(children, 5)
    wait_for("a third", lambda: words(tmp_path / "node-a.3.log") == ["a#5"])
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [
        "node-a.2.log",
        "node-a.3.log",
        "node-a.log",
    ]


def test_the_broker_keeps_its_name(children: Children, tmp_path: Path) -> None:
    spawn(children, 0, name=BROKER)
    assert [path.name for path in tmp_path.iterdir()] == ["broker-stderr.log"]


def test_whose_log_is_the_newest(tmp_path: Path) -> None:
    assert newest_log(tmp_path, "node-a") == tmp_path / "node-a.log"
    now = time.time()
    for age, name in enumerate(("node-a.2.log", "node-a.log", "node-aa.log", "node-a-b.log")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    assert newest_log(tmp_path, "node-a") == tmp_path / "node-a.2.log"
    os.utime(tmp_path / "node-a.log", (now + 1, now + 1))
    assert newest_log(tmp_path, "node-a") == tmp_path / "node-a.log"
    assert [process_of(path) for path in sorted(tmp_path.iterdir())] == [
        "node-a-b", "node-a", "node-a", "node-aa",
    ]  # fmt: skip


def test_logs_of_a_node_are_all_of_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "shardctl" / "bot" / "logs"
    folder.mkdir(parents=True)
    (folder / "node-a.log").write_text("2026-01-02 03:04:05 one\n2026-01-02 03:04:07 three\n")
    (folder / "node-a.2.log").write_text("2026-01-02 03:04:06 two\n")
    (folder / "node-b.log").write_text("2026-01-02 03:04:06 b\n")
    done = CliRunner().invoke(cli, ["logs", "--node", "a", "--fleet", "bot"])
    assert done.output.splitlines() == [
        "node-a | 2026-01-02 03:04:05 one",
        "node-a.2 | 2026-01-02 03:04:06 two",
        "node-a | 2026-01-02 03:04:07 three",
    ]
    done = CliRunner().invoke(cli, ["logs", "--node", "b", "--fleet", "bot"])
    assert done.output == "2026-01-02 03:04:06 b\n"
    done = CliRunner().invoke(cli, ["logs", "--node", "c", "--fleet", "bot"])
    assert done.exit_code == 4
    assert "There are: node-a, node-b." in done.stderr
