"""Loads evened out, asked for and unasked, through the real broker; and nothing to and fro."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from broker.core.balance import LOOKS, RESTS, Balancing, Load, Move, Unasked, imbalance
from broker.core.fleet import CPU_OVER_S, Node
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, ShardReport, StopRequest
from shard_node.wire.operations import BalanceRequest, MoveRequest, OpReply
from tests.support.handover_sim import HandNode, HandoverSim

EVERY_S = 60.0


class BusySim(HandoverSim):
    """Each shard has a rate of events."""

    def __init__(self, rates: dict[int, float], **options: Any) -> None:
        super().__init__(shards=len(rates), **options)
        self.rates = rates

    def _spawn(self, line: dict[str, Any]) -> None:
        super()._spawn(line)
        node = self.nodes[line["name"].removeprefix("node:"), line["epoch"]]
        assert isinstance(node, HandNode)
        plain = node.report

        def report(shard: int) -> ShardReport:
            return msgspec.structs.replace(plain(shard), events_per_s=self.rates[shard])

        node.report = report  # type: ignore[method-assign]


def uneven(**options: Any) -> BusySim:
    """Shards 0-3 of node a are busy."""
    rates = {shard: 100.0 if shard < 4 else 5.0 for shard in range(8)}
    return BusySim(rates, nodes=2, **options)


def asked(sim: HandoverSim, **options: Any) -> OpReply:
    reply = sim.ask(topics.BALANCE, BalanceRequest(**options))
    assert isinstance(reply, OpReply), reply
    return reply


def spread(sim: HandoverSim) -> dict[str, tuple[int, ...]]:
    assert sim.broker is not None
    return {node.name: node.shards for node in sim.broker.fleet.nodes.values()}


def test_the_busy_node_gives_shards_away() -> None:
    sim = uneven().started()
    dry = asked(sim, dry_run=True)
    assert dry.op == ""
    assert dry.plan["imbalance"] == pytest.approx(1.452, abs=0.01)
    moves = dry.plan["moves"]
    assert {(move["from"], move["to"]) for move in moves} == {("a", "b")}
    assert all(move["gain"] > 0 and move["events_per_s"] == 100.0 for move in moves)
    assert all(move["rss_bytes"] == (50 << 20) // 4 for move in moves)
    assert sim.durable.operations == {}
    reply = asked(sim)
    assert reply.plan == dry.plan
    record = sim.wait(reply.op)
    assert (record.state, record.kind) == ("done", "balance")
    sim.check()
    assert set(spread(sim)["b"]) >= {move["shard"] for move in moves}
    after = asked(sim)
    assert (after.op, after.plan["moves"]) == ("", [])
    assert after.plan["imbalance"] < 1.15
    assert len(sim.discord.identifies) == 8


def test_nothing_to_move_says_how_even_it_is() -> None:
    sim = HandoverSim(shards=4, nodes=2).started()
    assert asked(sim) == OpReply("", {"moves": [], "imbalance": 1.0})


def test_others_are_waited_for_by_name_and_a_stopping_fleet_refuses() -> None:
    sim = uneven().started()
    first = sim.ask(topics.MOVE, MoveRequest(0, "b"))
    error = sim.ask(topics.BALANCE, BalanceRequest())
    assert isinstance(error, ErrorBody)
    assert (error.code, error.details) == ("E_CONFLICT", {"op": first.op})
    sim.wait(first.op)
    sim.ask(topics.STOP, StopRequest())
    error = sim.ask(topics.BALANCE, BalanceRequest())
    assert error.code == "E_STOPPING"


def test_a_fleet_that_starts_is_not_judged() -> None:
    sim = uneven()
    sim.start_broker()
    sim.run(0.5)
    error = sim.ask(topics.BALANCE, BalanceRequest())
    assert isinstance(error, ErrorBody)
    assert error.code == "E_NOT_READY"


def test_a_node_that_dies_in_the_middle_ends_the_plan() -> None:
    sim = uneven().started()
    op = asked(sim).op
    sim.run(0.15)
    sim.node("b").exit(None, 9)
    assert sim.wait(op).state in ("done", "failed", "reverted")
    sim.check("shard_state", "old_epoch")
    assert len(sim.discord.identifies) == 8


# --- unasked


def unasked(sim: HandoverSim) -> HandoverSim:
    sim.settings = replace(sim.settings, balancing=Balancing(True, EVERY_S))
    return sim


def test_unasked_it_moves_after_three_looks_and_then_rests() -> None:
    sim = unasked(uneven()).started()
    sim.run(EVERY_S * 0.8)
    assert sim.durable.operations == {}
    sim.run(EVERY_S * 0.7)
    (record,) = sim.durable.operations.values()
    assert (record.kind, record.args["auto"]) == ("balance", True)
    assert sim.wait(record.id).state == "done"
    sim.run(EVERY_S * 10)
    assert len(sim.durable.operations) == 1
    sim.check()


def test_not_unasked_unless_it_is_wanted() -> None:
    sim = uneven().started()
    sim.run(EVERY_S * 5)
    assert sim.durable.operations == {}


def test_a_fleet_in_which_something_happens_is_not_looked_at() -> None:
    sim = unasked(uneven()).started()
    for _ in range(3):
        sim.run(EVERY_S * 0.8)
        sim.node("b").exit(None, 9)  # its loads are those of another process then
    sim.run(EVERY_S * 0.8)
    assert balances(sim) == []
    sim.run(EVERY_S)
    assert len(balances(sim)) == 1
    sim.check()


def balances(sim: HandoverSim) -> list[str]:
    return [op for op, one in sim.durable.operations.items() if one.kind == "balance"]


# --- 1,000 fleets


def moved(at: dict[int, str], moves: list[Move]) -> None:
    for move in moves:
        assert at[move.shard] == move.source
        at[move.shard] = move.target


def measured(rates: dict[int, float], at: dict[int, str]) -> list[Load]:
    return [Load(shard, at[shard], rate, rate * 1e-3, 1e7) for shard, rate in rates.items()]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_goes_to_and_fro(seed: int) -> None:
    """50 fleets each, an hour and a half of each: rates that vary by a fifth from look to look."""
    chance = random.Random(seed)
    for _ in range(50):
        means = {shard: chance.expovariate(0.1) for shard in range(12)}
        at = {shard: chance.choice("abcd") for shard in means}
        mind = Unasked(600.0, 0.0)
        left: set[tuple[int, str]] = set()
        count, now = 0, 0.0
        for _look in range(9 * LOOKS):
            now = mind.due_at
            rates = {shard: mean * chance.uniform(0.8, 1.2) for shard, mean in means.items()}
            moves = mind.look(measured(rates, at), "abcd", now)
            for move in moves:
                assert (move.shard, move.target) not in left, "it went back"
                left.add((move.shard, move.source))
            moved(at, moves)
            count += len(moves)
        assert count <= 2 * len(means)


def test_one_look_or_two_are_not_enough() -> None:
    busy = [Load(shard, "a" if shard < 6 else "b", 10.0) for shard in range(8)]
    even = [load._replace(node="ab"[load.shard % 2]) for load in busy]
    mind = Unasked(EVERY_S, 0.0)
    assert mind.due_at == pytest.approx(EVERY_S / LOOKS)
    looks = [busy, busy, even, busy, busy, [], busy, busy]
    assert [mind.look(loads, "ab", 0.0) for loads in looks] == [[]] * 8
    other = [load._replace(node="b" if load.node == "a" else "a") for load in busy]
    assert [mind.look(loads, "ab", 0.0) for loads in (other, other)] == [[], []]
    assert {move.source for move in mind.look(other, "ab", 0.0)} == {"b"}


def test_what_has_moved_stays_for_a_while() -> None:
    mind = Unasked(EVERY_S, 0.0)
    loads = [Load(0, "a", 10.0), Load(1, "a", 10.0), Load(2, "b", 0.1)]
    found = [mind.look(loads, "ab", 0.0) for _ in range(LOOKS)][-1]
    (move,) = found
    after = [load._replace(node="b") if load.shard == move.shard else load for load in loads]
    # Now its node is the busy one, by itself.
    after = [load._replace(events_per_s=50.0) if load.node == "b" else load for load in after]
    soon = [mind.look(after, "ab", EVERY_S) for _ in range(LOOKS)][-1]
    assert move.shard not in {one.shard for one in soon}
    late = [mind.look(after, "ab", EVERY_S * (RESTS + 2)) for _ in range(LOOKS)][-1]
    assert late
    assert imbalance(after, "ab") > 1.5


def test_cpu_is_that_of_the_last_minute_and_of_this_process() -> None:
    node = Node("a", 0, (), {}, epoch=1)
    node.worked(7.0, 100.0)  # its start: what it took to import the bot
    assert node.cpu == 0.0
    for second in range(101, 111):
        node.heartbeat_at = second - 1.0
        node.worked(7.0 + (second - 100) * 0.5, float(second))
    assert node.cpu == pytest.approx(0.5)
    for second in range(111, 111 + int(CPU_OVER_S) * 5):
        node.heartbeat_at = second - 1.0
        node.worked(node.cpu_s + 0.1, float(second))
    assert node.cpu == pytest.approx(0.1, abs=0.01)
    node.cpu_since = 1, -1.0  # its shards are others now
    for second in range(1000, 1003):
        node.worked(node.cpu_s + 0.9, float(second))
        node.heartbeat_at = float(second)
    assert node.cpu == pytest.approx(0.9)
    node.epoch = 2
    node.worked(0.9, 1003.0)
    assert node.cpu == 0.0
