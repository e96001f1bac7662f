"""`shardctl sandbox ...` against a sandbox in another process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shardctl.cli import cli
from tests.support.sandbox import ROOT, sandbox_process
from tests.support.sandbox_client import Box, in_sandbox

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def info() -> Iterator[dict[str, Any]]:
    with sandbox_process("--guilds", "4", "--shards", "2", "--identify-window-s", "0") as found:
        yield found


@pytest.fixture
def run(
    info: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("SHARDCTL_SANDBOX_URL", info["control_url"])

    def call(*argv: str) -> tuple[int, str, str]:
        code = 0
        try:
            cli.main(["sandbox", *argv], "shardctl")
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_info(run: Run, info: dict[str, Any]) -> None:
    code, out, _ = run("info", "--json")
    answer = json.loads(out)
    assert code == 0
    assert {k: answer[k] for k in ("rest_url", "gateway_url", "token")} == {
        k: info[k] for k in ("rest_url", "gateway_url", "token")
    }
    assert answer["schema"] == 1
    assert info["rest_url"] in run("info")[1]


def test_guilds(run: Run) -> None:
    _, out, _ = run("guilds", "--json")
    guilds = json.loads(out)
    assert len(guilds) >= 4
    assert set(guilds[0]) == {"id", "name", "shard", "members"}
    assert all((int(g["id"]) >> 22) % 2 == g["shard"] for g in guilds)
    assert guilds[0]["name"] in run("guilds")[1]


def test_play_and_audit(run: Run) -> None:
    run("audit", "--reset")
    assert run("play", "role", "--count", "3")[:2] == (0, "role: 3 sent\n")
    report = json.loads(run("audit", "--json", "--reset")[1])
    assert (report["schema"], report["events_sent"]) == (1, 3)
    assert json.loads(run("audit", "--json")[1])["events_sent"] == 0
    assert run("audit")[1].startswith("nothing was sent yet\n")


@pytest.mark.slow
def test_audit_settles(run: Run) -> None:
    run("audit", "--reset")
    run("play", "role")
    assert json.loads(run("audit", "--json")[1])["events_pending"] == 1
    report = json.loads(run("audit", "--json", "--settle", "20")[1])
    assert (report["events_pending"], report["events_handled_never"]) == (0, 1)


def test_load_waits_and_says_so_in_lines(run: Run) -> None:
    run("audit", "--reset")
    code, out, err = run("load", "--events-per-s", "200", "--seconds", "0.5")
    assert (code, out[:33]) == (0, "0 interactions and 100 events in ")
    assert len(err.splitlines()) == 2
    assert json.loads(run("audit", "--json")[1])["events_sent"] == 100
    state = json.loads(run("load", "--events-per-s", "10", "--seconds", "0.2", "--json")[1])
    assert (state["events_sent"], state["done"]) == (2, True)


def test_usage_is_2_unknown_is_4_nothing_to_play_is_1(run: Run) -> None:
    assert run("play", "dance")[0] == 2
    assert run("load", "--seconds", "1")[0] == 2
    assert run("load", "--seconds", "1", "--events-per-s", "1e9")[0] == 2
    assert run("remove-guilds", "1", "--guild", "5")[0] == 2
    assert run("play", "slash", "--option", "x")[0] == 2
    code, _, err = run("play", "slash", "--guild", "5")
    assert code == 4
    assert "E_NOT_FOUND" in err
    assert "there are: " in err
    code, _, err = run("drop", "--shard", "7")
    assert (code, "there are: none" in err) == (4, True)
    code, _, err = run("play", "slash")
    assert (code, "no slash command" in err, "hint:" in err) == (1, True, True)
    code, _, err = run("load", "--seconds", "1", "--interactions-per-s", "1")
    assert (code, "no slash command" in err) == (1, True)


def test_trouble_that_meets_nobody_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "shardctl.cli.sandbox_link.SandboxLink.post", lambda *_: {"kind": "x", "sessions": []}
    )
    for verb in (("invalid-session",), ("close", "4000"), ("drop",)):
        code, out, err = run(*verb)
        assert (code, out) == (1, "")
        assert "no session is connected" in err
    assert run("deaf", "--off")[0] == 0


@pytest.mark.slow
def test_ctrl_c_cancels_the_load(info: dict[str, Any]) -> None:
    process = subprocess.Popen(
        [*(sys.executable, "-m", "shardctl", "sandbox", "load", "--events-per-s", "20"),
         *("--seconds", "600", "--url", info["control_url"])],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert process.stderr is not None
    load_id = process.stderr.readline().split()[1].rstrip(":")
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "the load is cancelled after " in err
    assert err.count("interrupted") == 1
    with urllib.request.urlopen(f"{info['control_url']}/load/{load_id}") as answer:
        state = json.loads(answer.read())
    assert (state["done"], state["cancelled"]) == (True, True)


@pytest.mark.slow
def test_a_sandbox_that_ends_under_a_load(run: Run) -> None:
    with sandbox_process("--guilds", "1") as other:
        process = subprocess.Popen(
            [*(sys.executable, "-m", "shardctl", "sandbox", "load", "--events-per-s", "20"),
             *("--seconds", "600", "--url", other["control_url"])],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )  # fmt: skip
        assert process.stderr is not None
        process.stderr.readline()
        os.kill(other["pid"], signal.SIGKILL)
        err = process.communicate(timeout=20)[1]
    assert process.returncode == 69
    assert "the sandbox ended during the load" in err
    assert "By then it had sent " in err
    assert "Nothing was done" not in err


def test_no_summary_in_the_help_is_cut(run: Run) -> None:
    assert "..." not in run("--help")[1].replace("[ARGS]...", "")


@pytest.mark.slow
def test_run_on_a_port_in_use(info: dict[str, Any]) -> None:
    port = info["rest_url"].split(":")[2].split("/")[0]
    done = subprocess.run(
        [sys.executable, "-m", "shardctl", "sandbox", "run", "--port", port],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error[E_PORT]: port {port} on 127.0.0.1 is in use")
    assert "hint: shardctl sandbox run --port 0" in done.stderr


def test_guilds_come_and_go(run: Run) -> None:
    code, out, _ = run("add-guilds", "2")
    added = out.split()
    assert (code, len(added)) == (0, 2)
    assert run("remove-guilds", "--guild", added[0])[1].split() == added[:1]
    assert run("remove-guilds", "1")[1].split() == added[1:]
    assert run("remove-guilds", "--guild", added[0])[0] == 4


def test_rest_and_plan_troubles(run: Run) -> None:
    assert run("recommend-shards", "8")[1] == "recommend_shards: shards 8\n"
    assert json.loads(run("recommend-shards", "2", "--json")[1])["shards"] == 2
    assert run("storm-429", "--count", "1", "--retry-after-s", "0.1")[0] == 0
    assert run("storm-429", "--off")[0] == 0
    assert run("dead-resume-url")[0] == 0
    assert run("dead-resume-url", "--off")[0] == 0
    assert run("refuse-resume", "--count", "2")[0] == 0
    assert run("refuse-resume", "--off")[0] == 0
    assert json.loads(run("budget", "500", "--json")[1])["remaining"] == 500


@in_sandbox(shards=2)
async def test_connection_troubles(box: Box) -> None:
    """Each verb hits the session that it names; the client sees what it stands for."""
    url = box.state.info()["control_url"]

    async def shardctl(*argv: str) -> str:
        import asyncio

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shardctl", "sandbox", *argv, "--url", url),
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        return (await process.communicate())[0].decode()

    async with box.gateway(shard=(1, 2)) as client:
        assert await shardctl("reconnect", "--shard", "1") == "reconnect: shard 1 of 2\n"
        assert json.loads((await client._socket.receive()).data)["op"] == 7
        for verb in ("deaf --event MESSAGE_CREATE", "delay 0.1", "no-ack", "heartbeat"):
            assert await shardctl(*verb.split()) == f"{verb.split()[0].replace('-', '_')}" + (
                ": shard 1 of 2\n"
            )
        await shardctl("invalid-session", "--resumable")
        ops = []
        while not ops or ops[-1] != 9:
            ops.append(json.loads((await client._socket.receive()).data)["op"])
        assert ops == [1, 9]
    async with box.gateway(shard=(0, 2)) as client:
        assert "shard 0 of 2" in await shardctl("close", "4000", "--shard", "0")
        message = await client._socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4000)
    async with box.gateway(shard=(0, 2)) as client:
        assert "shard 0 of 2" in await shardctl("drop", "--shard", "0")
        message = await client._socket.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


test_connection_troubles = pytest.mark.slow(test_connection_troubles)


def test_the_fleets_sandbox_is_found(
    info: dict[str, Any],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("SHARDCTL_SANDBOX_URL")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code, _, err = run("info", "--fleet", "mine")
    assert (code, "E_NO_SANDBOX" in err) == (69, True)
    from shardctl.paths import fleet_paths

    file = fleet_paths("mine").sandbox_file
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(info))
    assert json.loads(run("info", "--json", "--fleet", "mine")[1])["token"] == info["token"]
    file.write_text("{")
    assert run("info", "--fleet", "mine")[0] == 69


def test_nobody_there_is_69(run: Run) -> None:
    code, _, err = run("audit", "--url", "127.0.0.1:1")
    assert code == 69
    assert "http://127.0.0.1:1/sandbox" in err
    assert run("audit", "--url", "ftp://x")[0] == 2


@pytest.mark.slow
def test_run_serves_until_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "shardctl", "sandbox", "run", "--guilds", "3", "--seed", "9"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert "3 guilds" in greeting
        assert "ws://127.0.0.1:" in greeting
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def test_the_help_loads_no_library_of_the_sandbox() -> None:
    program = (
        "import sys; from shardctl.cli import cli\n"
        "try: cli.main(['sandbox', '--help'])\n"
        "except SystemExit: pass\n"
        "bad = {'disnake', 'aiohttp', 'rich', 'zmq', 'shard_node.sandbox'} & set(sys.modules)\n"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr
