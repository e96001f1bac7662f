"""Edges of the public API: what replies become, what errors may say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node import redact
from shard_node.errors import RemoteError, RequestTimeout, ShardNodeError
from shard_node.peer import api
from shard_node.runtime import Node as Runtime
from shard_node.wire.categories import CommandExec, CommandResult
from shard_node.wire.targets import Node
from shard_node.wire.topics import COMMAND_EXEC
from tests.peer.nodes import make, running
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test

TOKEN = "MTIzNDU2Nzg5.very-secret-token"
RESULT = CommandResult("b", 0, "slash", "ping", 2, 3)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(f"ipc://{tmp_path}/b.sock") as stand_in:
        yield stand_in


@pytest.fixture
def secret() -> Iterator[None]:
    known = list(redact._secrets)
    redact.add_secret(TOKEN)
    yield
    redact._secrets[:] = known


@async_test
async def test_the_reply_of_a_built_in_topic_is_typed(broker: StandIn) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    b.serve(COMMAND_EXEC, lambda message: RESULT)
    async with running(a, b):
        for topic in (COMMAND_EXEC, CommandExec):
            assert await a.request(Node("b"), topic, CommandExec(1, "ping")) == RESULT
        plain = await a.request(Node("b"), COMMAND_EXEC, CommandExec(1, "ping"), reply=object)
        assert isinstance(plain, list)


@async_test
async def test_a_reply_that_is_not_what_it_should_be_is_an_error(broker: StandIn) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    b.serve(COMMAND_EXEC, lambda message: 5)
    async with running(a, b):
        with pytest.raises(ShardNodeError, match="cannot be read") as caught:
            await a.request(Node("b"), COMMAND_EXEC, CommandExec(1, "ping"))
        assert caught.value.code == "E_BAD_BODY"


@async_test
@pytest.mark.parametrize("debug", [False, True])
async def test_a_traceback_crosses_the_wire_in_debug_mode_only(
    broker: StandIn, debug: bool
) -> None:
    a, there = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    there._context.destroy(linger=0)
    b = Runtime(replace(there.settings, debug=debug))

    @b.serve("asked")
    async def fails(message: Any) -> None:
        raise KeyError("guild")

    async with running(a, b):
        with pytest.raises(RemoteError, match="KeyError: 'guild'") as caught:
            await a.request(Node("b"), "asked")
    assert ("in fails" in caught.value.traceback) is debug


@async_test
async def test_a_client_is_in_debug_mode_where_its_environment_says_so(
    broker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in ("", "1"):
        monkeypatch.setenv("SHARDCTL_DEBUG", value)
        async with shard_node.connect(broker.endpoint, "web") as client:
            assert client._plane.debug is bool(value)


@async_test
async def test_no_token_in_the_words_of_an_error(broker: StandIn, secret: None) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")

    def fails(message: Any) -> None:
        raise ValueError(f"401 for Bot {TOKEN}")

    b.serve("asked", fails)
    b.on("sent", fails)
    b._plane.debug = True
    async with running(a, b):
        with pytest.raises(RemoteError, match=r"401 for Bot \[token\]") as asked:
            await a.request(Node("b"), "asked")
        with pytest.raises(RemoteError, match=r"401 for Bot \[token\]"):
            await a.send(Node("b"), "sent", 1)
    assert "in fails" in asked.value.traceback
    assert TOKEN not in asked.value.traceback


@async_test
async def test_all_nodes_are_asked_a_bounded_number_at_a_time(
    broker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in names more nodes than there are: each has its answer or its error."""
    monkeypatch.setattr(api, "GATHER_IN_FLIGHT_MAX", 3)
    a = make(broker.endpoint, "a")
    a.serve("who", lambda message: "me")
    names = {"away1": False, "a": True, **{f"z{i}": True for i in range(9)}}
    asked: list[str] = []
    plain, at_a_time = a.request, [0, 0]

    async def known(timeout_s: float) -> dict[str, bool]:
        return names

    async def request(target: Node, *args: Any, **more: Any) -> Any:
        asked.append(target.name)
        at_a_time[0] += 1
        at_a_time[1] = max(at_a_time)
        try:
            return await plain(target, *args, **more)
        finally:
            at_a_time[0] -= 1

    monkeypatch.setattr(a, "_planned", known)
    monkeypatch.setattr(a, "request", request)
    async with running(a):
        found = await a.gather("who")
        assert found.replies == {"a": "me"}
        assert set(found.errors) == names.keys() - {"a"}
        assert at_a_time[1] == 3
        assert asked[-1] == "away1"
        late = await a.gather("who", timeout_s=0)
        assert {type(error) for error in late.errors.values()} == {RequestTimeout}
        assert set(late.errors) == set(names)


@async_test
async def test_the_nodes_are_asked_for_by_name(broker: StandIn) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    async with running(a, b):
        assert sorted(await a.nodes()) == ["a", "b"]
