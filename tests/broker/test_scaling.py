"""More nodes and fewer, through the real broker, and whoever dies meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from broker.core.limits import LifecycleLimits
from broker.core.operation import OpState
from broker.core.states import NodeState
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, RespawnRequest, StopRequest
from shard_node.wire.handover import NO_JOURNAL, Phase
from shard_node.wire.operations import MoveRequest, OpReply, OpRequest, ScaleRequest
from tests.support.handover_sim import HandNode, HandoverSim

MIB = 1 << 20
SEEDS = min(200, int(os.environ.get("SHARDCTL_SEEDS", "10")))


def begun(sim: HandoverSim, nodes: int, **options: Any) -> str:
    reply = sim.ask(topics.SCALE, ScaleRequest(nodes, **options))
    assert isinstance(reply, OpReply), reply
    assert reply.op
    return reply.op


def refused(sim: HandoverSim, nodes: int, **options: Any) -> ErrorBody:
    reply = sim.ask(topics.SCALE, ScaleRequest(nodes, **options))
    assert isinstance(reply, ErrorBody), reply
    return reply


def spread(sim: HandoverSim) -> dict[str, tuple[int, ...]]:
    assert sim.broker is not None
    return {node.name: node.shards for node in sim.broker.fleet.nodes.values()}


def planned(sim: HandoverSim) -> dict[str, tuple[int, ...]]:
    assert sim.durable.plan is not None
    return {node.name: node.shards for node in sim.durable.plan.nodes}


def living(sim: HandoverSim) -> list[str]:
    return sorted(node.name for node in sim.living())


def whole(sim: HandoverSim) -> None:
    """The plan, the processes and the broker agree, and each shard is somewhere once."""
    sim.run(5)
    sim.check("old_epoch", "shard_state", "shard")
    assert spread(sim) == planned(sim)
    assert living(sim) == sorted(spread(sim))
    assert sorted(shard for shards in spread(sim).values() for shard in shards) == sorted(sim.locks)


def test_more_nodes_take_shards_over() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    identified = len(sim.discord.identifies)
    dry = sim.ask(topics.SCALE, ScaleRequest(4, dry_run=True))
    assert dry.op == ""
    assert (dry.plan["start"], dry.plan["end"]) == (["c", "d"], [])
    assert [set(move) for move in dry.plan["moves"]] == [
        {"shard", "from", "to", "events_per_s", "cpu", "rss_bytes", "gain"}
    ] * 4
    assert sim.durable.operations == {}
    op = begun(sim, 4)
    assert sim.wait(op).state == "done"
    whole(sim)
    assert sorted(len(shards) for shards in spread(sim).values()) == [2, 2, 2, 2]
    assert list(spread(sim)) == ["a", "b", "c", "d"]
    assert len(sim.discord.identifies) == identified
    assert {node.name: node.epoch for node in sim.living()} == dict.fromkeys("abcd", 1)
    shown = sim.shown(op)
    assert (shown["kind"], shown["args"]["nodes"]) == ("scale", 4)
    assert [step["node"] for step in shown["steps"] if not step["shards"]] == ["c", "d"]


def test_fewer_nodes_the_last_ones_end() -> None:
    sim = HandoverSim(shards=8, nodes=4).started()
    identified = len(sim.discord.identifies)
    op = begun(sim, 2)
    record = sim.wait(op)
    assert record.state == "done"
    whole(sim)
    assert [len(shards) for shards in spread(sim).values()] == [4, 4]
    assert living(sim) == ["a", "b"]
    assert len(sim.discord.identifies) == identified
    ends = [step.node for step in record.steps if not step.shards]
    assert ends == ["d", "c"]
    assert not any(node.epoch > 1 for node in sim.nodes.values()), "somebody was started again"


def test_a_node_in_which_something_waits_lingers() -> None:
    sim = HandoverSim(shards=8, nodes=4).started()
    sim.node("c").lingers = sim.node("d").lingers = 2
    op = begun(sim, 2)
    record = sim.wait(op, 30)
    assert record.state == "done"
    assert record.steps[-1].reason == "2 views, modals or handlers wait in it, 900 s at most"
    assert living(sim) == ["a", "b", "c", "d"]
    assert sim.broker is not None
    nodes = sim.broker.fleet.nodes
    assert [nodes[name].shown_state for name in "abcd"] == ["up", "up", "lingering", "lingering"]
    assert sorted(planned(sim)) == ["a", "b"]
    sim.run(60)
    assert living(sim) == ["a", "b", "c", "d"]
    sim.node("d").lingers = 0
    sim.run(3)
    assert living(sim) == ["a", "b", "c"]
    back = begun(sim, 3)  # its name is wanted
    assert sim.wait(back, 30).state == "done"
    whole(sim)
    assert {node.name: node.epoch for node in sim.living()} == {"a": 1, "b": 1, "c": 2}


def test_nothing_lingers_for_ever_nor_where_that_is_not_wanted() -> None:
    sim = HandoverSim(shards=8, nodes=3).started()
    sim.node("c").lingers = 1
    sim.wait(begun(sim, 2), 30)
    sim.run(890)
    assert living(sim) == ["a", "b", "c"]
    sim.run(15)
    whole(sim)
    sim = HandoverSim(shards=8, nodes=3)
    sim.settings = replace(sim.settings, lifecycle=LifecycleLimits(linger_s=0))
    sim.started()
    sim.node("c").lingers = 1
    sim.wait(begun(sim, 2), 30)
    whole(sim)


def test_names_come_back_with_new_epochs() -> None:
    sim = HandoverSim(shards=4, nodes=4).started()
    for nodes in (2, 3, 4, 1):
        assert sim.wait(begun(sim, nodes)).state == "done"
        whole(sim)
        assert list(spread(sim)) == ["a", "b", "c", "d"][:nodes]
    epochs = [epoch for _, name, epoch in sim.spawns if name == "c"]
    assert epochs == [1, 2]


def test_as_many_as_there_are() -> None:
    sim = HandoverSim().started()
    reply = sim.ask(topics.SCALE, ScaleRequest(2))
    assert reply == OpReply("", {"start": [], "end": [], "moves": []})
    assert sim.durable.operations == {}


@pytest.mark.parametrize("nodes", [0, -3, 5])
def test_no_such_number(nodes: int) -> None:
    sim = HandoverSim().started()
    error = refused(sim, nodes)
    assert error.code == "E_BAD_REQUEST"
    assert error.message == f"4 shards cannot be spread over {nodes} nodes"
    assert error.hint == "from 1 to 4: a node has one shard at least"


def test_no_memory_for_more_changes_nothing() -> None:
    sim = HandoverSim(shards=8, nodes=2)
    free = 180 * MIB
    sim.settings = replace(sim.settings, memory=lambda: free)
    sim.started()
    error = refused(sim, 5)
    assert error.code == "E_MEMORY"
    assert error.message == "3 more nodes need about 214 MiB, 180 MiB are free"
    assert error.hint == "there is room for 2 more"
    assert error.details == {"needed": 214 * MIB, "available": free, "fits": 2}
    assert refused(sim, 5, dry_run=True).code == "E_MEMORY"
    assert sim.durable.operations == {}
    assert living(sim) == ["a", "b"]
    assert sim.wait(begun(sim, 4)).state == "done"
    whole(sim)


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_node_without_a_journal_hands_nothing_over(nodes: int) -> None:
    sim = HandoverSim(shards=4, nodes=2).started()
    for node in sim.living():
        assert isinstance(node, HandNode)
        node.troubles = {NO_JOURNAL: 1}
    sim.run(3)
    error = refused(sim, nodes)
    assert error.code == "E_NOT_READY"
    assert "keeps no journal" in error.message


def test_one_scale_at_a_time_and_no_move_of_its_shards() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    op = begun(sim, 4)
    for topic, body in (
        (topics.SCALE, ScaleRequest(3)),
        (topics.MOVE, MoveRequest(7, "a")),
    ):
        error = sim.ask(topic, body)
        assert isinstance(error, ErrorBody)
        assert error.code == "E_CONFLICT"
        assert op in error.message
        assert error.details == {"op": op}
    queued = begun(sim, 3, queue=True)
    assert sim.wait(op).state == "done"
    assert sim.wait(queued).state == "done"
    whole(sim)
    assert list(spread(sim)) == ["a", "b", "c"]


def test_what_waited_is_planned_anew() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    first = begun(sim, 4)
    second, third = begun(sim, 4, queue=True), begun(sim, 6, queue=True)
    for op in (first, second, third):
        assert sim.wait(op).state == "done"
    assert sim.wait(second).steps == ()
    whole(sim)
    assert list(spread(sim)) == ["a", "b", "c", "d", "e", "f"]


def test_a_bot_that_crashes_leaves_the_fleet_as_it_was() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    before = spread(sim)
    sim.boot_code = lambda node: 1 if node.name == "d" else None
    record = sim.wait(begun(sim, 4))
    assert record.state == "failed"
    assert "d#" in record.reason
    sim.run(30)
    whole(sim)
    assert spread(sim) == before
    assert sim.broker is not None
    assert sim.broker.fleet.warnings == {}
    sim.boot_code = lambda node: None
    assert sim.wait(begun(sim, 4)).state == "done"
    whole(sim)


def test_a_node_that_never_comes_up() -> None:
    sim = HandoverSim(shards=4, nodes=2).started()
    before = spread(sim)
    sim.boot_code = lambda node: 78
    record = sim.wait(begun(sim, 3))
    assert record.state == "failed"
    assert record.reason == "node c: c#1 ended with 78 before it was ready"
    shown = sim.shown(record.id)
    assert shown["tail"] == ["last words"]
    whole(sim)
    assert spread(sim) == before


def cancel(sim: HandoverSim, op: str) -> Any:
    return sim.ask(topics.OP_CANCEL, OpRequest(op))


@pytest.mark.parametrize("after_s", [0.1, 0.5, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(("nodes", "wanted"), [(2, 4), (4, 2)])
def test_cancelled(nodes: int, wanted: int, after_s: float) -> None:
    """What has moved stays where it is; nodes without a shard end."""
    sim = HandoverSim(shards=8, nodes=nodes).started()
    op = begun(sim, wanted)
    sim.run(after_s)
    cancel(sim, op)
    record = sim.wait(op)
    assert record.state in ("cancelled", "done")
    whole(sim)
    assert all(spread(sim).values())


# --- whoever dies


def some(phase: Phase) -> Callable[[HandoverSim], bool]:
    return lambda sim: any(
        known[1] is phase
        for node in sim.living()
        if isinstance(node, HandNode)
        for known in node.phases.values()
    )


def starting(sim: HandoverSim) -> bool:
    return sim.broker is not None and any(
        node.state in (NodeState.STORING, NodeState.SPAWNING, NodeState.STARTING)
        for node in sim.broker.fleet.nodes.values()
    )


def ending(sim: HandoverSim) -> bool:
    return sim.broker is not None and any(node.retired for node in sim.broker.fleet.nodes.values())


MOMENTS: dict[str, Callable[[HandoverSim], bool]] = {
    "begin": lambda sim: True,
    "starting": starting,
    "planned": lambda sim: len(planned(sim)) != 3,
    "armed": some(Phase.ARMED),
    "released": some(Phase.RELEASED),
    "taking": some(Phase.TAKING),
    "held": some(Phase.HELD),
    "ending": ending,
}


@pytest.mark.parametrize("wanted", [5, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_broker_that_dies_in_the_middle_goes_on(moment: str, wanted: int) -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    op = begun(sim, wanted)
    times = 0
    while not sim.is_over(op) and times < 4:
        if not sim.run(60, lambda: sim.is_over(op) or MOMENTS[moment](sim)):
            break
        sim.kill_broker()
        times += 1
        sim.run(0.4)
        sim.start_broker()
        sim.run(1.0)
    assert sim.wait(op).state == "done"
    whole(sim)
    assert len(spread(sim)) == wanted
    assert len(sim.discord.identifies) == 6


@pytest.mark.parametrize("victim", "abcde")
@pytest.mark.parametrize("moment", ["starting", "armed", "released", "taking", "held", "ending"])
@pytest.mark.parametrize("wanted", [5, 1])
def test_a_node_that_dies_in_the_middle(moment: str, victim: str, wanted: int) -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    op = begun(sim, wanted)
    sim.run(60, lambda: sim.is_over(op) or MOMENTS[moment](sim))
    found = [node for node in sim.living() if node.name == victim]
    for node in found:
        node.exit(None, 9)
    record = sim.wait(op)
    assert record.state in ("done", "failed", "reverted")
    sim.run(60)
    whole(sim)
    assert all(spread(sim).values()), "a node was left without a shard"
    assert len(sim.discord.identifies) == 6


@pytest.mark.parametrize("wanted", [5, 2])
def test_a_store_that_fails_for_a_while(wanted: int) -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    op = begun(sim, wanted)
    for _ in range(6):
        sim.store_down = True
        sim.run(0.7)
        sim.store_down = False
        sim.run(0.4)
    assert sim.wait(op).state == "done"
    whole(sim)
    assert len(spread(sim)) == wanted


def test_a_store_that_cannot_keep_the_operation() -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    sim.store_down = True
    assert refused(sim, 4).code == "E_STORE"
    sim.store_down = False
    sim.run(5)
    whole(sim)
    assert len(spread(sim)) == 3


# --- the next start


def stopped(sim: HandoverSim) -> None:
    for node in sim.living():
        node.stop()
    sim.kill_broker()
    sim.run(5)
    assert not sim.living()
    sim._missed.clear()
    sim.locks.clear()


def test_the_next_start_takes_the_plan_that_stands() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    assert sim.wait(begun(sim, 4)).state == "done"
    before = planned(sim)
    stopped(sim)
    sim.started()
    assert spread(sim) == before
    stopped(sim)
    sim.settings = replace(sim.settings, nodes=3)
    sim.started()
    assert list(spread(sim)) == ["a", "b", "c"]
    assert [len(shards) for shards in spread(sim).values()] == [3, 3, 2]


def test_a_start_after_a_scale_that_was_interrupted() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    op = begun(sim, 4)
    sim.run(60, lambda: len([1 for shards in planned(sim).values() if shards]) == 3)
    stopped(sim)
    sim.started()
    assert sim.wait(op).state == "failed"
    assert len(spread(sim)) in (3, 4)
    assert all(spread(sim).values())
    whole(sim)
    assert sim.wait(begun(sim, 4)).state == "done"
    whole(sim)


def test_a_stop_in_the_middle_ends_all() -> None:
    sim = HandoverSim(shards=8, nodes=2).started()
    op = begun(sim, 4)
    assert sim.run(30, lambda: some(Phase.RELEASED)(sim))
    sim.ask(topics.STOP, StopRequest())
    assert sim.run(30, lambda: sim.ended is not None)
    assert not sim.living()
    record = sim.record(op)
    assert record is not None
    assert record.state == OpState.CANCELLED


def test_a_respawn_of_a_node_keeps_a_scale_waiting() -> None:
    sim = HandoverSim(shards=8, nodes=4).started()
    first = sim.ask(topics.RESPAWN, RespawnRequest((7,)))
    error = refused(sim, 2)
    assert error.message == f"shard 6 is being respawned by {first.op}"
    op = begun(sim, 2, queue=True)
    assert sim.wait(first.op).state == "done"
    assert sim.wait(op).state == "done"
    sim.run(1000)
    whole(sim)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_it_ends_with_a_plan_that_was_meant(seed: int) -> None:
    """Scales one after the other, with deaths of nodes and of the broker, and a store that fails
    for a moment, at random."""
    sim = HandoverSim(shards=8, nodes=3, seed=seed).started()
    chance = sim.random
    for _ in range(3):
        wanted = chance.randint(1, 8)
        op = sim.ask(topics.SCALE, ScaleRequest(wanted)).op
        while op and not sim.is_over(op):
            if sim.run(chance.uniform(0.05, 1.5), lambda op=op: sim.is_over(op)):  # type: ignore[misc]
                break
            fault = chance.randrange(6)
            if fault == 0 and sim.living():
                chance.choice(sim.living()).exit(None, 9)
            elif fault == 1:
                sim.kill_broker()
                sim.run(chance.uniform(0.0, 2.0))
                sim.start_broker()
            elif fault == 2:
                sim.store_down = True
                sim.run(chance.uniform(0.0, 1.0))
                sim.store_down = False
        done = not op or sim.wait(op).state == "done"
        sim.run(60)
        whole(sim)
        assert all(spread(sim).values()), "a node was left without a shard"
        if done:
            assert len(spread(sim)) == wanted
