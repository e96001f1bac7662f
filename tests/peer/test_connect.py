"""Programs outside a bot, and where they find their fleet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shard_node
import shard_node.sync
from shard_node.errors import BrokerUnavailable, RequestFailed
from shard_node.peer import discovery
from shard_node.peer.connect import Client
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.identity import CLIENT_TOKENS, client_id, parse_peer
from shard_node.wire.limits import NAME_MAX_CHARS
from shard_node.wire.targets import Node
from shardctl import paths
from tests.peer.nodes import make, running
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(f"ipc://{tmp_path}/b.sock") as stand_in:
        yield stand_in


@async_test
async def test_a_client_asks_and_hears(broker: StandIn) -> None:
    a = make(broker.endpoint, "a")
    a.serve("double", lambda message: message.body * 2)
    got: asyncio.Queue[Any] = asyncio.Queue()
    async with running(a), shard_node.connect(broker.endpoint, "web") as client:
        client.on("news", lambda message: got.put_nowait((message.sender, message.body)))
        assert await client.request(Node("a"), "double", 4) == 8
        assert (await client.gather("double", 1)).replies == {"a": 2}
        await a.publish("news", "x")
        assert await asyncio.wait_for(got.get(), 5) == ("a", "x")


@async_test
async def test_a_client_comes_back_to_the_next_broker(broker: StandIn) -> None:
    async with shard_node.connect(broker.endpoint) as client:
        client.serve("me", lambda message: 1)
        broker.close()
        with StandIn(broker.endpoint):
            a = make(broker.endpoint, "a")
            a.serve("one", lambda message: 1)
            async with running(a):
                assert await client.request(Node("a"), "one", timeout_s=10) == 1


def test_no_routing_id_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers every process may have the pid 1, and makes its first connection."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    hellos = {Client("ipc:///none", "cron")._client._dealer._hello for _ in range(20)}
    assert len(hellos) == 20
    longest = client_id("x" * NAME_MAX_CHARS, 10**10 - 1, CLIENT_TOKENS - 1)
    assert parse_peer(longest) == ("client", longest.decode(), 0)


@async_test
async def test_two_with_one_name_and_pid_at_once(
    broker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    a = make(broker.endpoint, "a")
    got: list[Any] = []
    a.on("t", lambda message: got.append(message.body))
    async with (
        running(a),
        shard_node.connect(broker.endpoint, "cron") as one,
        shard_node.connect(broker.endpoint, "cron") as two,
    ):
        assert await one.send(Node("a"), "t", 1) == await two.send(Node("a"), "t", 2)
        assert sorted(got) == [1, 2]


@pytest.mark.slow
@async_test
async def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shard_node.peer.connect.Client.open.__defaults__", (0.1,))
    with pytest.raises(BrokerUnavailable):
        async with shard_node.connect(f"ipc://{tmp_path}/none.sock"):
            pass
    with pytest.raises(ValueError, match="lower-case"):
        shard_node.connect("ipc:///x", "Web")


def test_code_that_does_not_await(broker: StandIn) -> None:
    with shard_node.sync.connect(broker.endpoint, "script") as node:
        node.publish("x", 1)
        with pytest.raises(shard_node.Undeliverable):
            node.send(Node("z"), "m", 1)
        assert node.gather("who").replies == {}
        assert node.name == "script"


@pytest.mark.parametrize("length", [5, 40, 64])
@pytest.mark.parametrize("runtime", ["", "short", "long"])
def test_both_find_the_same_socket(tmp_path: Path, length: int, runtime: str) -> None:
    environ: dict[str, str] = {}
    if runtime:
        folder = tmp_path / (runtime * (20 if runtime == "long" else 1))
        folder.mkdir()
        environ["XDG_RUNTIME_DIR"] = str(folder)
    name = "f" * length
    assert discovery.endpoint_of(name, environ) == paths.fleet_paths(name, environ).endpoint
    assert discovery.fleet_name(tmp_path) == paths.fleet_name(tmp_path)
    environ["SHARDCTL_FLEET"] = name
    assert discovery.find_endpoint(environ) == discovery.endpoint_of(name, environ)
    assert discovery.find_endpoint({"SHARDCTL_ENDPOINT": "ipc:///x"}) == "ipc:///x"


def test_a_folder_without_a_fleet_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=str(tmp_path)):
        discovery.find_endpoint({"XDG_RUNTIME_DIR": str(tmp_path)}, tmp_path)


@async_test
async def test_why_it_is_not_let_in(broker: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shard_node.peer.connect.Client.open.__defaults__", (0.4,))
    broker.refusal = ErrorBody("E_BUSY", "1024 clients are registered", "retry later", True)
    with pytest.raises(BrokerUnavailable, match="1024 clients") as caught:
        async with shard_node.connect(broker.endpoint, "web"):
            pass
    error = caught.value
    assert (error.code, error.hint, error.retryable) == ("E_BUSY", "retry later", True)
    monkeypatch.setattr("shard_node.peer.connect.Client.open.__defaults__", (60.0,))
    broker.refusal = ErrorBody("E_NAME_TAKEN", "a is a node of this fleet", "another name")
    with pytest.raises(BrokerUnavailable, match="a is a node") as caught:
        async with shard_node.connect(broker.endpoint, "a"):
            pass
    assert not caught.value.retryable


@async_test
async def test_what_is_dropped_and_refused_is_told(broker: StandIn) -> None:
    a = make(broker.endpoint, "a")

    def fail(message: Any) -> None:
        raise ValueError(message.body)

    a.on("fails", fail)
    async with running(a), shard_node.connect(broker.endpoint, "web") as web:
        for topic in ("fails", "nobody's"):
            with pytest.raises(RequestFailed):
                await web.send(Node("a"), topic, 1)
        web._plane.outbox.dropped += 7
        web._client.session.dropped += 1
        web._client.dropped += 1
        assert web._client.troubles == {"events_dropped": 7, "frames_dropped": 2}
        assert a.client is not None
        a.refresh()
        assert a.vitals.troubles == {"messages_unheard": 1, "handlers_failed": 1}
