"""A shard is connected anew, an extension reloaded: the broker passes it on, and answers."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.events import FrameReceived, GatewayInfo, Tick
from broker.services.reconnects import TOLD_AGAIN_S
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.handover import Phase, ShardMoved
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import node_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.operations import (
    NodeReload,
    NodeReloaded,
    Reconnected,
    ReconnectRequest,
    ReloadRequest,
    ShardReconnect,
)
from shard_node.wire.targets import BROKER
from tests.broker.test_services import World

A, B, OPERATOR = node_id("a", 1), node_id("b", 1), operator_id(1, 1)


@pytest.fixture
def world() -> World:
    return World()


def sent(world: World) -> list[tuple[bytes, Any, Any]]:
    """What goes out: to whom, the header, the body."""
    found, outbox = [], world.broker.outbox
    for name in outbox.waiting():
        while (entry := outbox.head(name)) is not None:
            outbox.sent(name, entry[0])
            head = decode_header(entry[1].header)
            spec = topics.TOPICS[head.topic]
            body = {Kind.EVENT: spec.body, Kind.REQUEST: spec.body, Kind.REPLY: spec.reply}
            found.append((name, head, decode_body(entry[1].body, body.get(head.kind, ErrorBody))))
    return found


def ask(world: World, topic: str, body: Any, number: int = 7) -> list[tuple[bytes, Any, Any]]:
    spec = topics.TOPICS[topic]
    head = header(spec.kind, BROKER, topic, lane=spec.lane, correlation=number, ttl_ms=60_000)
    world.give(FrameReceived(OPERATOR, encode_header(head), encode_body(body)))
    return sent(world)


def moved(world: World, who: bytes, body: ShardMoved) -> list[tuple[bytes, Any, Any]]:
    head = header(Kind.EVENT, BROKER, topics.SHARD_MOVED, lane=Lane.CONTROL)
    world.give(FrameReceived(who, encode_header(head), encode_body(body)))
    return sent(world)


def begun(world: World, shard: int = 1) -> ShardReconnect:
    (told,) = ask(world, topics.RECONNECT, ReconnectRequest(shard))
    assert told[0] == A
    assert (told[2].shard, told[2].num_shards, told[2].fresh) == (shard, 4, False)
    found: ShardReconnect = told[2]
    return found


def test_the_holder_is_told_and_its_word_is_the_answer(world: World) -> None:
    asked = begun(world)
    assert moved(world, A, ShardMoved(asked.op, 1, 4, Phase.TAKING)) == []
    ((name, head, body),) = moved(world, A, ShardMoved(asked.op, 1, 4, Phase.HELD, gap_ms=41.5))
    assert (name, head.correlation) == (OPERATOR, 7)
    assert body == Reconnected("a", 41.5, False)
    begun(world)  # and it may be asked for again


def test_a_failure_is_told_in_the_nodes_words(world: World) -> None:
    asked = begun(world)
    ((_, head, error),) = moved(world, A, ShardMoved(asked.op, 1, 4, Phase.FAILED, error="why"))
    assert head.kind is Kind.ERROR
    assert (error.code, error.message) == ("E_NOT_READY", "shard 1 was not reconnected: why")


def test_nobody_else_answers(world: World) -> None:
    asked = begun(world)
    assert moved(world, B, ShardMoved(asked.op, 1, 4, Phase.HELD)) == []
    assert moved(world, A, ShardMoved("other", 1, 4, Phase.HELD)) == []
    assert moved(world, A, ShardMoved(asked.op, 0, 4, Phase.HELD)) == []
    assert moved(world, A, ShardMoved(asked.op, 1, 4, Phase.HELD)) != []


def test_one_at_a_time(world: World) -> None:
    begun(world)
    ((_, _, error),) = ask(world, topics.RECONNECT, ReconnectRequest(1), 8)
    assert error.code == "E_CONFLICT"
    begun(world, 0)


def test_the_holder_is_told_again_until_nobody_waits(world: World) -> None:
    asked = begun(world)
    world.now += TOLD_AGAIN_S
    world.give(Tick())
    assert [body for name, _, body in sent(world) if name == A] == [asked]
    world.now += 60
    world.register("a")  # it lives
    world.give(Tick())
    errors = [body for name, _, body in sent(world) if name == OPERATOR]
    assert [error.code for error in errors] == ["E_TIMEOUT"]
    begun(world)


def test_the_end_of_the_holder_is_an_answer(world: World) -> None:
    begun(world)
    world.exit("a")
    (error,) = [body for name, _, body in sent(world) if name == OPERATOR]
    assert (error.code, error.message) == (
        "E_NOT_READY",
        "node a ended while shard 1 connected anew",
    )
    ((_, _, error),) = ask(world, topics.RECONNECT, ReconnectRequest(1))
    assert error.message == "node a is backoff"


def test_a_shard_that_is_not_there(world: World) -> None:
    ((_, _, error),) = ask(world, topics.RECONNECT, ReconnectRequest(9))
    assert (error.code, error.details) == ("E_NOT_FOUND", {"exists": [0, 1, 2, 3]})


def test_a_new_session_needs_the_budget(world: World) -> None:
    world.give(GatewayInfo(4, 1000, 0, 3600.0, 1))
    ((_, _, error),) = ask(world, topics.RECONNECT, ReconnectRequest(1, fresh=True))
    assert error.code == "E_IDENTIFY_BUDGET"
    begun(world)  # a RESUME needs none
    world.give(GatewayInfo(4, 1000, 5, 3600.0, 1))
    (told,) = ask(world, topics.RECONNECT, ReconnectRequest(0, fresh=True), 8)
    assert told[2].fresh


def test_an_extension_is_reloaded_by_the_node_that_is_named(world: World) -> None:
    ((name, head, body),) = ask(world, topics.RELOAD, ReloadRequest("cogs.fun", "b"))
    assert (name, head.topic, body) == (B, topics.NODE_RELOAD, NodeReload("cogs.fun"))
    answer = header(Kind.REPLY, BROKER, topics.NODE_RELOAD, correlation=head.correlation)
    world.give(FrameReceived(B, encode_header(answer), encode_body(NodeReloaded(False, "why"))))
    ((name, head, body),) = sent(world)
    assert (name, head.correlation, body) == (OPERATOR, 7, NodeReloaded(False, "why"))


def test_an_extension_is_reloaded_on_nodes_that_are_there(world: World) -> None:
    ((_, _, error),) = ask(world, topics.RELOAD, ReloadRequest("cogs.fun", "z"))
    assert (error.code, error.details) == ("E_NOT_FOUND", {"exists": ["a", "b"]})
    world.exit("b")
    sent(world)
    ((_, _, error),) = ask(world, topics.RELOAD, ReloadRequest("cogs.fun", "b"))
    assert (error.code, error.message) == ("E_NOT_READY", "node b is backoff")
