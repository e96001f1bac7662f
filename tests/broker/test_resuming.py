"""What processes say of the journals that they found: counted, named, believed of their own."""

from __future__ import annotations

import pytest

from broker.core.effects import Log
from broker.core.events import Exited, FrameReceived
from broker.services.resuming import starts_needed
from shard_node.wire import topics
from shard_node.wire.bodies import Heartbeat, ShardReport, ShardState
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import heartbeat_id, node_id
from shard_node.wire.lanes import Lane
from shard_node.wire.lifecycle import Interrupted, Recovered
from shard_node.wire.targets import BROKER
from tests.broker.test_services import World

A = node_id("a", 1)


@pytest.fixture
def world() -> World:
    world = World()
    world.register("a")
    return world


def tell(world: World, body: Recovered) -> None:
    head = header(Kind.EVENT, BROKER, topics.NODE_RECOVERED, lane=Lane.CONTROL)
    world.give(FrameReceived(A, encode_header(head), encode_body(body)))


def counts(world: World) -> dict[str, int]:
    found: dict[str, int] = world.status()["broker"]["counts"]
    wanted = ("shard_dead", "shard_resumed_cold", "shard_identified_again", "handlers_interrupted")
    return {name: found[name] for name in wanted if found.get(name)}


def reason(world: World) -> str:
    found: str = world.status()["nodes"][0]["reason"]
    return found


@pytest.mark.parametrize(
    ("resumed", "name"), [(True, "shard_resumed_cold"), (False, "shard_identified_again")]
)
def test_how_a_shard_came_back_is_counted(world: World, resumed: bool, name: str) -> None:
    tell(world, Recovered(1, 4, 17, resumed, (), 0))
    assert counts(world) == {name: 1}
    assert reason(world) == ""


def test_handlers_that_were_left_are_counted_and_named(world: World) -> None:
    left = (Interrupted(18, "MESSAGE_CREATE", 5, "77"), Interrupted(19, "INTERACTION_CREATE"))
    tell(world, Recovered(0, 4, 17, True, left, 3))
    assert counts(world) == {"shard_resumed_cold": 1, "handlers_interrupted": 5}
    said = reason(world)
    assert "shard 0: not handled to the end, and not again" in said
    assert "MESSAGE_CREATE" in said
    assert "(77)" in said
    assert said.endswith("and 3 more")


def test_a_count_below_zero_takes_nothing_back(world: World) -> None:
    tell(world, Recovered(0, 4, 17, True, (), -5))
    assert counts(world) == {"shard_resumed_cold": 1}


def test_a_shard_of_another_node_is_not_its_to_tell(world: World) -> None:
    tell(world, Recovered(3, 4, 17, True, (), 0))
    assert counts(world) == {}
    assert world.status()["broker"]["rejected"]["shard"] == 1


@pytest.mark.parametrize(("code", "signal", "dead"), [(1, None, 2), (None, 9, 2), (0, None, 0)])
def test_the_shards_of_a_process_that_a_fault_ended_are_dead(
    world: World, code: int | None, signal: int | None, dead: int
) -> None:
    world.give(Exited("a", 1, 10, code, signal, 40.0, ()))
    assert counts(world).get("shard_dead", 0) == dead


# --- journals that are none


def beat(world: World, *flaws: str) -> None:
    reports = tuple(
        ShardReport(shard, ShardState.READY, flaw=flaw) for shard, flaw in enumerate(flaws)
    )
    world.ask(heartbeat_id("a", 1), topics.HEARTBEAT, Heartbeat(1, 0.0, 1, 0, reports))


FLAW = "its journal cannot be written: No space left on device; a respawn now will IDENTIFY"


def test_a_shard_whose_journal_is_broken_costs_an_identify_and_is_shown(world: World) -> None:
    beat(world, "", "")
    fleet = world.broker.fleet
    assert starts_needed(fleet, (0, 1), world.now) == 0
    beat(world, "", FLAW + "x" * 500)
    assert starts_needed(fleet, (0, 1), world.now) == 1
    shown = [shard["journal"] for shard in world.status()["shards"]]
    assert shown[0] is None
    assert shown[1].startswith(FLAW)
    assert len(shown[1]) == 200
    beat(world, "", "")
    assert starts_needed(fleet, (0, 1), world.now) == 0
    assert world.status()["shards"][1]["journal"] is None


def test_another_process_begins_without_the_flaw(world: World) -> None:
    beat(world, FLAW, "")
    row = world.broker.fleet.nodes["a"].rows[0]
    assert row.flaw
    row.taken()
    assert row.flaw == ""


def test_what_was_wrong_with_a_journal_is_told(world: World) -> None:
    why = "its journal was written by another version"
    tell(world, Recovered(1, 4, 0, False, (), 0, why))
    assert reason(world) == f"shard 1 had to IDENTIFY: {why}"
    assert any(isinstance(one, Log) and why in one.text for one in world.effects)


def test_a_shard_that_was_resumed_has_nothing_to_tell(world: World) -> None:
    tell(world, Recovered(1, 4, 9, True, (), 0, "x"))
    assert reason(world) == ""
