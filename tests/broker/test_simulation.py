"""Whole fleets in virtual time: the rhythm of IDENTIFYs, crashes, and broker deaths."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import ValuesView

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.events import StopAsked
from broker.core.fleet import FleetState
from broker.core.shardrow import ShardRow
from broker.core.states import NodeState
from shard_node.wire.bodies import ShardState
from shard_node.wire.shard_states import ShardEvent
from store.records import PlanNode, PlanRecord
from tests.support.fleet_sim import WINDOW_S, Sim

SLACK_S = 3.0


def started(sim: Sim, within_s: float = 600.0) -> Sim:
    sim.start_broker()
    assert sim.run(within_s, sim.all_ready)
    return sim


@pytest.mark.parametrize(("shards", "max_concurrency"), [(1, 1), (4, 1), (16, 4), (32, 16), (7, 2)])
def test_a_start_takes_the_theoretical_time(shards: int, max_concurrency: int) -> None:
    sim = Sim(shards=shards, max_concurrency=max_concurrency)
    begun = sim.now
    started(sim)
    least = (math.ceil(shards / max_concurrency) - 1) * WINDOW_S
    assert least <= sim.now - begun <= least + SLACK_S
    assert sim.discord.faults == []
    assert len(sim.discord.identifies) == shards


def test_discord_of_the_simulation_can_find_fault() -> None:
    """Planted: the checker of all the others sees a double use and an empty budget."""
    sim = Sim(shards=2, remaining=2)
    for at, shard in ((0.0, 0), (4.9, 1), (20.0, 0)):
        sim.discord.identify(shard, at)
    assert len(sim.discord.faults) == 2


def test_a_broker_with_too_short_a_window_is_found_out() -> None:
    """Planted: one that grants each key after 4 s."""
    sim = Sim(shards=4)
    sim.settings = dataclasses.replace(sim.settings, identify_window_s=4.0)
    started(sim)
    assert len(sim.discord.faults) == 3


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    shards=st.integers(1, 12),
    max_concurrency=st.sampled_from([1, 2, 4]),
    kills=st.lists(st.floats(0.0, 40.0), max_size=3),
)
def test_a_broker_that_dies_spends_no_identify(
    seed: int, shards: int, max_concurrency: int, kills: list[float]
) -> None:
    sim = Sim(shards=shards, max_concurrency=max_concurrency, seed=seed)
    for at in kills:
        sim.after(at, sim.kill_broker)
        sim.after(at + 0.3, lambda: None if sim.broker else sim.start_broker())
    sim.start_broker()
    sim.run(41)
    assert sim.run(600, sim.all_ready)
    assert sim.discord.faults == []
    assert len(sim.discord.identifies) == shards
    assert len(sim.spawns) <= len(sim.nodes)
    assert {node.epoch for node in sim.living()} == {1}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    crashes=st.lists(st.tuples(st.floats(0, 60), st.integers(0, 1)), max_size=4),
    kills=st.lists(st.floats(0, 60), max_size=2),
)
def test_nodes_and_brokers_that_die_never_break_the_rules(
    seed: int, crashes: list[tuple[float, int]], kills: list[float]
) -> None:
    sim = Sim(shards=6, max_concurrency=2, seed=seed, remaining=12)

    def crash(place: int) -> None:
        for node in sim.living():
            if node.index == place:
                node.exit(None, 9)

    for at, place in crashes:
        sim.after(at, lambda p=place: crash(p))
    for at in kills:
        sim.after(at, sim.kill_broker)
        sim.after(at + 0.2, lambda: None if sim.broker else sim.start_broker())
    sim.start_broker()
    sim.run(400)
    assert sim.discord.faults == []
    assert [row.state for _, row in sim.broker.fleet.shard_rows()].count(ShardState.READY) in range(
        7
    )


def test_a_budget_that_does_not_reach_starts_nothing() -> None:
    sim = Sim(shards=8, remaining=7)
    sim.start_broker()
    sim.run(5)
    assert sim.spawns == []
    assert sim.ended is not None
    assert sim.ended["exit_code"] == 1
    for part in ("E_IDENTIFY_BUDGET", "needs 8 session starts; 7 remain", "reset in 1 h 00 min"):
        assert part in sim.ended["reason"]


def test_a_budget_that_just_reaches_starts_all() -> None:
    sim = started(Sim(shards=5, remaining=5))
    assert sim.discord.remaining == 0
    assert sim.discord.faults == []


def test_a_node_that_dies_without_budget_waits_for_the_reset() -> None:
    sim = started(Sim(shards=4, remaining=4, nodes=1))
    sim.living()[0].exit(1)
    sim.run(120)
    assert not sim.all_ready()
    assert sim.discord.faults == []
    sim.discord.remaining = 1000
    assert sim.run(60, sim.all_ready)


def test_discord_away_at_the_start_is_asked_again() -> None:
    sim = Sim(shards=2)
    sim.discord.down = True
    sim.start_broker()
    sim.run(10)
    assert sim.spawns == []
    assert sim.broker.fleet.warnings
    sim.discord.down = False
    assert sim.run(60, sim.all_ready)
    assert not sim.broker.fleet.warnings


def test_a_crash_loop_stays_down_and_the_others_stay_up() -> None:
    sim = started(Sim(shards=4, nodes=2))
    sim.boot_code = lambda node: 1 if node.name == "a" else None
    next(node for node in sim.living() if node.name == "a").exit(1)
    sim.run(300)
    fleet = sim.broker.fleet
    assert fleet.nodes["a"].state is NodeState.FAILED
    assert fleet.nodes["b"].state is NodeState.UP
    assert [row.state.value for _, row in fleet.shard_rows()] == ["lost", "lost", "ready", "ready"]
    assert "last words" in fleet.nodes["a"].tail
    starts = [at for at, name, _ in sim.spawns if name == "a"]
    assert len(starts) == 5
    gaps = [b - a for a, b in itertools.pairwise(starts[1:])]
    assert gaps == sorted(gaps)


def test_a_fleet_that_ran_is_not_ended_by_its_last_crash_loop() -> None:
    """The gateway goes away first, so that no shard is ready when the nodes end."""
    sim = started(Sim(shards=4, nodes=2))
    for _, row in sim.broker.fleet.shard_rows():
        row.on(ShardEvent.INTERRUPTED)
    sim.boot_code = lambda node: 1
    for node in sim.living():
        node.exit(1)
    sim.run(300)
    states = {node.state for node in sim.broker.fleet.nodes.values()}
    assert (states, sim.ended) == ({NodeState.FAILED}, None)


def test_a_bot_that_cannot_be_loaded_stops_the_fleet() -> None:
    sim = Sim(shards=4, nodes=2)
    sim.boot_code = lambda node: 78
    sim.start_broker()
    assert sim.run(30, lambda: sim.ended is not None)
    assert sim.ended["exit_code"] == 78
    assert "E_CRASH_LOOP: no node came up" in sim.ended["reason"]
    assert len(sim.spawns) == 2


def test_the_bots_own_error_leads() -> None:
    sim = Sim(shards=4, nodes=2)
    sim.boot_code = lambda node: 78
    sim.tail = ("Traceback", "error[E_BOT_SYNTAX]: main.py:2: oh", "  hint: mend it")
    sim.start_broker()
    assert sim.run(30, lambda: sim.ended is not None)
    assert sim.ended["reason"] == "fatal: E_BOT_SYNTAX: main.py:2: oh; hint: mend it"


def test_a_bot_that_ends_by_itself_is_started_at_most_once_a_second() -> None:
    sim = Sim(shards=1, nodes=1)
    sim.boot_code = lambda node: 0
    sim.start_broker()
    sim.run(30)
    starts = [at for at, _, _ in sim.spawns]
    assert 20 <= len(starts) <= 31
    assert min(b - a for a, b in itertools.pairwise(starts)) >= 1.0


def test_a_silent_node_is_killed_before_it_is_replaced() -> None:
    sim = started(Sim(shards=2, nodes=1))
    first = sim.living()[0]
    first.hung = True
    hung_at = sim.now
    assert sim.run(60, lambda: not first.alive)
    assert 14 <= sim.now - hung_at <= 17
    assert sim.run(60, sim.all_ready)
    assert [node.epoch for node in sim.living()] == [2]


def test_a_broker_that_did_not_run_blames_nobody() -> None:
    sim = started(Sim(shards=2))
    sim.now += 60  # the process was stopped: no event, no tick
    sim.run(5)
    assert len(sim.spawns) == 2
    assert sim.all_ready()


def test_a_stop_ends_all_within_its_time() -> None:
    sim = started(Sim(shards=4))
    begun = sim.now
    sim.give(StopAsked("signal"))
    assert sim.run(10, lambda: sim.ended is not None)
    assert sim.now - begun < 1
    assert sim.ended == {"op": "stopped", "reason": "signal", "exit_code": 0}
    assert sim.living() == []


def test_a_stop_kills_who_does_not_end() -> None:
    sim = started(Sim(shards=4))
    sim.drain_takes_s = 1000
    begun = sim.now
    sim.give(StopAsked("signal"))
    assert sim.run(20, lambda: sim.ended is not None)
    assert 8.9 <= sim.now - begun <= 9.5


def test_a_stop_during_the_start_spawns_nothing_more() -> None:
    sim = Sim(shards=4)
    sim.start_broker()
    sim.after(0.0505, lambda: sim.give(StopAsked("signal")))
    assert sim.run(20, lambda: sim.ended is not None)
    spawned = len(sim.spawns)
    sim.run(30)
    assert len(sim.spawns) == spawned
    assert sim.living() == []


def test_a_full_disk_delays_and_breaks_nothing() -> None:
    sim = Sim(shards=2)
    sim.store_down = True
    sim.start_broker()
    sim.run(20)
    assert sim.spawns == []
    assert any("no room" in text for text in sim.broker.fleet.warnings.values())
    sim.store_down = False
    assert sim.run(30, sim.all_ready)
    assert sim.broker.fleet.warnings == {}


def test_a_plan_that_a_full_disk_refused_is_kept_before_a_node_starts() -> None:
    sim = Sim(shards=4, nodes=2)
    sim.durable.plan = PlanRecord(8, (PlanNode("a", 0, tuple(range(8))),))
    sim.store_down = True
    sim.start_broker()
    # Discord's answer comes, and room for the epochs: but not for the plan when it was made.
    sim.run(0.4)
    sim.store_down = False
    assert sim.run(60, sim.all_ready)
    sim.kill_broker()
    sim.run(0.2)
    sim.start_broker()
    assert sim.run(60, sim.all_ready)
    assert [(node.name, node.epoch) for node in sim.living()] == [("a", 1), ("b", 1)]


def test_an_exit_that_the_dead_broker_missed_counts() -> None:
    sim = started(Sim(shards=2, nodes=2))
    sim.kill_broker()
    sim.living()[0].exit(1)
    sim.run(1)
    sim.start_broker()
    assert sim.broker.fleet.nodes["a"].failures
    assert sim.run(60, sim.all_ready)
    assert sorted(node.epoch for node in sim.living()) == [1, 2]
    assert sim.discord.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_many_seeds(seed: int) -> None:
    sim = Sim(shards=1 + seed % 24, max_concurrency=(1, 2, 4, 16)[seed % 4], seed=seed)
    for at in (2.0, 2.5, 11.0):
        sim.after(at, sim.kill_broker)
        sim.after(at + 0.2, lambda: None if sim.broker else sim.start_broker())
    sim.start_broker()
    sim.run(12)
    assert sim.run(600, sim.all_ready)
    assert sim.discord.faults == []


def test_a_heartbeat_of_a_large_fleet_does_not_look_at_all_its_shards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10,000 shards start for hours, and 500 nodes beat each second of them."""
    sim = Sim(shards=64, nodes=8)
    sim.start_broker()
    sim.run(3)
    assert sim.broker is not None
    fleet, looks = sim.broker.fleet, 0
    assert fleet.state is FleetState.STARTING

    class Rows(dict[int, ShardRow]):
        def values(self) -> ValuesView[ShardRow]:
            nonlocal looks
            looks += 1
            return super().values()

    for node in fleet.nodes.values():
        monkeypatch.setattr(node, "rows", Rows(node.rows))
    sim.run(20)
    assert looks < 20
    assert sim.run(600, sim.all_ready)
    assert fleet.state is FleetState.RUNNING
