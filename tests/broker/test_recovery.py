"""What ails shards and processes: noticed, counted, told, and given up in time."""

from __future__ import annotations

import pytest

from broker.core.effects import Order
from broker.core.events import FrameReceived, Tick
from broker.core.limits import LifecycleLimits
from shard_node.wire import topics
from shard_node.wire.bodies import Heartbeat, ShardDisconnect, ShardReport, ShardState
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.health import OthersReply, OthersRequest, ShardHealth
from shard_node.wire.identity import heartbeat_id, node_id
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


@pytest.mark.parametrize("what", ["zombie", "deaf", "partly-deaf"])
def test_what_ails_a_shard_is_its_state_is_counted_and_said_at_its_end(
    world: World, what: str
) -> None:
    tell(world, topics.SHARD_HEALTH, ShardHealth(1, 4, what, "why"))
    assert states(world) == ["ready", what, "ready", "ready"]
    assert counts(world) == {f"shard_{what.replace('-', '_')}": 1}
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(1, 4))
    said = ShardDisconnect(1, 4, reason=f"{what}: why")
    assert heard(world)[B] == [(topics.SHARD_DISCONNECT, said)]
    assert states(world)[1] == "resuming"
    world.register("a", shards=(ShardReport(1, ShardState.READY),))
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(1, 4, 4000))
    assert heard(world)[B] == [(topics.SHARD_DISCONNECT, ShardDisconnect(1, 4, 4000))]


@pytest.mark.parametrize("what", ["deaf", "partly-deaf"])
def test_a_shard_that_is_heard_again_is_well(world: World, what: str) -> None:
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, what, "why"))
    assert world.status()["shards"][0]["trouble"] == f"{what}: why"
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "heard"))
    assert (states(world)[0], counts(world)) == (
        "ready",
        {f"shard_{what.replace('-', '_')}": 1},
    )
    assert world.status()["shards"][0]["trouble"] is None
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 4000))
    assert heard(world)[B] == [(topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 4000))]


def others(world: World, event: str, within_s: float = 60.0) -> OthersReply:
    found = world.ask(A, topics.SHARD_OTHERS, OthersRequest(0, 4, event, within_s))
    assert isinstance(found, OthersReply)
    return found


def test_who_else_got_an_event_of_a_type(world: World) -> None:
    assert others(world, "TYPING_START") == OthersReply(0, 0)
    told = {"a": {"MESSAGE_CREATE": 0.0}, "b": {"TYPING_START": 50.0, "x" * 65: 0.0}}
    for name, types in told.items():
        beat(world, name=name, heard=types)
    assert others(world, "TYPING_START") == OthersReply(1, 1)
    assert others(world, "TYPING_START", 49.0) == OthersReply(0, 1)
    assert others(world, "MESSAGE_CREATE") == OthersReply(0, 1)  # its own word does not count
    assert others(world, "x" * 65) == OthersReply(0, 1)
    world.now += 11.0
    assert others(world, "TYPING_START") == OthersReply(0, 1)
    beat(world, name="b", heard={"TYPING_START": 0.0})
    assert others(world, "TYPING_START") == OthersReply(1, 1)
    world.exit("b", -9)
    assert others(world, "TYPING_START") == OthersReply(0, 0)


def test_what_no_other_shard_gets_either_is_said(world: World) -> None:
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "partly-deaf", "no TYPING_START"))
    for _ in range(2):
        others(world, "TYPING_START")
        said = "partly-deaf: no TYPING_START; no other shard got one either"
        assert world.status()["shards"][0]["trouble"] == said


def test_words_that_came_late_change_no_state(world: World) -> None:
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 4000))
    tell(world, topics.SHARD_HEALTH, ShardHealth(0, 4, "zombie", "why"))
    assert states(world)[0] == "resuming"


@pytest.mark.parametrize("body", [ShardHealth(3, 4, "zombie"), ShardHealth(0, 4, "hungry")])
def test_what_cannot_be_is_refused(world: World, body: ShardHealth) -> None:
    tell(world, topics.SHARD_HEALTH, body)
    assert (states(world), counts(world)) == (["ready"] * 4, {})
    assert world.status()["broker"]["rejected"] == {"shard": 1}


# --- hanging


def beat(
    world: World, lag_ms: float = 0.0, name: str = "a", heard: dict[str, float] | None = None
) -> None:
    shards = world.broker.fleet.nodes[name].shards
    reports = tuple(ShardReport(shard, ShardState.READY) for shard in shards)
    body = Heartbeat(1, lag_ms, 1 << 20, 0, reports, heard=heard or {})
    world.give(
        FrameReceived(
            heartbeat_id(name, 1),
            encode_header(header(Kind.REQUEST, BROKER, topics.HEARTBEAT, correlation=7)),
            encode_body(body),
        )
    )


def killed(world: World) -> list[str]:
    lines = [effect.line for effect in world.effects if isinstance(effect, Order)]
    return [str(line["name"]) for line in lines if line.get("signal") == "KILL"]


def limited(**limits: float) -> World:
    world = World(lifecycle=LifecycleLimits(**limits))
    world.ask(B, topics.SUBSCRIBE, topics.TOPICS[topics.SUBSCRIBE].body(BOTH))
    return world


def pass_by(world: World, until: float) -> None:
    """Ticks whenever the broker wants one, and b beats twice a second."""
    while world.now < until:
        due = world.broker.next_deadline()
        assert due is not None and due > world.now - 1e-6
        world.now = min(max(due, world.now), until)
        world.broker.fleet.nodes["b"].heard_at = world.now
        world.give(Tick())


@pytest.mark.parametrize("hang_s", [2.3, 15.0])
def test_a_silent_node_is_given_up_exactly_at_its_time(hang_s: float) -> None:
    world = limited(hang_s=hang_s)
    beat(world)
    since = world.now
    pass_by(world, since + hang_s - 0.001)
    assert killed(world) == []
    assert states(world)[:2] == ["ready", "ready"]
    due = world.broker.next_deadline()
    assert due == pytest.approx(since + hang_s)
    pass_by(world, due)
    assert killed(world) == ["node:a"]
    reason = f"node a is killed: hangs: silent for {hang_s:g} s"
    said = [(topics.SHARD_DISCONNECT, ShardDisconnect(n, 4, 0, False, reason)) for n in (0, 1)]
    assert heard(world)[B] == said
    assert states(world) == ["hung", "hung", "ready", "ready"]
    assert counts(world) == {"shard_hung": 2}


@pytest.mark.parametrize(
    ("lag_ms", "state"), [(999.0, "up"), (1001.0, "degraded"), (14_998.0, "degraded")]
)
def test_a_loop_that_lags_is_degraded_only(lag_ms: float, state: str) -> None:
    world = limited()
    beat(world, lag_ms)
    assert (world.status()["nodes"][0]["state"], killed(world)) == (state, [])


def test_from_when_a_loop_is_degraded_is_configurable() -> None:
    world = limited(lag_s=0.5)
    beat(world, 501.0)
    assert world.status()["nodes"][0]["state"] == "degraded"


def test_a_loop_that_does_not_turn_hangs_at_the_beat_that_says_so() -> None:
    world = limited(hang_s=3.0)
    beat(world, 2999.9)
    assert killed(world) == ["node:a"]
    assert world.status()["nodes"][0]["reason"] == "hangs: its event loop did not turn for 3.0 s"
    beat(world, 4000.0)
    assert (killed(world), counts(world)) == (["node:a"], {"shard_hung": 2})


def test_a_hung_node_does_nothing_else_before_its_exit() -> None:
    world = limited()
    beat(world, 20_000.0)
    beat(world)
    world.register("a")
    tell(world, topics.SHARD_DISCONNECT, ShardDisconnect(0, 4))
    tell(world, topics.SHARD_READY, topics.TOPICS[topics.SHARD_READY].body(0, 4, 1))
    assert states(world)[:2] == ["hung", "hung"]
    spawned = [e.line for e in world.effects if isinstance(e, Order) and e.line["op"] == "spawn"]
    assert spawned == []
    world.exit("a", -9)
    assert states(world)[:2] == ["queued", "queued"]
    lines = [e.line for e in world.effects if isinstance(e, Order) and e.line["op"] == "spawn"]
    assert [line["epoch"] for line in lines] == [2]


def test_a_broker_that_did_not_run_blames_nobody() -> None:
    world = limited(hang_s=3.0)
    beat(world)
    world.now += 60.0
    world.give(Tick())
    assert killed(world) == []
