"""Config, folders, Discord's answer, the supervisor's lines, the log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker.config import Config, read_config, read_record
from broker.core.balance import Balancing
from broker.core.events import (
    Exited,
    GatewayFailed,
    GatewayInfo,
    Spawned,
    SpawnFailed,
    StopAsked,
    SupervisorHello,
)
from broker.core.limits import LifecycleLimits
from broker.errors import ByHand, ConfigError, EndpointError, FolderError, LockedError
from broker.ports import gateway_info
from broker.ports import log as log_port
from broker.ports.folders import (
    check_endpoint,
    check_folder,
    file_system_type,
    take_lock,
)
from broker.ports.gateway_info import fetch, read_answer
from broker.ports.supervisor import LineError, SupervisorPort, read_line
from broker.ports.wake import Wake
from shard_node.wire.identity import application_key
from tests.support.broker_rig import TOKEN, FakeApi

RECORD: dict[str, Any] = {
    "schema": 1,
    "fleet": "f",
    "endpoint": "ipc:///run/x.sock",
    "data_dir": "/data",
    "run_dir": "/run",
}

# --- config


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    ours, theirs = socket.socketpair()
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(RECORD | {"bot": {"folder": "/x"}, "unknown": 1}))
    yield {
        "SHARDCTL_FLEET_FILE": str(path),
        "SHARDCTL_SUPERVISOR_FD": str(theirs.fileno()),
        "DISCORD_TOKEN": TOKEN,
    }
    ours.close()
    theirs.close()


def test_a_config_is_read_and_keeps_its_token_to_itself(environ: dict[str, str]) -> None:
    config = read_config(environ | {"SHARDCTL_API_BASE": "http://127.0.0.1:1/api/v10/"})
    assert config.api_base == "http://127.0.0.1:1/api/v10"
    assert config.token == TOKEN
    assert TOKEN not in repr(config)
    settings = config.settings()
    assert (settings.shards, settings.nodes, settings.sandbox) == (None, None, False)
    assert settings.nodes_max >= 1
    assert settings.boot_id
    assert TOKEN not in repr(settings)


def test_the_sandboxs_own_window_counts(environ: dict[str, str], tmp_path: Path) -> None:
    record = RECORD | {"sandbox": {"guilds": 3, "identify_window_s": 0.5}, "shards": 3}
    (tmp_path / "fleet.json").write_text(json.dumps(record))
    settings = read_config(environ).settings()
    assert (settings.sandbox, settings.identify_window_s, settings.shards) == (True, 0.5, 3)


@pytest.mark.parametrize("missing", ["SHARDCTL_FLEET_FILE", "SHARDCTL_SUPERVISOR_FD"])
def test_without_a_supervisor_it_is_by_hand(environ: dict[str, str], missing: str) -> None:
    del environ[missing]
    with pytest.raises(ByHand) as caught:
        read_config(environ)
    assert "shardctl start" in caught.value.text()


def test_times_of_processes_and_the_balance_reach_the_core(tmp_path: Path) -> None:
    record = RECORD | {
        "lifecycle": {
            "ready_s": 400,
            "release_s": 2,
            "linger_s": 0,
            "resume_max_s": 90.5,
            "deaf": False,
        },
        "balance": {"auto": True, "every_s": 300},
    }
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(record))
    found = Config(read_record(path), "t", "http://x", 0, None).settings()
    limits = found.lifecycle
    assert (limits.ready_s, limits.ready_max_s, limits.release_s) == (400, 400, 2)
    assert (limits.linger_s, limits.resume_max_s, limits.hang_s) == (0, 90.5, 15)
    assert found.balancing == Balancing(auto=True, every_s=300)
    path.write_text(json.dumps(RECORD))
    found = Config(read_record(path), "t", "http://x", 0, None).settings()
    assert (found.lifecycle, found.balancing) == (LifecycleLimits(), Balancing())


def test_a_closed_descriptor_is_by_hand(environ: dict[str, str]) -> None:
    with pytest.raises(ByHand):
        read_config(environ | {"SHARDCTL_SUPERVISOR_FD": "9999"})


def test_no_token_is_an_error(environ: dict[str, str]) -> None:
    del environ["DISCORD_TOKEN"]
    with pytest.raises(ConfigError, match="DISCORD_TOKEN"):
        read_config(environ)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shards": "many"}, "key shards"),
        ({"nodes": -1}, "key nodes"),
        ({"drain_s": None}, "key drain_s"),
        ({"identify_window_s": 0}, "key identify_window_s"),
        ({"endpoint": "tcp://*:1"}, "key endpoint"),
        ({"data_dir": "here"}, "key data_dir"),
        ({"api_base": "ftp://x"}, "key api_base"),
        ({"fleet": ""}, "key fleet"),
        ({"lifecycle": {"ready_s": 0}}, "key lifecycle"),
        ({"lifecycle": {"linger_s": -1}}, "key lifecycle"),
        ({"lifecycle": {"linger": "15m"}}, "key lifecycle"),
        ({"balance": {"every_s": 59}}, "key balance"),
    ],
)
def test_a_bad_record_names_file_and_key(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(RECORD | change))
    with pytest.raises(ConfigError) as caught:
        read_record(path)
    assert caught.value.exit_code == 78
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
def test_a_record_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError):
        read_record(path)
    with pytest.raises(ConfigError):
        read_record(tmp_path / "missing.json")


def test_an_application_is_its_api_and_the_tokens_public_part() -> None:
    key = application_key("https://a", "MTIz.x.y")
    assert key == application_key("https://a", "MTIz.other.z")
    assert key != application_key("https://b", "MTIz.x.y")
    assert key != application_key("https://a", "OTk5.x.y")
    assert "MTIz" not in key


# --- folders

MOUNTS = """\
22 28 0:21 / /proc rw - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 28 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/me/my\\040disk rw - ext4 /dev/vdb rw
32 28 0:42 / /mnt rw - ext4 /dev/vdc rw
33 28 0:43 / /mnt rw - cifs //server/x rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me", "nfs4"),
        ("/home/me/my disk/x", "ext4"),
        ("/homes", "ext4"),
        ("/mnt/x", "cifs"),
    ],
)
def test_the_file_system_under_a_folder(folder: str, kind: str) -> None:
    assert file_system_type(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr("broker.ports.folders.MOUNTS", mounts)
    mounts.write_text("1 1 0:1 / / rw - nfs4 server:/ rw\n")
    with pytest.raises(FolderError, match="network file system \\(nfs4\\)"):
        check_folder(tmp_path, "data", local=True)
    check_folder(tmp_path, "run", local=False)
    mounts.write_text("1 1 0:1 / / rw - ext4 /dev/vda rw\n")
    check_folder(tmp_path, "data", local=True)


def test_folders_that_are_not_ours_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FolderError, match="No such file"):
        check_folder(tmp_path / "missing", "data", local=True)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FolderError, match="is not a folder"):
        check_folder(file, "data", local=True)
    tmp_path.chmod(0o750)
    with pytest.raises(FolderError, match="mode 750"):
        check_folder(tmp_path, "data", local=True)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 424242)
    with pytest.raises(FolderError, match="not to you"):
        check_folder(tmp_path, "data", local=True)


def test_a_lock_keeps_a_second_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    held = take_lock(tmp_path)
    with pytest.raises(LockedError, match=f"pid {os.getpid()}"):
        take_lock(tmp_path)
    os.close(held)
    os.close(take_lock(tmp_path))


def test_a_socket_path_has_a_limit() -> None:
    assert check_endpoint("ipc://" + "/" + "x" * 106) == Path("/" + "x" * 106)
    with pytest.raises(EndpointError, match="108 bytes; the system allows 107"):
        check_endpoint("ipc://" + "/" + "x" * 107)


# --- Discord's answer


@pytest.fixture
def api() -> Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.close()


def test_an_answer_is_read(api: FakeApi) -> None:
    assert fetch(api.base, TOKEN) == GatewayInfo(4, 1000, 990, 3600.0, 2)
    assert api.authorizations == [f"Bot {TOKEN}"]


@pytest.mark.parametrize(
    ("status", "code", "fatal"),
    [(401, "E_TOKEN", True), (429, "E_RATE_LIMIT", False), (500, "E_HTTP", False)],
)
def test_refusals_are_told_apart(api: FakeApi, status: int, code: str, fatal: bool) -> None:
    api.status, api.headers = status, {"Retry-After": "7.5"}
    failed = fetch(api.base, TOKEN)
    assert isinstance(failed, GatewayFailed)
    assert (failed.code, failed.fatal) == (code, fatal)
    assert failed.retry_after_s == (0.0 if fatal else 7.5)
    assert TOKEN not in repr(failed)


def test_an_answer_that_is_none_of_discords(api: FakeApi) -> None:
    for body in (b"", b"[]", b"{}", b'{"shards": 0}', b"[" * 60_000, b'{"shards":"x"}'):
        assert isinstance(read_answer(body), GatewayFailed)
    api.body["shards"] = 0
    assert isinstance(fetch(api.base, TOKEN), GatewayFailed)


def test_no_network_is_to_be_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        failed = fetch(f"http://127.0.0.1:{free.getsockname()[1]}", TOKEN)
    assert isinstance(failed, GatewayFailed)
    assert (failed.code, failed.fatal) == ("E_NETWORK", False)
    assert "refused" in failed.message


@contextmanager
def _dripping(head: bytes) -> Iterator[str]:
    """A server that answers ``head``, then one more byte each tenth of a second for good."""
    is_over = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            connection.sendall(head)
            while not is_over.wait(0.1):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        is_over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow:", b""],
    ids=["body", "header", "status"],
)
def test_an_answer_that_drips_ends_at_the_deadline(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_info, "TIMEOUT_S", 0.5)
    with _dripping(head) as base:
        began = time.monotonic()
        failed = fetch(base, TOKEN)
        assert 0.5 <= time.monotonic() - began < 2.0
    assert failed == GatewayFailed("E_NETWORK", "no whole answer in 0.5 s", "check the network")


@pytest.mark.parametrize("token", [f"{TOKEN}\r\nX: y", f"{TOKEN}\u20ac"])
def test_a_token_that_cannot_be_sent_is_not_printed(api: FakeApi, token: str) -> None:
    failed = fetch(api.base, token)
    assert isinstance(failed, GatewayFailed)
    assert failed.fatal
    assert "canary" not in repr(failed)


# --- the supervisor's lines


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('{"ev":"spawned","name":"node:a","epoch":2,"pid":7}', Spawned("a", 2, 7)),
        (
            '{"ev":"spawn_failed","name":"node:a","epoch":2,"error":"e"}',
            SpawnFailed("a", 2, "e"),
        ),
        (
            '{"ev":"exited","name":"node:a","epoch":2,"pid":7,"code":null,"signal":9,'
            '"uptime_s":1.5,"tail":["x"]}',
            Exited("a", 2, 7, None, 9, 1.5, ("x",)),
        ),
        ('{"ev":"stop","reason":"r","discard_sessions":true}', StopAsked("r", True)),
        ('{"ev":"hello","supervisor_pid":3,"procs":[]}', SupervisorHello(3, ())),
    ],
)
def test_lines_become_events(line: str, event: object) -> None:
    assert read_line(line.encode()) == event


@pytest.mark.parametrize("line", [b"", b"{}", b'{"ev":"x"}', b"[" * 50_000, b"\xff", b"null"])
def test_lines_without_meaning(line: bytes) -> None:
    with pytest.raises(LineError):
        read_line(line)


def test_lines_come_whole_and_the_end_is_seen() -> None:
    ours, theirs = socket.socketpair()
    port = SupervisorPort(theirs.detach())
    ours.sendall(b'{"ev":"st')
    assert port.lines() == []
    ours.sendall(b'op"}\n\n{"x"')
    assert port.lines() == [b'{"ev":"stop"}']
    assert not port.gone
    ours.close()
    assert port.lines() == []
    assert port.gone
    port.send({"op": "x"})
    port.close()


def test_what_the_supervisor_does_not_read_waits_and_is_bounded() -> None:
    ours, theirs = socket.socketpair()
    port = SupervisorPort(theirs.detach())
    for number in range(200):
        port.send({"op": "x", "n": number, "pad": "y" * 60_000})
    assert port.wants_to_write
    got = b""
    while port.wants_to_write:
        got += ours.recv(1 << 20)
        port.flush()
    ours.setblocking(False)
    port.close()
    while data := ours.recv(1 << 20):
        got += data
    ours.close()
    numbers = [json.loads(line)["n"] for line in got.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert 60 <= len(numbers) < 200


def test_a_wake_up_is_never_lost_nor_blocks() -> None:
    wake = Wake()
    for _ in range(100_000):
        wake.wake()
    wake.drain()
    with pytest.raises(BlockingIOError):
        os.read(wake.fileno(), 1)
    os.close(wake.fileno())
    os.close(wake.write_end)


# --- the log


def test_the_log_is_json_without_the_token_and_rotates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log_port, "FILE_MAX_BYTES", 2000)
    log = log_port.open_log(tmp_path / "logs", "info", TOKEN)
    try:
        log.debug("not shown")
        for number in range(100):
            log.info("line %s", number, extra={"fields": {"node": "a", "token": TOKEN}})
        try:
            raise ValueError(TOKEN)
        except ValueError:
            log.exception("failed")
    finally:
        log_port.close_log(log)
        logging.raiseExceptions = True
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == [
        "broker.log",
        *(f"broker.log.{n}" for n in range(1, 5)),
    ]
    assert all(path.stat().st_size <= 4000 for path in files)
    last = [json.loads(line) for line in files[0].read_text().splitlines()][-1]
    assert last["text"] == "failed"
    assert "[token]" in last["traceback"]
    said = capsys.readouterr().err
    assert "line 99 node=a" in said
    assert TOKEN not in said + "".join(path.read_text() for path in files)
