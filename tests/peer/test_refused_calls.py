"""What cannot be said raises at the call, in words, and costs the others nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.errors import NoHandler, RequestFailed, RequestTimeout, Undeliverable
from shard_node.peer import failures
from shard_node.peer.asks import Ask
from shard_node.wire.batch import Message
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.header import Kind
from shard_node.wire.limits import NAME_MAX_CHARS
from shard_node.wire.targets import ALL, BROKER, Guild, Node, Pool, Shard, Topic
from tests.peer.nodes import make, running
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(f"ipc://{tmp_path}/b.sock") as stand_in:
        yield stand_in


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (Guild(99999999999999999999), ValueError, "an id is 0 to"),
    (Guild(-1), ValueError, "an id is 0 to"),
    (Guild("8138"), TypeError, "an id is an int, not a str"),  # type: ignore[arg-type]
    (Guild(True), TypeError, "not a bool"),
    (Shard(1.5), TypeError, "not a float"),  # type: ignore[arg-type]
    (Shard(1, -3), ValueError, "an id is 0 to"),
    (Node("\ud800"), ValueError, "cannot be said"),
    (Node("n" * 5000), ValueError, "characters, not 5000"),
    (Node(""), ValueError, "characters, not 0"),
    (Node(7), TypeError, "a name is a str"),  # type: ignore[arg-type]
    (Pool("p" * (NAME_MAX_CHARS + 1)), ValueError, "a Pool's name"),
    ("b", TypeError, "no target"),
    (ALL, ValueError, r"gather\(\)"),
    (Topic("t"), ValueError, r"publish\(\)"),
]


@pytest.mark.parametrize(("target", "kind", "words"), REFUSED)
@async_test
async def test_a_target_that_cannot_be(
    broker: StandIn, target: Any, kind: type[Exception], words: str
) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    b.serve("x", lambda message: message.body)
    async with running(a, b):
        with pytest.raises(kind, match=words):
            await a.send(target, "x", 1)
        with pytest.raises(kind, match=words):
            await a.request(target, "x", 1)
        assert await a.request(Node("b"), "x", 5) == 5


@async_test
async def test_a_topic_that_cannot_be(broker: StandIn) -> None:
    a = make(broker.endpoint, "a")
    async with running(a):
        with pytest.raises(ValueError, match="no topic"):
            a.publish("caf\ud800", 1)
        with pytest.raises(ValueError, match="no topic"):
            await a.send(Node("b"), "caf\ud800", 1)
        with pytest.raises(TypeError, match="no topic"):
            a.publish(5, 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no topic"):
            a.on("caf\ud800", print)


@pytest.mark.parametrize("time_s", [math.inf, math.nan, -1.0, -math.inf])
@async_test
async def test_a_time_that_cannot_be(broker: StandIn, time_s: float) -> None:
    a = make(broker.endpoint, "a")
    async with running(a):
        for asked in (
            a.request(Node("b"), "x", 1, timeout_s=time_s),
            a.send(Node("b"), "x", 1, ttl_s=time_s),
            a.request(BROKER, "fleet.nodes", timeout_s=time_s),
        ):
            with pytest.raises(ValueError, match="no time to wait"):
                await asked


@async_test
async def test_what_the_broker_is_asked(broker: StandIn) -> None:
    a = make(broker.endpoint, "a")
    async with running(a):
        with pytest.raises(NoHandler, match="nope: the broker answers no such request") as caught:
            await a.request(BROKER, "nope", 1)
        assert "shard-protocol" in caught.value.hint
        with pytest.raises(ValueError, match=r"ask\(\) asks the broker"):
            await a.send(BROKER, "x", 1)
        await asyncio.wait_for(a.publish("x", 1), 5)  # type: ignore[arg-type]


def test_every_error_has_a_hint() -> None:
    for error in (Undeliverable("x"), RequestTimeout("x"), RequestFailed("x"), NoHandler("x")):
        assert error.hint
    ask = Ask(Message(int(Kind.REQUEST), "x", b""), 1, 0.0, None)
    assert failures.too_late(ask).hint
    hinted = ErrorBody("E_NO_HANDLER", "no pools", hint="pools are not there yet")
    assert failures.undelivered(ask, hinted).hint == "pools are not there yet"
    late = ErrorBody("E_EXPIRED", "late", hint="ask sooner")
    assert failures.undelivered(ask, late).hint == "ask sooner"


@async_test
async def test_nobody_in_a_pool(broker: StandIn) -> None:
    a = make(broker.endpoint, "a")
    broker.fault = lambda peer, head: ErrorBody("E_NO_HANDLER", "no worker of the pool 'math'")
    async with running(a):
        with pytest.raises(NoHandler, match="no worker") as caught:
            await a.request(Pool("math"), "x", 1)
        assert "pool" in caught.value.hint
