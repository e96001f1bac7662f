"""The real supervisor with children in small: spawned, reaped, restarted, stopped."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardctl.launch import Bot, Record, Sandbox, read_json, save_record
from shardctl.supervisor.journal import last_exit_file, supervisor_file
from tests.support import fake_children
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

TOKEN = "canary-token-of-this-test"
PR_SET_CHILD_SUBREAPER = 36


class Fleet:
    """One supervisor in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.run = folder / "run"
        for path in (self.data, self.data / "logs", self.run, folder / "bot"):
            path.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr = folder / "stderr"

    def start(
        self,
        *wishes: str,
        sandbox: bool = False,
        drain_s: float = 1.0,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        for wish in wishes:
            (self.data / wish).touch()
        record = Record(
            fleet="test",
            endpoint=f"ipc://{self.run}/broker.sock",
            data_dir=str(self.data),
            run_dir=str(self.run),
            bot=Bot(str(self.folder / "bot"), "main.py"),
            python=str(fake_children.install(self.folder, self.data)),
            drain_s=drain_s,
            sandbox=Sandbox() if sandbox else None,
        )
        save_record(record, self.data / "fleet.json")
        environ = os.environ | {
            "DISCORD_TOKEN": TOKEN,
            "PYTHONPATH": "/nowhere",
            "SHARDCTL_SHARDS": "auto",
        }
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shardctl.supervisor", "--foreground",
                 str(self.data / "fleet.json")],
                env=environ, stderr=stderr, preexec_fn=prepare,
            )  # fmt: skip

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.data / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, ev: str) -> list[dict[str, Any]]:
        return [line for line in self.lines("broker-lines") if line["ev"] == ev]

    def children(self) -> dict[str, int]:
        note = read_json(supervisor_file(self.run)) or {}
        return {c["name"]: c["pid"] for c in note.get("children", []) if c["name"] != "display"}

    def wait_up(self, *names: str) -> dict[str, int]:
        expected = {"broker", "node:a", "node:b", *names}
        wait_for("nodes that were reported", lambda: len(self.events("spawned")) >= 2)
        return wait_for("all children", lambda: (c := self.children()).keys() == expected and c)

    def wait_end(self, timeout_s: float = 10.0) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def close(self) -> None:
        children = self.children()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for pid in children.values():
            if b"fake-python" in cmdline(pid):
                os.kill(pid, signal.SIGKILL)


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def gone(pids: dict[str, int]) -> bool:
    return not any(b"fake-python" in cmdline(pid) for pid in pids.values())


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def test_up_and_down(fleet: Fleet) -> None:
    fleet.start()
    children = fleet.wait_up()
    log = fleet.data / "logs" / "node-a.log"
    wait_for("the node's output", lambda: "node speaks" in log.read_text())
    fleet.signal(signal.SIGTERM)
    assert fleet.wait_end() == 0
    assert gone(children)
    assert not supervisor_file(fleet.run).exists()
    assert (read_json(last_exit_file(fleet.data)) or {})["exit_code"] == 0
    assert log.stat().st_mode & 0o777 == 0o600


def test_what_the_children_are_given(fleet: Fleet) -> None:
    fleet.start()
    fleet.wait_up()
    wait_for("three environments", lambda: len(fleet.lines("environments")) == 3)
    by_name = {env["who"]: env for env in fleet.lines("environments")}
    broker, node = by_name["broker"], by_name["b"]
    assert broker["SHARDCTL_FLEET_FILE"] == str(fleet.data / "fleet.json")
    assert "PYTHONPATH" not in broker
    assert node["PYTHONPATH"] == "/nowhere"
    assert node["DISCORD_TOKEN"] == TOKEN
    assert node["SHARDCTL_SHARDS"] == "1"
    assert node["SHARDCTL_NODE_INDEX"] == "1"
    assert node["SHARDCTL_SANDBOX"] == "0"
    assert node["SHARDCTL_API_BASE"] == "https://discord.com/api/v10"
    assert TOKEN.encode() not in b"".join(cmdline(pid) for pid in fleet.children().values())


def test_a_killed_broker_is_back_and_the_nodes_stay(fleet: Fleet) -> None:
    fleet.start()
    before = fleet.wait_up()
    os.kill(before["broker"], signal.SIGKILL)
    start = time.monotonic()
    hello = wait_for("a second hello", lambda: fleet.events("hello")[1:])[0]
    assert time.monotonic() - start < 2.0
    assert {(p["name"], p["pid"]) for p in hello["procs"]} == {
        (name, before[name]) for name in ("node:a", "node:b")
    }
    after = wait_for("the new broker", lambda: (c := fleet.children()).get("broker") and c)
    assert after["broker"] != before["broker"]
    assert after["node:a"] == before["node:a"]


def test_notes_that_cannot_be_written_end_no_fleet(fleet: Fleet) -> None:
    fleet.start()
    before = fleet.wait_up()
    # What a full disk does to a file that is to be replaced, for root too.
    for path in (supervisor_file(fleet.run), last_exit_file(fleet.data)):
        path.unlink(missing_ok=True)
        (path / "in the way").mkdir(parents=True)
    os.kill(before["broker"], signal.SIGKILL)
    wait_for("the next broker", lambda: len(fleet.events("hello")) == 2)
    assert not gone({name: before[name] for name in ("node:a", "node:b")})
    fleet.signal(signal.SIGTERM)
    assert fleet.wait_end() == 0
    said = fleet.stderr.read_text()
    assert said.count("supervisor.json cannot be written") == 1
    assert "Traceback" not in said


def test_a_dead_node_is_reported_with_its_signal_and_last_lines(fleet: Fleet) -> None:
    fleet.start()
    children = fleet.wait_up()
    log = fleet.data / "logs" / "node-a.log"
    wait_for("the node's output", lambda: "node speaks" in log.read_text())
    os.kill(children["node:a"], signal.SIGKILL)
    exited = wait_for("the report", lambda: fleet.events("exited"))[0]
    assert (exited["name"], exited["pid"]) == ("node:a", children["node:a"])
    assert (exited["code"], exited["signal"]) == (None, 9)
    assert exited["tail"] == ["node speaks"]


def test_a_stubborn_node_does_not_hold_up_the_end(fleet: Fleet) -> None:
    fleet.start("stubborn-node", drain_s=0.5)
    children = fleet.wait_up()
    wait_for("nodes that ignore TERM", lambda: len(fleet.lines("environments")) == 3)
    start = time.monotonic()
    fleet.signal(signal.SIGTERM)
    assert fleet.wait_end() == 0
    assert time.monotonic() - start < 4.0
    assert gone(children)
    assert "killed" in fleet.stderr.read_text()


def test_a_broker_that_hangs_at_the_stop_costs_the_nodes_no_farewell(fleet: Fleet) -> None:
    fleet.start("silent-broker", drain_s=8.0)
    children = fleet.wait_up()
    fleet.signal(signal.SIGTERM)
    assert fleet.wait_end(8.0) == 0
    assert gone(children)
    said = fleet.stderr.read_text()
    assert "the broker is killed: it does not answer the stop" in said
    assert "node a#1 ended (signal 15)" in said


def test_a_second_interrupt_ends_at_once(fleet: Fleet) -> None:
    fleet.start("stubborn-node", drain_s=8.0)
    fleet.wait_up()
    wait_for("nodes that ignore TERM", lambda: len(fleet.lines("environments")) == 3)
    fleet.signal(signal.SIGINT)
    wait_for("the stop", lambda: fleet.events("stop"))
    fleet.signal(signal.SIGINT)
    assert fleet.wait_end(5.0) == 0


def test_children_notice_the_death_of_the_supervisor(fleet: Fleet) -> None:
    fleet.start()
    children = fleet.wait_up()
    fleet.signal(signal.SIGKILL)
    fleet.wait_end()
    wait_for("the end of all children", lambda: gone(children))
    assert len(fleet.lines("lifelines")) >= 2  # the nodes; the broker may see its line end first
    assert supervisor_file(fleet.run).exists()  # what the next start finds


def test_a_broker_that_cannot_be_configured(fleet: Fleet) -> None:
    fleet.start("broker-78")
    assert fleet.wait_end() == 78
    assert "the data folder is locked" in fleet.stderr.read_text()
    assert (read_json(last_exit_file(fleet.data)) or {})["lines"] == ["the data folder is locked"]


def test_on_the_sandbox_the_children_get_its_address_and_token(fleet: Fleet) -> None:
    fleet.start(sandbox=True)
    fleet.wait_up("sandbox")
    node = wait_for("a node", lambda: [e for e in fleet.lines("environments") if e["who"] == "a"])[
        0
    ]
    assert node["DISCORD_TOKEN"] == "sandbox-token"
    assert node["SHARDCTL_API_BASE"].startswith("http://127.0.0.1:")
    assert node["SHARDCTL_WITNESS_URL"].startswith("ws://127.0.0.1:")
    assert node["SHARDCTL_SANDBOX"] == "1"


def test_a_dead_sandbox_comes_back_on_its_port(fleet: Fleet) -> None:
    fleet.start(sandbox=True)
    children = fleet.wait_up("sandbox")
    before = read_json(fleet.run / "sandbox.json") or {}
    os.kill(children["sandbox"], signal.SIGKILL)

    def again() -> dict[str, Any] | None:
        info = read_json(fleet.run / "sandbox.json")
        return info if info and info["pid"] != before["pid"] else None

    assert wait_for("the sandbox", again)["rest_url"] == before["rest_url"]


def test_a_sandbox_that_cannot_start(fleet: Fleet) -> None:
    fleet.start("sandbox-1", sandbox=True)
    assert fleet.wait_end() == 1
    assert "port in use" in fleet.stderr.read_text()


def test_a_second_supervisor_is_refused(fleet: Fleet) -> None:
    fleet.start()
    fleet.wait_up()
    first = fleet.process
    fleet.start()
    assert fleet.wait_end() == 77
    assert "runs already" in fleet.stderr.read_text()
    fleet.process = first


@pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")
def test_orphans_are_reaped_as_by_pid_1(fleet: Fleet) -> None:
    libc = ctypes.CDLL(None)
    fleet.start("orphan", prepare=lambda: libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    fleet.wait_up()
    assert fleet.process is not None
    children = Path(f"/proc/{fleet.process.pid}/task/{fleet.process.pid}/children")

    def orphans() -> set[int]:
        return {int(pid) for pid in children.read_text().split()} - set(fleet.children().values())

    adopted = wait_for("adopted orphans", orphans)
    wait_for("their end", lambda: not adopted & orphans())


def test_logs_are_reopened_on_request(fleet: Fleet) -> None:
    fleet.start()
    fleet.wait_up()
    log = fleet.data / "logs" / "supervisor.log"
    log.rename(log.with_suffix(".old"))
    fleet.signal(signal.SIGUSR1)
    wait_for("a new log", log.exists)


def test_the_token_is_in_no_file(fleet: Fleet) -> None:
    fleet.start()
    fleet.wait_up()
    fleet.signal(signal.SIGTERM)
    fleet.wait_end()
    (fleet.data / "environments").unlink()
    for path in fleet.folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
