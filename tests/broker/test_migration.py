"""Guilds that go from process to process through the real broker, and whoever dies meanwhile."""

from __future__ import annotations

import os
from typing import Any

import pytest

from broker.core import migration
from broker.core.migration import Command, Flip, GuildFacts, Migration, Stage
from broker.services.homes import Homes
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, RespawnRequest
from shard_node.wire.migration import MigrateRequest, MigrationsRequest
from shard_node.wire.operations import MoveRequest, OpReply, OpRequest
from tests.support.guild_sim import GuildSim

SEEDS = int(os.environ.get("SHARDCTL_SEEDS", "60"))


def world(**options: Any) -> GuildSim:
    sim = GuildSim(**options)
    sim.started()
    sim.play()
    sim.run(0.5)
    return sim


def guild_of(sim: GuildSim, shard: int = 0) -> int:
    return next(one for one in sim.guilds if (one >> 22) % sim.discord.shards == shard)


def begun(sim: GuildSim, body: MigrateRequest) -> str:
    reply = sim.ask(topics.MIGRATE, body)
    assert isinstance(reply, OpReply), reply
    return reply.op


def owner(sim: GuildSim, guild: int) -> str:
    """Who handled its last event."""
    sim.run(0.2)
    return sim.guilds[guild].handled[-1][1]


def test_there_and_back() -> None:
    sim = world()
    guild = guild_of(sim)
    assert owner(sim, guild) == "a#1"
    assert sim.wait(begun(sim, MigrateRequest(guild, "b"))).state == "done"
    assert owner(sim, guild) == "b#1"
    (row,) = sim.ask(topics.MIGRATIONS, MigrationsRequest())["guilds"]
    assert (row["guild"], row["node"], row["gateway_node"]) == (str(guild), "b", "a")
    assert sim.wait(begun(sim, MigrateRequest(guild, back=True))).state == "done"
    assert owner(sim, guild) == "a#1"
    assert sim.durable.guilds == {}
    sim.judge()


def test_on_to_a_third_node() -> None:
    sim = world(shards=6, nodes=3)
    guild = guild_of(sim)
    for target in ("b", "c", "a"):
        assert sim.wait(begun(sim, MigrateRequest(guild, target))).state == "done"
        assert owner(sim, guild) == f"{target}#1"
    sim.judge()


def test_it_follows_the_next_process_of_its_node() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.wait(begun(sim, MigrateRequest(guild, "b")))
    reply = sim.ask(topics.RESPAWN, RespawnRequest((), nodes=("b",)))
    sim.wait(reply.op)
    assert sim.run(20, lambda: owner(sim, guild) == "b#2")
    sim.judge()


def test_a_dead_target_gives_it_back_and_gets_it_again() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.wait(begun(sim, MigrateRequest(guild, "b")))
    died_at = sim.now
    sim.node("b").exit(None, 9)
    assert sim.run(5, lambda: sim.guilds[guild].handled[-1][1] == "a#1")
    assert sim.now - died_at < 1.0
    assert sim.run(90, lambda: owner(sim, guild) == "b#2")
    assert sim.now - died_at >= 30.0
    sim.judge()


def test_after_too_many_deaths_it_stays() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.wait(begun(sim, MigrateRequest(guild, "b")))
    for _ in range(4):
        assert sim.run(120, lambda: owner(sim, guild).startswith("b#"))
        sim.node("b").exit(None, 9)
        assert sim.run(5, lambda: sim.guilds[guild].handled[-1][1] == "a#1")
    sim.run(100)
    assert owner(sim, guild) == "a#1"
    assert sim.broker is not None
    assert "died 4 times" in sim.broker.fleet.warnings[f"guild_{guild}"]


def test_it_goes_along_with_the_shard_it_was_given_to() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.wait(begun(sim, MigrateRequest(guild, shard=2)))
    assert owner(sim, guild) == "b#1"
    sim.wait(sim.ask(topics.MOVE, MoveRequest(2, "a")).op)
    assert sim.run(20, lambda: owner(sim, guild) == "a#1")
    sim.judge()


def test_its_own_shard_comes_to_its_owner() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.wait(begun(sim, MigrateRequest(guild, "b")))
    sim.wait(sim.ask(topics.MOVE, MoveRequest(0, "b")).op)
    assert sim.run(20, lambda: sim.guilds[guild].away is None)
    assert owner(sim, guild) == "b#1"
    sim.judge()


def test_who_cannot_read_it_does_not_get_it() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.refused.add(guild)
    record = sim.wait(begun(sim, MigrateRequest(guild, "b")))
    assert record.state == "failed"
    assert record.reason == f"guild {guild}: it cannot be read"
    assert owner(sim, guild) == "a#1"
    sim.judge()


def test_a_cancelled_one_goes_back() -> None:
    sim = world()
    guild = guild_of(sim)
    sim.node("a").deaf_to.add(topics.GUILD_HOLD)
    op = begun(sim, MigrateRequest(guild, "b"))
    sim.run(0.01)
    sim.ask(topics.OP_CANCEL, OpRequest(op))
    assert sim.wait(op).state == "cancelled"
    sim.judge()


def test_bad_input_is_refused_in_words() -> None:
    sim = world(shards=6, nodes=3)
    guild = guild_of(sim)

    def refused(body: MigrateRequest) -> str:
        error = sim.ask(topics.MIGRATE, body)
        assert isinstance(error, ErrorBody), error
        return f"{error.code}: {error.message}"

    assert refused(MigrateRequest(guild, "z")) == "E_NOT_FOUND: no node 'z' in the fleet"
    assert refused(MigrateRequest(guild, shard=9)) == "E_NOT_FOUND: no shard 9 in the fleet"
    assert refused(MigrateRequest(guild, "a")).startswith("E_SAME: guild")
    assert refused(MigrateRequest(guild, back=True)).startswith("E_SAME: guild")
    assert refused(MigrateRequest(guild)).startswith("E_BAD_REQUEST: name a node")
    assert refused(MigrateRequest(guild, "b", drain_s=-1.0)).startswith("E_BAD_REQUEST: drain_s")
    first = begun(sim, MigrateRequest(guild, "b"))
    second = refused(MigrateRequest(guild, "c"))
    assert second == f"E_CONFLICT: guild {guild} is being migrated by {first}"
    queued = begun(sim, MigrateRequest(guild, "c", queue=True))
    assert sim.wait(queued).state == "done"
    assert owner(sim, guild) == "c#1"
    sim.judge()


# --- whoever dies, whatever is lost


def disturb(sim: GuildSim) -> None:
    """Something happens."""
    alive = [node for node in sim.nodes.values() if node.alive]
    what = sim.random.randrange(5)
    if what == 0 and len(alive) > 1:
        sim.random.choice(alive).exit(None, 9)
    elif what == 1 and sim.broker is not None:
        sim.kill_broker()
        sim.after(sim.random.uniform(0.1, 1.0), sim.start_broker)
    elif what == 2:
        sim.store_down = True
        sim.after(0.3, lambda: setattr(sim, "store_down", False))
    elif what == 3:
        sim.loss = 0.3
        sim.after(2.0, lambda: setattr(sim, "loss", 0.0))


def live_through(seed: int) -> GuildSim:
    """A world of three nodes, and a dozen ways of guilds with accidents in between."""
    sim = world(shards=3, nodes=3, guilds=3, seed=seed)
    for _ in range(8):
        if sim.broker is not None and sim.all_ready():
            guild = sim.random.choice(list(sim.guilds))
            name = sim.random.choice(["a", "b", "c", ""])
            body = MigrateRequest(guild, name, back=not name, queue=True)
            sim.ask(topics.MIGRATE, body)
        sim.run(sim.random.uniform(0.0, 0.4))
        disturb(sim)
        sim.run(sim.random.choice([0.05, 0.5, 6.0]))
        if sim.broker is None:
            sim.run(2, lambda: sim.broker is not None)
        sim.run(30, sim.all_ready)
    return sim


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_each_event_is_handled_once(seed: int) -> None:
    sim = live_through(seed)
    sim.judge()


def red() -> bool:
    """Whether some world of a few is not as it should be."""
    for seed in range(40):
        try:
            live_through(seed).judge()
        except AssertionError:
            return True
    return False


def _no_undo(self: Migration, reason: str, now: float) -> None:
    self.reason = reason
    self._go(Stage.ROUTING, now, 1.0)


def _untaken(self: Migration, _facts: GuildFacts, now: float) -> list[Command]:
    self._go(Stage.FLIPPING, now, 2.0)
    return [Flip()]


def _unheld(self: Migration, _facts: GuildFacts, now: float) -> list[Command]:
    self._go(Stage.RELEASING, now, 2.0)
    return []


FAULTS: dict[str, tuple[object, str, Any]] = {
    "it is not undone": (Migration, "_undo", _no_undo),
    "it is flipped before it is taken": (Migration, "_taking", _untaken),
    "its events are not held": (Migration, "_holding", _unheld),
    "nobody follows": (Homes, "_look_at", lambda *_: []),
}
STEPS = {"_taking": Stage.TAKING, "_holding": Stage.HOLDING}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, name, wrong = FAULTS[fault]
    monkeypatch.setattr(where, name, wrong)
    if name in STEPS:
        monkeypatch.setitem(migration._STEPS, STEPS[name], wrong)
    assert red()
