"""SHARD_READY and SHARD_DISCONNECT: to every node and client that listens to them."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.events import FrameReceived
from shard_node.wire import topics
from shard_node.wire.bodies import (
    ClientRegister,
    ShardDisconnect,
    ShardReady,
    ShardReport,
    ShardState,
    Subscribe,
)
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import client_id, node_id
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import BROKER
from tests.broker.test_services import World

A, B, WATCHER = node_id("a", 1), node_id("b", 1), client_id("watch", 1, 1)
BOTH = (topics.SHARD_READY, topics.SHARD_DISCONNECT)


@pytest.fixture
def world() -> World:
    """Node b and a program listen; node a does not."""
    world = World()
    world.ask(B, topics.SUBSCRIBE, Subscribe(BOTH))
    world.ask(WATCHER, topics.CLIENT_REGISTER, ClientRegister("watch", BOTH))
    return world


def heard(world: World) -> dict[bytes, list[tuple[str, Any]]]:
    """What waits for each peer, of the two topics, as topic and body."""
    found: dict[bytes, list[tuple[str, Any]]] = {}
    outbox = world.broker.outbox
    for name in outbox.waiting():
        while (entry := outbox.head(name)) is not None:
            outbox.sent(name, entry[0])
            head = decode_header(entry[1].header)
            if head.topic in BOTH:
                assert (head.kind, head.lane, head.sender) == (Kind.EVENT, Lane.CONTROL, "a#1")
                body = decode_body(entry[1].body, topics.TOPICS[head.topic].body)
                found.setdefault(name, []).append((head.topic, body))
    return found


def tell(world: World, topic: str, body: Any) -> None:
    head = header(Kind.EVENT, BROKER, topic, lane=Lane.CONTROL)
    world.give(FrameReceived(A, encode_header(head), encode_body(body)))


def test_a_nodes_word_goes_to_all_who_listen(world: World) -> None:
    ready = ShardReady(1, 4, 7, resumed=True)
    tell(world, topics.SHARD_READY, ready)
    lost = ShardDisconnect(0, 4, 4000)
    tell(world, topics.SHARD_DISCONNECT, lost)
    said = [(topics.SHARD_READY, ready), (topics.SHARD_DISCONNECT, lost)]
    assert heard(world) == {B: said, WATCHER: said}


def test_a_shard_of_another_node_is_not_believed(world: World) -> None:
    tell(world, topics.SHARD_READY, ShardReady(3, 4, 7))
    assert heard(world) == {}


def test_a_dead_node_is_spoken_for(world: World) -> None:
    """Shard 0 was ready; shard 1 had told of its end itself."""
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(1, 4, 1006))
    heard(world)
    world.exit("a")
    said = [
        (topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 0, False, "node a ended")),
    ]
    assert heard(world) == {B: said, WATCHER: said}


def test_a_node_that_drained_is_spoken_for_once(world: World) -> None:
    draining = tuple(ShardReport(shard, ShardState.DRAINING) for shard in (0, 1))
    world.register("a", shards=draining)
    world.exit("a", 0)
    world.exit("a", 0)
    assert [body.shard for _, body in heard(world)[B]] == [0, 1]
