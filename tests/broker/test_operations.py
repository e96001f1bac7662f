"""Operations through the real broker: respawns and moves, and whoever dies meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from broker.core.operation import OPEN_MAX, OpState
from broker.core.states import NodeState
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, RespawnReply, RespawnRequest, ShardState
from shard_node.wire.handover import Phase
from shard_node.wire.operations import MoveRequest, OpReply, OpRequest, OpsRequest
from tests.support.handover_sim import HandNode, HandoverSim

Respawn = RespawnRequest


def begun(sim: HandoverSim, body: Respawn | MoveRequest) -> str:
    topic = topics.MOVE if isinstance(body, MoveRequest) else topics.RESPAWN
    reply = sim.ask(topic, body)
    assert isinstance(reply, RespawnReply | OpReply), reply
    assert reply.op
    return reply.op


def epochs(sim: HandoverSim) -> dict[str, int]:
    assert sim.broker is not None
    return {node.name: node.epoch for node in sim.broker.fleet.nodes.values()}


def test_a_respawn_hands_over_beside_the_old_process() -> None:
    sim = HandoverSim().started()
    identified = len(sim.discord.identifies)
    op = begun(sim, Respawn((1,)))
    record = sim.wait(op)
    assert record.state == "done"
    sim.check()
    assert epochs(sim) == {"a": 2, "b": 1}
    assert len(sim.discord.identifies) == identified
    assert sim.nodes["a", 1].alive
    shown = sim.shown(op)
    (step,) = shown["steps"]
    assert [(one["shard"], one["phase"], one["gap_ms"]) for one in step["progress"]] == [
        (0, "held", 60.0),
        (1, "held", 61.0),
    ]
    assert sim.broker is not None
    assert sim.broker.fleet.counts["transfers_done"] == 1


def test_a_successor_that_is_warm_is_armed_at_once() -> None:
    """It says so before it can know of the operation; nobody waits for its heartbeat."""
    sim = HandoverSim().started()
    sim.warm_s = 0.13
    said, armed = [], []

    def warm(node: HandNode) -> bool:
        return node.role == "successor" and any(p is Phase.WARM for _, p in node.phases.values())

    def look() -> bool:
        said.extend(sim.now for node in sim.nodes.values() if not said and warm(node))
        return bool(armed)

    sim.heard = lambda _, topic: armed.append(sim.now) if topic == topics.SHARD_ARM else None
    begun(sim, Respawn((1,)))
    assert sim.run(30, look)
    assert armed[0] - said[0] < 0.1


def test_all_nodes_one_after_the_other() -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    op = begun(sim, Respawn((), everything=True))
    seen = []

    def look() -> bool:
        fleet = sim.broker.fleet if sim.broker else None
        count = sum(proc.role == "successor" for proc in fleet.procs.values()) if fleet else 0
        seen.append(count)
        return sim.is_over(op)

    assert sim.run(200, look)
    assert max(seen) == 1
    assert sim.wait(op).state == "done"
    sim.check()
    assert epochs(sim) == {"a": 2, "b": 2, "c": 2}


def test_two_at_a_time_where_that_is_asked() -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    op = begun(sim, Respawn((), everything=True, max_unavailable=2))
    sim.run(1.2)
    assert len([n for n in sim.nodes.values() if n.role == "successor"]) == 2  # type: ignore[attr-defined]
    assert sim.wait(op).state == "done"
    sim.check()


def test_a_move() -> None:
    sim = HandoverSim().started()
    op = begun(sim, MoveRequest(1, "b"))
    assert sim.wait(op).state == "done"
    sim.check()
    assert epochs(sim) == {"a": 1, "b": 1}
    assert sim.broker is not None
    assert sim.broker.fleet.nodes["a"].shards == (0,)
    assert sim.broker.fleet.nodes["b"].shards == (1, 2, 3)
    assert sim.durable.plan is not None
    assert [node.shards for node in sim.durable.plan.nodes] == [(0,), (1, 2, 3)]
    back = begun(sim, MoveRequest(1, "a"))
    assert sim.wait(back).state == "done"
    sim.check()


# --- whoever dies


def at(phase: Phase, who: str) -> Callable[[HandoverSim, str], bool]:
    """Whether some process of node a (``old`` or ``new``) has come to a phase."""

    def look(sim: HandoverSim, target: str) -> bool:
        if who == "old":
            nodes = [sim.nodes["a", 1]]
        elif target == "b":
            nodes = [sim.nodes["b", 1]]
        else:
            nodes = [node for key, node in sim.nodes.items() if key == ("a", 2)]
        return any(
            known[1] is phase
            for node in nodes
            for known in node.phases.values()  # type: ignore[attr-defined]
        )

    return look


MOMENTS = {
    "begin": lambda sim, target: True,
    "warming": at(Phase.WARMING, "new"),
    "warm": at(Phase.WARM, "new"),
    "armed": at(Phase.ARMED, "new"),
    "released": at(Phase.RELEASED, "old"),
    "taking": at(Phase.TAKING, "new"),
    "held": at(Phase.HELD, "new"),
}


WHO = ("old", "new", "both", "broker", "broker and old", "broker and new")


def victims(sim: HandoverSim, target: str) -> dict[str, object]:
    new = sim.nodes.get(("b", 1) if target == "b" else ("a", 2))
    return {"old": sim.nodes["a", 1], "new": new}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["respawn", "move"])
@pytest.mark.parametrize("away_s", [0.0, 3.0])
def test_whoever_dies_at_whichever_moment(kind: str, moment: str, who: str, away_s: float) -> None:
    target = "b" if kind == "move" else "a"
    if kind == "move" and moment in ("warming", "warm"):
        pytest.skip("a node that is up has been warm for long")
    if away_s and "broker" not in who:
        pytest.skip("nobody is away")
    sim = HandoverSim().started()
    sim.take_s = 0.4
    identified = len(sim.discord.identifies)
    op = begun(sim, Respawn((0,)) if kind == "respawn" else MoveRequest(0, "b"))
    assert sim.run(60, lambda: MOMENTS[moment](sim, target))
    for name, node in victims(sim, target).items():
        if (name in who or who == "both") and node is not None:
            node.exit(None, 9)  # type: ignore[attr-defined]
    if "broker" in who:
        sim.kill_broker()
        sim.run(away_s)
        sim.start_broker()
    rejected = ("old_epoch", "shard") if "broker" in who else ()
    record = sim.wait(op)
    sim.check(*rejected)
    sim.run(30)
    sim.check(*rejected)
    assert len(sim.discord.identifies) == identified, "a session was lost"
    if who == "broker":
        assert record.state == "done", record


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["respawn", "move"])
def test_cancelled_before_the_flip_it_goes_back(kind: str, moment: str) -> None:
    target = "b" if kind == "move" else "a"
    if kind == "move" and moment in ("warming", "warm"):
        pytest.skip("a node that is up has been warm for long")
    sim = HandoverSim().started()
    sim.take_s = 0.4
    before = epochs(sim)
    op = begun(sim, Respawn((0,)) if kind == "respawn" else MoveRequest(0, "b"))
    assert sim.run(60, lambda: MOMENTS[moment](sim, target))
    reply = sim.ask(topics.OP_CANCEL, OpRequest(op))
    record = sim.wait(op)
    sim.check()
    if isinstance(reply, ErrorBody):
        assert reply.code == "E_TOO_LATE"
        assert (kind, moment, record.state) == ("move", "held", "done")
        return
    assert record.state == "cancelled"
    assert epochs(sim) == before
    sim.run(10)
    assert {(node.name, node.epoch) for node in sim.living()} == {("a", 1), ("b", 1)}


def test_what_is_over_cannot_be_cancelled() -> None:
    sim = HandoverSim().started()
    op = begun(sim, Respawn((0,)))
    sim.wait(op)
    error = sim.ask(topics.OP_CANCEL, OpRequest(op))
    assert (error.code, error.message) == ("E_TOO_LATE", "op-1 is done already")
    missing = sim.ask(topics.OP_SHOW, OpRequest("op-9"))
    assert missing.code == "E_NOT_FOUND"
    assert missing.details == {"exists": ["op-1"]}


# --- several operations


def test_a_second_operation_on_a_shard_is_refused_or_waits() -> None:
    sim = HandoverSim().started()
    first = begun(sim, Respawn((0,)))
    error = sim.ask(topics.MOVE, MoveRequest(1, "b"))
    assert isinstance(error, ErrorBody)
    assert error.code == "E_CONFLICT"
    assert error.message == f"shard 1 is being respawned by {first}"
    assert error.details == {"op": first}
    # Known before anything is said to begin; whoever waits sees the plan.
    assert sim.ask(topics.RESPAWN, Respawn((0,), dry_run=True)).code == "E_CONFLICT"
    assert sim.ask(topics.RESPAWN, Respawn((0,), dry_run=True, queue=True)).op == ""
    error = sim.ask(topics.MOVE, MoveRequest(2, "a"))
    assert error.message == f"node a is in use by {first}"
    second = begun(sim, MoveRequest(1, "b", queue=True))
    third = begun(sim, Respawn((1,), queue=True))
    assert sim.shown(second)["state"] == "waiting"
    assert sim.wait(first).state == "done"
    assert sim.wait(second).state == "done"
    assert sim.wait(third).state == "done"
    sim.check()
    assert sim.broker is not None
    assert sim.broker.fleet.nodes["b"].shards == (1, 2, 3)
    listed = sim.ask(topics.OPS, OpsRequest())
    assert [one["op"] for one in listed["operations"]] == [third, second, first]


def test_a_dry_run_tells_who_has_the_shard_or_the_node() -> None:
    sim = HandoverSim().started()
    first = begun(sim, MoveRequest(1, "b"))
    for body, text in (
        (MoveRequest(1, "b", dry_run=True), f"shard 1 is being moved by {first}"),
        (MoveRequest(2, "a", dry_run=True), f"node b is in use by {first}"),
    ):
        error = sim.ask(topics.MOVE, body)
        assert isinstance(error, ErrorBody), error
        assert (error.code, error.message) == ("E_CONFLICT", text)
    error = sim.ask(topics.RESPAWN, Respawn((2,), dry_run=True))
    assert isinstance(error, ErrorBody), error
    assert error.message == f"node b is in use by {first}"
    waits = sim.ask(topics.MOVE, MoveRequest(1, "b", dry_run=True, queue=True))
    assert waits == OpReply("", {"shard": 1, "from": "a", "to": "b"})


def test_so_many_wait_and_no_more() -> None:
    sim = HandoverSim().started()
    first = begun(sim, Respawn((1,)))
    for _ in range(OPEN_MAX - 1):
        last = begun(sim, Respawn((1,), queue=True))
    error = sim.ask(topics.RESPAWN, Respawn((1,), queue=True))
    assert isinstance(error, ErrorBody), error
    assert error.code == "E_BUSY"
    assert error.message == f"{OPEN_MAX} operations run or wait already, {OPEN_MAX} at most"
    assert error.details == {"op": first}
    sim.ask(topics.OP_CANCEL, OpRequest(last))
    begun(sim, Respawn((1,), queue=True))


@pytest.mark.parametrize("away_s", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.8])
def test_a_new_broker_goes_on_with_two_processes(after_s: float, away_s: float) -> None:
    """A process that has not reported to it yet can hand over all the same, once it has."""
    sim = HandoverSim().started()
    first, second = begun(sim, Respawn((1,))), begun(sim, Respawn((2,), queue=True))
    sim.run(after_s)
    sim.kill_broker()
    sim.run(away_s)
    sim.start_broker()
    for op in (first, second):
        record = sim.wait(op)
        assert (record.state, record.args["in_sequence"]) == ("done", [])
    sim.check()
    assert sim.nodes["a", 1].alive
    assert sim.nodes["b", 1].alive


@pytest.mark.parametrize("beats", [True, False])
def test_who_never_reports_to_the_new_broker_is_not_waited_for_without_end(beats: bool) -> None:
    sim = HandoverSim().started()
    op = begun(sim, Respawn((1,)))
    sim.kill_broker()
    node = sim.nodes["a", 1]
    node.register = lambda: None  # type: ignore[method-assign]
    if not beats:
        node.beat = lambda: None  # type: ignore[method-assign]
    sim.start_broker()
    record = sim.wait(op, 1500.0)
    assert record.state == "done"
    assert record.args["in_sequence"] == ["a"]
    assert not node.alive
    sim.check("old_epoch", "shard")


def test_the_last_ones_are_kept_and_shown_by_pages() -> None:
    sim = HandoverSim(shards=2, nodes=2).started()
    for count in range(70):
        # A shard of a node that goes back and forth costs no process.
        op = begun(sim, MoveRequest(0, "ba"[count % 2]))
        sim.wait(op)
    sim.run(1)
    assert len(sim.durable.operations) == 64
    page = sim.ask(topics.OPS, OpsRequest(3))
    assert (page["page"], page["pages"]) == (3, 4)
    assert page["operations"][-1]["op"] == "op-7"
    sim.check()


# --- what fails


def test_a_new_version_that_crashes_leaves_the_old_process_in_place() -> None:
    sim = HandoverSim().started()
    sim.tail = ("Traceback", "ZeroDivisionError: nought")
    sim.boot_code = lambda node: 1 if node.role == "successor" else None  # type: ignore[attr-defined]
    op = begun(sim, Respawn((0,)))
    record = sim.wait(op)
    assert record.state == "failed"
    assert record.reason == "node a: a#2 ended (ended with 1)"
    assert sim.shown(op)["tail"] == ["Traceback", "ZeroDivisionError: nought"]
    sim.check()
    assert epochs(sim) == {"a": 1, "b": 1}


def test_one_that_never_gets_ready_is_ended() -> None:
    sim = HandoverSim().started()
    sim.warm_s = 1e6
    op = begun(sim, Respawn((0,)))
    began = sim.now
    record = sim.wait(op)
    assert record.state == "failed"
    assert "a#2 did not become ready within 60 s ([lifecycle] ready_s)" in record.reason
    assert 59 < sim.now - began < 63
    sim.check()
    sim.run(15)
    assert {(node.name, node.epoch) for node in sim.living()} == {("a", 1), ("b", 1)}


@pytest.mark.parametrize("abort", [False, True])
def test_after_a_step_that_failed(abort: bool) -> None:
    sim = HandoverSim(shards=6, nodes=3).started()
    sim.boot_code = lambda node: 1 if (node.name, node.epoch) == ("a", 2) else None
    op = begun(sim, Respawn((), everything=True, abort_on_fail=abort))
    record = sim.wait(op)
    sim.check()
    states = [step.state for step in record.steps]
    assert states == ["failed", *(["cancelled"] * 2 if abort else ["done"] * 2)]
    assert epochs(sim) == ({"a": 1, "b": 1, "c": 1} if abort else {"a": 1, "b": 2, "c": 2})


def test_a_target_that_cannot_connect() -> None:
    sim = HandoverSim().started()
    sim.refuses = {0}
    op = begun(sim, MoveRequest(0, "b"))
    record = sim.wait(op)
    assert record.reason == "node a: b#1 could not connect"
    sim.check()
    assert epochs(sim) == {"a": 1, "b": 1}


def test_a_source_that_does_not_let_go_is_killed() -> None:
    sim = HandoverSim().started()
    sim.node("a").deaf_to = {topics.SHARD_RELEASE}
    op = begun(sim, Respawn((0,)))
    assert sim.wait(op).state == "done"
    sim.check()
    assert not sim.nodes["a", 1].alive


def test_a_store_that_takes_nothing_is_no_end() -> None:
    sim = HandoverSim().started()
    op = begun(sim, Respawn((0,)))
    assert sim.run(30, lambda: MOMENTS["held"](sim, "a"))
    sim.store_down = True
    sim.run(20)
    assert not sim.is_over(op)
    sim.store_down = False
    assert sim.wait(op).state == "done"
    sim.check()


def test_an_operation_that_cannot_be_kept_is_refused() -> None:
    sim = HandoverSim().started()
    sim.store_down = True
    error = sim.ask(topics.RESPAWN, Respawn((0,)))
    assert error.code == "E_STORE"
    sim.store_down = False
    assert begun(sim, Respawn((0,)))
    sim.run(30)
    sim.check()


def test_the_fleets_stop_cancels_all() -> None:
    sim = HandoverSim().started()
    op = begun(sim, Respawn((), everything=True))
    assert sim.run(30, lambda: MOMENTS["armed"](sim, "a"))
    sim.ask(topics.STOP, topics.bodies.StopRequest())
    assert sim.run(30, lambda: sim.ended is not None)
    record = sim.record(op)
    assert record is not None
    assert (record.state, record.reason) == (OpState.CANCELLED, "the fleet stops")
    assert {step.reason for step in record.steps} == {"the fleet stops"}
    assert not sim.living()
    error = sim.ask(topics.RESPAWN, Respawn((0,)))
    assert error.code == "E_STOPPING"


def test_a_fleet_started_anew_marks_what_was_interrupted() -> None:
    sim = HandoverSim().started()
    op = begun(sim, Respawn((0,)))
    sim.run(0.2)
    sim.kill_broker()
    for node in sim.living():
        node.exit(None, 9)
    sim._missed.clear()
    sim.start_broker()
    assert sim.run(60, sim.all_ready)
    record = sim.record(op)
    assert record is not None
    assert record.state == "failed"
    assert "interrupted" in record.reason


# --- words


def test_what_is_refused_before_anything_starts() -> None:
    sim = HandoverSim()
    limits = dataclasses.replace(sim.settings.lifecycle, survivors="never")
    sim.settings = dataclasses.replace(sim.settings, lifecycle=limits)
    sim.started()

    def code(topic: str, body: object) -> str:
        error = sim.ask(topic, body)
        assert isinstance(error, ErrorBody)
        return f"{error.code}: {error.message}"

    assert code(topics.RESPAWN, Respawn((9,))) == "E_NOT_FOUND: no shard 9 in the fleet"
    assert code(topics.RESPAWN, Respawn((), nodes=("z",))) == "E_NOT_FOUND: no node z in the fleet"
    assert code(topics.RESPAWN, Respawn(())).startswith("E_BAD_REQUEST")
    assert code(topics.RESPAWN, Respawn((0,), everything=True)).startswith("E_BAD_REQUEST")
    assert code(topics.RESPAWN, Respawn((0,), max_unavailable=0)).startswith("E_BAD_REQUEST")
    assert code(topics.MOVE, MoveRequest(9, "b")) == "E_NOT_FOUND: no shard 9 in the fleet"
    assert code(topics.MOVE, MoveRequest(0, "z")) == "E_NOT_FOUND: no node 'z' in the fleet"
    assert code(topics.MOVE, MoveRequest(0, "a")) == "E_SAME: shard 0 is on a already"
    sim.boot_code = lambda node: 1
    for _ in range(5):
        sim.node("b").exit(1) if any(n.name == "b" for n in sim.living()) else None
        sim.run(20)
    assert sim.broker is not None
    assert sim.broker.fleet.nodes["b"].state is NodeState.FAILED
    assert code(topics.MOVE, MoveRequest(0, "b")).startswith("E_LOST: node b is failed")
    assert code(topics.MOVE, MoveRequest(2, "a")).startswith("E_NOT_READY: shard 2 is lost")


def test_a_dry_run_changes_nothing() -> None:
    sim = HandoverSim().started()
    reply = sim.ask(topics.RESPAWN, Respawn((1,), dry_run=True))
    assert (reply.op, reply.nodes) == ("", {"a": (0, 1)})
    assert reply.plan["moves_along"] == {"0": "a"}
    moved = sim.ask(topics.MOVE, MoveRequest(1, "b", dry_run=True))
    assert moved == OpReply("", {"shard": 1, "from": "a", "to": "b"})
    sim.run(5)
    assert sim.durable.operations == {}
    assert epochs(sim) == {"a": 1, "b": 1}


def test_all_rows_stay_ready_to_a_watcher() -> None:
    """From P's release to Q's RESUMED a shard is not ready, and it is said so."""
    sim = HandoverSim().started()
    op = begun(sim, Respawn((0,)))
    states = set()

    def look() -> bool:
        assert sim.broker is not None
        states.update(row.state for _, row in sim.broker.fleet.shard_rows() if row.id == 0)
        return sim.is_over(op)

    assert sim.run(60, look)
    assert states <= {ShardState.READY, ShardState.RELEASING, ShardState.RESUMING}
