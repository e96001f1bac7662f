"""The sandbox as a process: its options, its info file, its ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from shard_node.sandbox.__main__ import main
from tests.support.aio import async_test
from tests.support.sandbox import ROOT, WAIT_S, call, sandbox_process

STOP_S = 3.0


def start(*argv: str, **kwargs: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "shard_node.sandbox", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **kwargs,  # type: ignore[call-overload]
    )


def info_of(path: Path) -> dict[str, str]:
    deadline = time.monotonic() + WAIT_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return json.loads(path.read_text())


def test_wrong_options_name_the_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--shards", "0"])
    assert caught.value.code == 2
    assert "shards is 0; it must lie between 1 and 16384" in capsys.readouterr().err


def test_a_port_in_use_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use" in error
    assert "--port 0" in error


def test_an_info_file_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--info-file", str(tmp_path / "none" / "info.json")]) == 1
    assert "cannot start" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once(number: signal.Signals, tmp_path: Path) -> None:
    info_file = tmp_path / "sandbox.json"
    process = start("--guilds", "3", "--seed", "9", "--info-file", str(info_file))
    info = info_of(info_file)
    assert info_file.stat().st_mode & 0o777 == 0o600
    assert info["pid"] == process.pid
    assert len(call(info, "/guilds")) == 3
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    assert time.monotonic() - began < STOP_S
    assert (process.returncode, err) == (0, "")
    assert out.count("\n") == 1
    assert info["gateway_url"] in out
    assert info["token"] not in out
    assert not info_file.exists()


@pytest.mark.slow
def test_without_an_info_file_it_prints_the_token() -> None:
    process = start("--seed", "9")
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    process.communicate(timeout=WAIT_S)
    assert line.startswith("sandbox: http://127.0.0.1:")
    assert line.split("token ")[1].count(".") == 2


@pytest.mark.slow
def test_it_ends_when_its_lifeline_does(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    info_file = tmp_path / "sandbox.json"
    process = start(
        *("--info-file", str(info_file)),
        pass_fds=[read_end],
        env={**os.environ, "SHARDCTL_LIFELINE_FD": str(read_end)},
    )
    os.close(read_end)
    info_of(info_file)
    assert process.poll() is None
    os.close(write_end)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


@pytest.mark.slow
@async_test
async def test_it_stops_at_once_with_clients_connected() -> None:
    async with aiohttp.ClientSession() as http:
        with sandbox_process("--guilds", "4") as info:
            quiet = await http.ws_connect(info["gateway_url"] + "?v=10&encoding=json")
            witness = await http.ws_connect(info["witness_url"])
            began = time.monotonic()
            os.kill(info["pid"], signal.SIGTERM)
            for ws in (quiet, witness):
                while not ws.closed:
                    await ws.receive(timeout=WAIT_S)
            assert quiet.close_code == 1001
            assert time.monotonic() - began < STOP_S


@pytest.mark.slow
def test_the_same_seed_is_the_same_world() -> None:
    with sandbox_process("--seed", "4", "--guilds", "5") as one:
        first, token = call(one, "/guilds"), one["token"]
    with sandbox_process("--seed", "4", "--guilds", "5") as two:
        assert call(two, "/guilds") == first
        assert two["token"] == token
