"""A node dies: one that lives takes its shards by RESUME, and gives them back later."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from broker.core.limits import LifecycleLimits
from broker.core.operation import OpState
from broker.services.survivors import ADOPT
from shard_node.wire import topics
from shard_node.wire.operations import MoveRequest
from store.records import OperationRecord
from tests.support.handover_sim import HandoverSim


def started(survivors: str = "always", **sizes: Any) -> HandoverSim:
    sim = HandoverSim(**({"shards": 4, "nodes": 2} | sizes))
    limits = LifecycleLimits(survivors=survivors)
    sim.settings = dataclasses.replace(sim.settings, lifecycle=limits)
    return sim.started()


def alive(sim: HandoverSim, name: str) -> bool:
    return any(node.name == name and node.alive for node in sim.nodes.values())


def operations(sim: HandoverSim, kind: str) -> list[OperationRecord]:
    return [one for one in sim.durable.operations.values() if one.kind == kind]


def over(sim: HandoverSim, kind: str, count: int = 1) -> bool:
    return sum(one.state == OpState.DONE for one in operations(sim, kind)) == count


def holders(sim: HandoverSim) -> dict[int, str]:
    assert sim.broker is not None
    rows = sim.broker.fleet.shard_rows()
    return {row.id: node.name for node, row in rows}


def test_a_survivor_has_the_shards_at_once_and_gives_them_back() -> None:
    sim = started()
    identified = len(sim.discord.identifies)
    sim.node("a").exit(None, 9)
    died = sim.now
    assert sim.run(30, lambda: sim.locks[0] is sim.nodes["b", 1] and sim.locks[1] is not None)
    assert sim.now - died < 0.5
    assert sim.run(30, lambda: over(sim, "adopt"))
    assert holders(sim) == dict.fromkeys(range(4), "b")
    assert sim.run(60, lambda: over(sim, "return"))
    assert holders(sim) == {0: "a", 1: "a", 2: "b", 3: "b"}
    sim.check()
    assert len(sim.discord.identifies) == identified
    assert sim.broker is not None
    assert sim.broker.fleet.counts["shard_adopted"] == 2


def test_never_means_never() -> None:
    sim = started("never")
    sim.node("a").exit(None, 9)
    sim.check()
    assert operations(sim, "adopt") == []


def test_a_process_that_is_back_soon_needs_nobody() -> None:
    sim = started("auto")
    sim.node("a").exit(None, 9)
    sim.check()
    assert operations(sim, "adopt") == []
    # The next one has to wait longer, so does the third.
    sim.node("a").exit(None, 9)
    assert sim.run(5, lambda: over(sim, "adopt"))
    sim.check()


def test_the_wait_after_failures_is_kept() -> None:
    sim = started()
    starts = []
    for _ in range(3):
        sim.node("a").exit(None, 9)
        died = sim.now
        assert sim.run(90, lambda: alive(sim, "a"))
        starts.append(sim.now - died)
        assert sim.run(30, sim.all_ready)
    assert starts[1] > 0.8
    assert starts[2] > 1.5
    sim.check()


def test_a_node_without_shards_that_dies_is_started_as_ever() -> None:
    sim = started()
    sim.node("a").exit(None, 9)
    assert sim.run(30, lambda: over(sim, "adopt") and alive(sim, "a"))
    sim.node("a").exit(None, 9)
    assert sim.run(60, lambda: over(sim, "return"))
    sim.check()
    assert len(operations(sim, "adopt")) == 1


def test_the_survivor_dies_too() -> None:
    sim = started(shards=6, nodes=3)
    sim.node("a").exit(None, 9)
    assert sim.run(30, lambda: over(sim, "adopt"))
    taker = holders(sim)[0]
    sim.node(taker).exit(None, 9)
    assert sim.run(120, lambda: over(sim, "return"))  # nobody had room for four more
    sim.check()
    assert holders(sim) == {0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 5: "c"}


@pytest.mark.parametrize(
    "after_s", [0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 2.0, 11.0, 11.2]
)
def test_whenever_a_broker_or_the_survivor_dies_each_shard_gets_its_holder(after_s: float) -> None:
    for victim in ("broker", "survivor", "both"):
        sim = started(shards=6, nodes=3)
        sim.node("a").exit(None, 9)
        sim.run(after_s, lambda: False)
        if victim != "broker":
            holder = sim.locks.get(0)
            name = holder.name if holder is not None else "b"
            if alive(sim, name):
                sim.node(name).exit(None, 9)
        if victim != "survivor":
            sim.kill_broker()
            sim.run(0.5, lambda: False)
            sim.start_broker()
        assert sim.run(60, sim.all_ready), victim
        sim.run(60, lambda: False)
        sim.check("unregistered", "old_epoch", "shard")


def test_a_survivor_that_died_while_no_broker_was_there_is_started_again() -> None:
    sim = started(shards=6, nodes=3)
    sim.node("a").exit(None, 9)
    assert sim.run(1, lambda: bool(operations(sim, ADOPT)))
    taker = operations(sim, ADOPT)[0].steps[0].target
    sim.kill_broker()
    sim.node(taker).exit(None, 9)
    sim.run(0.5, lambda: False)
    sim.start_broker()
    assert sim.run(20, sim.all_ready)
    sim.run(60, lambda: False)
    sim.check("unregistered", "old_epoch", "shard")


def test_a_return_that_cannot_be_is_tried_again() -> None:
    sim = started(shards=6, nodes=3)
    sim.refuses = {0, 1}
    sim.node("a").exit(None, 9)
    # Nobody can connect them: the process of the node does it by itself.
    assert sim.run(200, sim.all_ready)
    sim.refuses = set()
    sim.check()


def test_no_survivor_has_room() -> None:
    sim = started(shards=4, nodes=1)
    sim.node("a").exit(None, 9)
    sim.check()
    assert operations(sim, "adopt") == []


def test_what_an_operator_spreads_anew_stays() -> None:
    sim = started()
    sim.node("a").exit(None, 9)
    assert sim.run(30, lambda: over(sim, "adopt") and sim.broker is not None)
    assert sim.run(5, lambda: alive(sim, "a"))
    sim.run(3)
    reply = sim.ask(topics.MOVE, MoveRequest(0, "a"))
    assert sim.wait(reply.op).state == OpState.DONE
    sim.run(60)
    sim.check()
    assert operations(sim, "return") == []
    assert holders(sim) == {0: "a", 1: "b", 2: "b", 3: "b"}


def test_a_node_that_dies_while_the_store_keeps_nothing_is_started_again() -> None:
    """Its shards were to be taken over, and that could not be written down."""
    sim = started()
    sim.store_down = True
    sim.node("a").exit(None, 9)
    sim.run(1)
    sim.store_down = False
    assert sim.run(60, sim.all_ready)
    sim.check()
