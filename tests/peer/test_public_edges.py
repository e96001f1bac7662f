"""Edges of the public API: what replies become, what errors may say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node import redact
from shard_node.errors import RemoteError, ShardNodeError
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
