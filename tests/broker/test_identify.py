"""Permits and budget where something got lost: never one IDENTIFY more than may be sent."""

from __future__ import annotations

from typing import Any

from broker.core.effects import AskGateway
from broker.core.events import GatewayInfo, SupervisorHello, Tick
from broker.core.ledger import MARGIN_S
from broker.services.machine import Broker
from shard_node.wire import topics
from shard_node.wire.bodies import (
    ErrorBody,
    IdentifySent,
    PermitGrant,
    PermitRequest,
    RespawnReply,
    RespawnRequest,
)
from shard_node.wire.identity import operator_id
from tests.broker.test_services import A, B, World

WINDOW_S = 5.0 + MARGIN_S


def info(remaining: int = 990, max_concurrency: int = 1, reset_after_s: float = 3600.0) -> Any:
    return GatewayInfo(4, 1000, remaining, reset_after_s, max_concurrency)


def asked(world: World, who: bytes, shard: int) -> Any:
    return world.ask(who, topics.PERMIT, PermitRequest(shard, 4))


def sent(world: World, who: bytes, grant: PermitGrant, shard: int, ago_ms: float = 0.0) -> None:
    world.ask(who, topics.IDENTIFY_SENT, IdentifySent(grant.permit, shard, ago_ms))


def permits(world: World) -> list[int]:
    """Shards whose permit is outstanding, as the store knows it."""
    return sorted(permit.shard for permit in world.durable.ledger.permits)


def test_a_permit_asked_for_again_may_have_been_used() -> None:
    first = World()
    first.give(info())
    assert isinstance(asked(first, A, 0), PermitGrant)
    # The IDENTIFY left; the word of it was lost with the broker, and the session was refused.
    world = World(first.durable)
    world.give(info(989))
    assert asked(world, A, 0) is None
    assert world.status()["identify"]["remaining"] == 988
    world.now += WINDOW_S - 0.01
    world.give(Tick())
    assert permits(world) == []
    world.now += 0.02
    world.give(info(988))
    assert permits(world) == [0]


def test_other_keys_wait_for_the_permits_of_the_old_ones() -> None:
    world = World()
    world.give(info(max_concurrency=2))
    first, second = asked(world, A, 0), asked(world, A, 1)
    world.give(info(max_concurrency=1))
    assert world.status()["identify"]["remaining"] == 988, "both are outstanding"
    sent(world, A, first, 0)
    assert asked(world, B, 2) is None
    world.now += 10
    world.give(Tick())
    assert permits(world) == [1], "shards 1 and 2 share the only key"
    sent(world, A, second, 1)
    world.now += WINDOW_S
    world.give(info(max_concurrency=1))
    assert permits(world) == [2]
    assert world.status()["identify"]["max_concurrency"] == 1


def test_an_age_that_is_no_number_frees_no_key() -> None:
    world = World()
    world.give(info())
    sent(world, A, asked(world, A, 0), 0, ago_ms=float("nan"))
    assert asked(world, A, 1) is None
    world.now += WINDOW_S
    world.give(info())
    assert permits(world) == [1]


def test_what_else_uses_the_token_is_seen_before_a_permit_is_granted() -> None:
    world = World()
    world.give(info())
    world.now += 60.0
    world.effects.clear()
    assert asked(world, A, 0) is None
    assert [effect for effect in world.effects if isinstance(effect, AskGateway)]
    world.give(info(remaining=0))
    assert permits(world) == []
    warnings = world.status()["warnings"]
    assert "1 shard waits: no session start remains (reset in 1 h 00 min)" in warnings
    world.now += 20.0
    world.give(info(remaining=1))
    assert permits(world) == [0]
    assert world.status()["warnings"] == []


def test_a_hung_loop_is_the_nodes_reason() -> None:
    world = World()
    node = world.broker.fleet.nodes["a"]
    assert world.status()["nodes"][0]["reason"] == node.reason
    node.loop_lag_ms = 5000.0
    report = world.status()["nodes"][0]
    assert (report["state"], report["reason"]) == ("degraded", "loop lag 5.0 s")


def test_after_the_reset_discord_is_asked_for_the_new_budget() -> None:
    world = World()
    world.give(info(remaining=1, reset_after_s=60.0))
    respawn = RespawnRequest((0,))
    world.broker.fleet.resumable.clear()  # no session is known that could be RESUMEd
    refusal = world.ask(operator_id(1, 1), topics.RESPAWN, respawn)
    assert isinstance(refusal, ErrorBody)
    world.now += 60.0
    assert world.broker.next_deadline() <= world.now
    world.effects.clear()
    world.give(Tick())
    assert [effect for effect in world.effects if isinstance(effect, AskGateway)]
    world.give(info(remaining=1000, reset_after_s=86_400.0))
    assert world.status()["identify"]["remaining"] == 1000
    assert isinstance(world.ask(operator_id(1, 1), topics.RESPAWN, respawn), RespawnReply)


def test_a_whole_budget_is_not_asked_for_again() -> None:
    world = World()
    world.give(info(remaining=1000, reset_after_s=60.0))
    world.effects.clear()
    world.now += 3600
    world.give(Tick())
    assert not [effect for effect in world.effects if isinstance(effect, AskGateway)]


def test_permits_of_a_fleet_that_was_killed_hold_up_the_next_for_a_window_only() -> None:
    first = World()
    first.give(info())
    asked(first, A, 0)
    world = World(first.durable)
    world.broker = Broker(world.settings, world.durable, world.now)
    world.give(SupervisorHello(2, ()))
    assert permits(world) == []
    assert world.durable.ledger.free_at_s == {0: world.now + WINDOW_S}
