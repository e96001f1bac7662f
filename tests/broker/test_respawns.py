"""Respawns: what is planned and said, and the steps in which the old process ends first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shard_node.wire import topics
from shard_node.wire.bodies import (
    ErrorBody,
    RespawnReply,
    RespawnRequest,
    ShardDisconnect,
    ShardState,
)
from shard_node.wire.handover import NO_JOURNAL
from shard_node.wire.operations import MoveRequest, OpRequest
from tests.support.handover_sim import HandoverSim

MIB = 1 << 20
Respawn = RespawnRequest


def begun(sim: HandoverSim, body: Respawn) -> RespawnReply:
    reply = sim.ask(topics.RESPAWN, body)
    assert isinstance(reply, RespawnReply), reply
    return reply


def with_memory(available: int) -> HandoverSim:
    sim = HandoverSim()
    sim.settings = replace(sim.settings, memory=lambda: available)
    return sim.started()


def test_where_memory_does_not_do_it_goes_in_sequence_and_says_so() -> None:
    sim = with_memory(100 * MIB)
    reply = begun(sim, Respawn((0,)))
    why = "a second process needs about 114 MiB, 100 MiB are free"
    assert reply.plan["in_sequence"] == {"a": why}
    assert sim.wait(reply.op).state == "done"
    sim.check()
    assert sorted((n.name, n.epoch) for n in sim.living()) == [("a", 2), ("b", 1)]
    assert not sim.nodes["a", 1].alive


def test_a_node_that_keeps_no_journal_is_respawned_in_sequence_and_no_shard_moves() -> None:
    sim = HandoverSim().started()
    sim.node("a").troubles = {NO_JOURNAL: 1}
    sim.run(2)
    for shard, target in ((0, "b"), (2, "a")):
        error = sim.ask(topics.MOVE, MoveRequest(shard, target))
        assert isinstance(error, ErrorBody)
        assert (error.code, error.hint) == (
            "E_NOT_READY",
            "its log says why; then: shardctl respawn --node a",
        )
        assert error.message.startswith("node a keeps no journal")
    reply = begun(sim, Respawn((0,)))
    why = "it keeps no journal, so nothing can be handed over"
    assert reply.plan["in_sequence"] == {"a": why}
    assert sim.wait(reply.op).state == "done"
    sim.check()
    assert not sim.nodes["a", 1].alive


def test_where_memory_does_it_is_two_processes() -> None:
    sim = with_memory(115 * MIB)
    reply = begun(sim, Respawn((0,)))
    assert reply.plan["in_sequence"] == {}
    assert sim.wait(reply.op).state == "done"
    assert sim.nodes["a", 1].alive


def test_memory_for_several_at_a_time_and_what_lingers_are_counted() -> None:
    sim = with_memory(150 * MIB)
    dry = begun(sim, Respawn((), everything=True, max_unavailable=2, dry_run=True))
    why = "a second process needs about 164 MiB, 150 MiB are free"
    assert dry.plan["in_sequence"] == {"a": why, "b": why}
    sim.wait(begun(sim, Respawn((0,))).op)
    sim.run(2)
    dry = begun(sim, Respawn((), everything=True, max_unavailable=2, dry_run=True))
    assert dry.plan["in_sequence"]["b"] == f"{why} (50 MiB in processes that linger)"


def test_memory_that_went_meanwhile_is_seen_when_the_turn_comes() -> None:
    left = [500 * MIB]
    sim = HandoverSim()
    sim.settings = replace(sim.settings, memory=lambda: left[0])
    sim.started()
    reply = begun(sim, Respawn((), everything=True))
    sim.run(0.5)
    left[0] = 1 * MIB
    assert sim.wait(reply.op).state == "done"
    sim.check()
    assert sim.nodes["a", 1].alive
    assert not sim.nodes["b", 1].alive


@pytest.mark.parametrize("away_s", [0.0, 0.2, 2.0])
@pytest.mark.parametrize("after_s", [0.01, 0.2, 0.4, 0.7, 1.0, 1.5])
def test_in_sequence_outlives_the_broker(after_s: float, away_s: float) -> None:
    sim = HandoverSim().started()
    identified = len(sim.discord.identifies)
    reply = begun(sim, Respawn((0,), in_sequence=True))
    sim.run(after_s)
    sim.kill_broker()
    sim.run(away_s)
    sim.start_broker()
    assert sim.wait(reply.op).state == "done"
    sim.check("old_epoch", "shard")
    assert len(sim.discord.identifies) == identified
    assert sim.node("a").epoch == 2


def test_in_sequence_a_new_process_that_crashes_fails_the_step() -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    sim.boot_code = lambda node: 1 if (node.name, node.epoch) == ("a", 2) else None
    reply = begun(sim, Respawn((), everything=True, in_sequence=True, abort_on_fail=True))
    record = sim.wait(reply.op)
    assert [step.state for step in record.steps] == ["failed", "cancelled", "cancelled"]
    assert record.steps[0].reason == "a#2 ended before it was ready (ended with 1)"
    sim.check()
    assert sim.node("a").epoch == 3


def test_a_node_that_stays_down_is_started() -> None:
    sim = HandoverSim().started()
    sim.boot_code = lambda node: 1 if node.name == "a" else None
    sim.node("a").exit(1)
    sim.run(300)
    assert sim.broker is not None
    assert sim.broker.fleet.nodes["a"].state == "failed"
    sim.boot_code = lambda node: None
    reply = begun(sim, Respawn((), nodes=("a",)))
    assert "failed" in reply.plan["in_sequence"]["a"]
    assert sim.wait(reply.op).state == "done"
    sim.check()
    assert not sim.broker.fleet.warnings


@pytest.mark.parametrize("in_sequence", [False, True])
def test_voice_is_counted_before_and_waited_for(in_sequence: bool) -> None:
    sim = HandoverSim().started()
    sim.node("a").voice = 3
    sim.run(2)
    reply = begun(sim, Respawn((0,), dry_run=True))
    assert reply.plan["voice"] == {"a": 6}
    reply = begun(sim, Respawn((0,), drain_voice_s=30.0, in_sequence=in_sequence))
    began = sim.now
    sim.run(20)
    assert sim.node("a").epoch == (1 if in_sequence else 2)
    assert not sim.is_over(reply.op)
    assert sim.shown(reply.op)["voice"] == 6
    assert sim.wait(reply.op).state == "done"
    assert sim.now - began > 30
    sim.check()


@pytest.mark.parametrize("in_sequence", [False, True])
def test_voice_that_leaves_is_waited_for_no_more(in_sequence: bool) -> None:
    sim = HandoverSim().started()
    sim.node("a").voice = 3
    sim.run(2)
    reply = begun(sim, Respawn((0,), drain_voice_s=60.0, in_sequence=in_sequence))
    began = sim.now
    sim.run(5)
    sim.nodes["a", 1].voice = 0  # type: ignore[attr-defined]
    assert sim.wait(reply.op).state == "done"
    assert sim.now - began < 20
    sim.check()


def test_in_sequence_can_be_cancelled_until_the_old_process_is_asked_to_end() -> None:
    sim = HandoverSim().started()
    sim.node("a").voice = 3
    sim.run(2)
    reply = begun(sim, Respawn((0,), drain_voice_s=60.0, in_sequence=True))
    sim.run(5)
    sim.ask(topics.OP_CANCEL, OpRequest(reply.op))
    assert sim.wait(reply.op).state == "cancelled"
    sim.check()
    assert sim.node("a").epoch == 1
    reply = begun(sim, Respawn((0,), in_sequence=True))
    sim.run(0.2)
    error = sim.ask(topics.OP_CANCEL, OpRequest(reply.op))
    assert error.code == "E_TOO_LATE"
    assert error.message == f"{reply.op} cannot be taken back any more: node a"
    assert sim.wait(reply.op).state == "done"
    sim.check()


def test_no_budget_is_said_before_anything_starts() -> None:
    sim = HandoverSim(remaining=5).started()
    sim.node("a").troubles = {NO_JOURNAL: 1}
    sim.run(2)
    error = sim.ask(topics.RESPAWN, Respawn((0,)))
    assert error.code == "E_IDENTIFY_BUDGET"
    assert error.message.startswith("needs 2 session starts; 1 remain")
    sim.run(5)
    assert sim.node("a").epoch == 1


def test_sessions_that_go_on_need_no_budget() -> None:
    sim = HandoverSim(remaining=4).started()
    assert sim.broker is not None
    sim.broker.fleet.resumable.clear()  # as of a broker that saw no journals
    sim.run(2)
    assert sim.wait(begun(sim, Respawn((), everything=True)).op).state == "done"
    sim.check()
    node = sim.node("a")
    sim.kill_broker()
    sim.start_broker()
    sim.run(5)
    assert sim.ask(topics.RESPAWN, Respawn((0,), dry_run=True)).plan["nodes"] == {"a": [0, 1]}
    ended = ShardDisconnect(1, 4, 4009, resumable=False)
    node.states[1] = ShardState.QUEUED
    node.send(topics.TOPICS[topics.SHARD_DISCONNECT].kind, topics.SHARD_DISCONNECT, ended)
    sim.run(0.1)
    error = sim.ask(topics.RESPAWN, Respawn((0,)))
    assert error.message.startswith("needs 1 session starts; 0 remain")


def test_the_fleet_is_ready_once_a_start() -> None:
    sim = HandoverSim()
    told: list[tuple[str, int]] = []
    sim.heard = lambda node, topic: (
        told.append((node.name, node.epoch)) if topic == topics.FLEET_READY else None
    )
    sim.started()
    assert told == [("a", 1)]
    sim.wait(begun(sim, Respawn((0,))).op)
    sim.kill_broker()
    sim.start_broker()
    sim.run(10)
    sim.check("old_epoch", "shard")
    assert told == [("a", 1)]
    sim.kill_broker()
    for node in sim.living():
        node.exit(None, 9)
    sim._missed.clear()
    sim.start_broker()
    assert sim.run(60, sim.all_ready)
    sim.run(2)
    assert len(told) == 2
