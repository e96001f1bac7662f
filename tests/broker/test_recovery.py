"""What ails shards and processes: noticed, counted, told, and given up in time."""

from __future__ import annotations

import pytest

from broker.core.events import FrameReceived
from shard_node.wire import topics
from shard_node.wire.bodies import ShardDisconnect, ShardReport, ShardState
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.health import ShardHealth
from shard_node.wire.identity import node_id
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import BROKER
from tests.broker.test_services import World
from tests.broker.test_shard_events import BOTH, heard

A, B = node_id("a", 1), node_id("b", 1)


@pytest.fixture
def world() -> World:
    """Node b listens to what happens to shards."""
    world = World()
    world.ask(B, topics.SUBSCRIBE, topics.TOPICS[topics.SUBSCRIBE].body(BOTH))
    return world


def tell(world: World, topic: str, body: object) -> None:
    head = header(Kind.EVENT, BROKER, topic, lane=Lane.CONTROL)
    world.give(FrameReceived(A, encode_header(head), encode_body(body)))


def states(world: World) -> list[str]:
    return [shard["state"] for shard in world.status()["shards"]]


def counts(world: World) -> dict[str, int]:
    found: dict[str, int] = world.status()["broker"]["counts"]
    return {name: count for name, count in found.items() if name.startswith("shard_")}


@pytest.mark.parametrize("what", ["zombie", "deaf"])
def test_what_ails_a_shard_is_its_state_is_counted_and_said_at_its_end(
    world: World, what: str
) -> None:
    tell(world, topics.SHARD_HEALTH, ShardHealth(1, 4, what, "why"))
    assert states(world) == ["ready", what, "ready", "ready"]
    assert counts(world) == {f"shard_{what}": 1}
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(1, 4))
    said = ShardDisconnect(1, 4, reason=f"{what}: why")
    assert heard(world)[B] == [(topics.SHARD_DISCONNECT, said)]
    assert states(world)[1] == "resuming"
    world.register("a", shards=(ShardReport(1, ShardState.READY),))
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(1, 4, 4000))
    assert heard(world)[B] == [(topics.SHARD_DISCONNECT, ShardDisconnect(1, 4, 4000))]


def test_a_shard_that_is_heard_again_is_well(world: World) -> None:
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "deaf", "why"))
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "heard"))
    assert (states(world)[0], counts(world)) == ("ready", {"shard_deaf": 1})
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 4000))
    assert heard(world)[B] == [(topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 4000))]


def test_a_partly_deaf_shard_stays_ready_and_is_counted(world: World) -> None:
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "partly-deaf", "MESSAGE_CREATE"))
    assert (states(world)[0], counts(world)) == ("ready", {"shard_partly_deaf": 1})


def test_words_that_came_late_change_no_state(world: World) -> None:
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 4000))
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "zombie", "why"))
    assert states(world)[0] == "resuming"


@pytest.mark.parametrize("body", [ShardHealth(3, 4, "zombie"), ShardHealth(0, 4, "hungry")])
def test_what_cannot_be_is_refused(world: World, body: ShardHealth) -> None:
    tell(world, topics.SHARD_HEALTH, body)
    assert (states(world), counts(world)) == (["ready"] * 4, {})
    assert world.status()["broker"]["rejected"] == {"shard": 1}
