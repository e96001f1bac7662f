"""Several living processes of one node: whom each is, what each may say, and what reaches it.

a#1 lingers, a#2 is the node, a#3 is to take its place; b#1 is alone.
"""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.effects import Commit
from broker.core.events import Committed, FrameReceived, Process, Promoted, SupervisorHello
from broker.core.processes import STOP_GRACE_S, end_beside
from broker.core.procs import Role
from broker.core.settings import Settings
from broker.services.living import part_of_each
from broker.services.machine import Broker
from shard_node.wire import topics
from shard_node.wire.batch import Flag
from shard_node.wire.bodies import (
    CommandSync,
    CommandSyncReply,
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    LeaseReply,
    LeaseRequest,
    PermitRequest,
    Register,
    ShardReport,
    ShardState,
    StatusRequest,
    Welcome,
)
from shard_node.wire.codec import decode_body, encode_body, encode_header
from shard_node.wire.handover import Phase
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import heartbeat_id, node_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import ALL, BROKER, Guild, Node, Shard, Topic
from store.records import Durable, OperationRecord, StepRecord
from tests.broker.test_data_plane import KEPT, Plane

A1, A2, A3, A9, B = (node_id(*who) for who in (("a", 1), ("a", 2), ("a", 3), ("a", 9), ("b", 1)))
RESENT = KEPT | int(Flag.RESENT)


def record(number: int, state: str, old: int, new: int, *, flipped: bool) -> OperationRecord:
    step = StepRecord("a", (0, 1), "done" if flipped else "running", old, new, flipped=flipped)
    return OperationRecord(f"op-{number}", "respawn", state, {}, (step,), number, 0, "boot")


OPERATIONS = (record(1, "done", 1, 2, flipped=True), record(2, "running", 2, 3, flipped=False))


def living(name: str, epoch: int, shards: tuple[int, ...]) -> Process:
    return Process(name, epoch, 100 + epoch, "ab".index(name), shards, 4, 0.0)


PROCESSES = (*(living("a", epoch, (0, 1)) for epoch in (1, 2, 3)), living("b", 1, (2, 3)))


class Several(Plane):
    """A broker that finds them, each of them registered unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        durable = Durable(operations={one.id: one for one in OPERATIONS})
        self.broker = Broker(Settings("f", "app", "boot"), durable, 0.0)
        self.on(SupervisorHello(1, PROCESSES))

    def on(self, event: Any) -> None:
        """An event, and the commits that it leads to."""
        effects = self.broker.on(event, self.now)
        while effects:
            commits = [one.token for one in effects if isinstance(one, Commit)]
            effects = [e for token in commits for e in self.broker.on(Committed(token), self.now)]

    def register(self, name: str, epoch: int) -> None:
        assert self.enter(node_id(name, epoch)).accepted

    def enter(self, who: bytes) -> Welcome:
        name, epoch = who.decode().split("#")
        phase = Phase.WARM.value if who == A3 else ""
        state = ShardState.QUEUED if who == A3 else ShardState.READY
        shards = (0, 1) if name == "a" else (2, 3)
        reports = tuple(ShardReport(shard, state, phase=phase) for shard in shards)
        body = Register(name, int(epoch), 1, 4, reports, topics=("mine",))
        welcome = self.answer(who, topics.REGISTER, body, Welcome)
        assert isinstance(welcome, Welcome)
        return welcome

    def joined(self, *who: bytes) -> Several:
        for one in who or (A1, A2, A3, B):
            assert self.enter(one).accepted
        self.pump()
        self.got.clear()
        return self

    def answer(self, who: bytes, topic: str, body: Any, kind: Any) -> Any:
        before = len(self.got.get(who, []))
        head = header(Kind.REQUEST, BROKER, topic, lane=Lane.CONTROL, correlation=9)
        self.frame(who, head, encode_body(body))
        self.pump()
        found = [(h, b) for h, b in self.got[who][before:] if h.correlation == 9]
        (head, data), *more = found
        assert not more
        return decode_body(data, ErrorBody if head.kind is Kind.ERROR else kind)

    def frame(self, who: bytes, head: Any, body: bytes) -> None:
        self.on(FrameReceived(who, encode_header(head), body))

    def promote(self) -> None:
        self.broker.fleet.promote("a", 3, self.now)
        self.on(Promoted("a", 2, 3))
        self.pump()

    def heard(self, *among: bytes) -> dict[bytes, list[int]]:
        """The numbers of the frames that came to each."""
        found = {who: [h.seq for h in self.batches(who)] for who in among or (A1, A2, A3, B)}
        self.got.clear()
        return {who: seqs for who, seqs in found.items() if seqs}


# --- who they are


def test_a_new_broker_knows_them_by_the_records() -> None:
    fleet = Several().broker.fleet
    assert fleet.nodes["a"].epoch == 2
    parts = {key: (proc.role, proc.op) for key, proc in fleet.procs.items()}
    assert parts == {("a", 1): (Role.LINGERING, "op-1"), ("a", 3): (Role.SUCCESSOR, "op-2")}
    assert fleet.nodes["a"].last_epoch == 3


def test_of_those_that_no_record_names_the_newest_is_the_node() -> None:
    parts = part_of_each(PROCESSES, ())
    assert [(one.name, one.epoch) for one in parts.current] == [("a", 3), ("b", 1)]
    assert [one.epoch for one in parts.strangers] == [1, 2]
    assert parts.beside == ()


def test_a_successor_of_an_operation_that_is_over_is_a_stranger() -> None:
    over = record(2, "failed", 2, 3, flipped=False)
    parts = part_of_each(PROCESSES, (OPERATIONS[0], over))
    assert [(one.name, one.epoch) for one in parts.current] == [("a", 2), ("b", 1)]
    assert [one.epoch for one in parts.strangers] == [3]


def test_each_may_register_and_beat_and_a_stranger_may_not() -> None:
    plane = Several()
    for who in (A1, A2, A3, A2, A3, A1):
        assert plane.enter(who).accepted
        name, epoch = who.decode().split("#")
        beat = Heartbeat(1, 0.0, 7, 0, ())
        ack = plane.answer(heartbeat_id(name, int(epoch)), topics.HEARTBEAT, beat, HeartbeatAck)
        assert ack.registered
    refused = plane.enter(A9)
    assert not refused.accepted
    assert "not the current process" in refused.reason
    assert {proc.rss_bytes for proc in plane.broker.fleet.procs.values()} == {7}
    assert plane.broker.fleet.table.shard(0) == plane.broker.fleet.table.node("a")


def test_status_names_each() -> None:
    plane = Several().joined()
    reply = plane.answer(operator_id(1, 1), topics.STATUS, StatusRequest(), dict[str, Any])
    a = next(node for node in reply["nodes"] if node["id"] == "a")
    assert (a["epoch"], a["pid"]) == (2, 102)
    found = [(one["epoch"], one["role"], one["pid"]) for one in a["processes"]]
    assert found == [(1, "lingering", 1), (3, "successor", 1)]


def test_one_that_is_late_has_its_time_to_end() -> None:
    plane = Several().joined()
    fleet, proc = plane.broker.fleet, plane.broker.fleet.procs["a", 3]
    until = 7.0 + fleet.settings.drain_s + STOP_GRACE_S
    proc.due_at = 7.0
    for now in (7.0, 9.0):  # asked again it does not get more
        end_beside(fleet, proc, "late", now)
        assert proc.due_at == until


# --- frames


@pytest.mark.parametrize("who", [A1, A2, A3])
def test_frames_of_each_pass(who: bytes) -> None:
    plane = Several().joined()
    sent = [plane.batch(target, sender=who) for target in (Node("b"), Shard(2), ALL)]
    plane.pump()
    assert plane.heard() == {B: sent}
    plane.batch(Node("b"), sender=A9)
    plane.pump()
    assert plane.bounces(A9) == [(1, "E_OLD_EPOCH")]
    assert plane.heard() == {}


@pytest.mark.parametrize(
    "target",
    [Node("a"), Shard(0), Guild(0), Topic("mine")],
    ids=["node", "shard", "guild", "topic"],
)
def test_the_name_the_shards_and_the_topics_are_the_current_ones(target: Any) -> None:
    plane = Several().joined()
    first = plane.batch(target, sender=B)
    plane.pump()
    assert plane.heard(A1, A2, A3) == {A2: [first]}
    plane.promote()
    second = plane.batch(target, sender=B)
    plane.pump()
    assert plane.heard(A1, A2, A3) == {A3: [second]}


@pytest.mark.parametrize("who", [A1, A2, A3])
def test_each_is_reached_by_its_own_name(who: bytes) -> None:
    plane = Several().joined()
    sent = [plane.batch(Node(who.decode()), sender=B)]
    plane.promote()
    sent.append(plane.batch(Node(who.decode()), sender=B))
    plane.pump()
    assert plane.heard() == {who: sent}


@pytest.mark.parametrize("who", [A1, A2, A3])
def test_what_comes_before_its_registration_waits_for_it_alone(who: bytes) -> None:
    plane = Several().joined(*({A1, A2, A3, B} - {who}))
    sent = plane.batch(Node(who.decode()), sender=B)
    plane.pump()
    assert plane.heard() == {}
    assert plane.bounces(B) == []
    assert plane.enter(who).accepted
    plane.pump()
    assert plane.heard() == {who: [sent]}


def test_what_is_for_one_that_ended_comes_back_and_goes_to_no_other() -> None:
    plane = Several().joined(A2, A3, B)
    waits = plane.batch(Node("a#1"), sender=B)
    plane.die("a", 1)
    late = plane.batch(Node("a#1"), sender=B)
    never = plane.batch(Node("a#9"), sender=B)
    plane.pump()
    assert plane.bounces(B) == [(seq, "E_UNREACHABLE") for seq in (waits, late, never)]
    assert plane.heard() == {}


def test_what_waits_for_the_name_goes_to_the_new_one_and_what_is_pinned_stays() -> None:
    plane = Several().joined()
    plane.blocked = {A2}
    free = [plane.batch(target, sender=B) for target in (Node("a"), Shard(1))]
    copy = plane.batch(Topic("mine"), sender=B)
    named = plane.batch(Node("a#2"), sender=B)
    pinned = plane.batch(Node("a"), sender=B, flags=RESENT, pin="a#2")
    plane.pump()
    plane.promote()
    plane.blocked = set()
    plane.pump()
    assert plane.heard(A1, A2, A3) == {A3: [copy, *free], A2: [named, pinned]}


def test_what_was_sent_to_one_that_lingers_is_sent_again_to_it_as_long_as_it_lives() -> None:
    plane = Several().joined()
    plane.promote()
    first = plane.batch(Node("a"), sender=B, flags=RESENT, pin="a#2")
    plane.pump()
    assert plane.heard() == {A2: [first]}
    plane.die("a", 2)
    plane.got.clear()
    second = plane.batch(Node("a"), sender=B, flags=RESENT, pin="a#2")
    plane.pump()
    (head,) = plane.batches(A3)
    assert head.flags & Flag.REROUTED
    assert plane.heard() == {A3: [second]}


def test_the_end_of_one_is_told_by_its_epoch_and_leaves_the_node_alone() -> None:
    plane = Several().joined()
    plane.die("a", 1)
    told = [h.topic for h, _ in plane.got[B] if h.kind is Kind.EVENT]
    assert told == [topics.NODE_GONE]
    sent = plane.batch(Node("a"), sender=B)
    plane.pump()
    assert plane.heard() == {A2: [sent]}
    assert ("a", 1) not in plane.broker.fleet.procs


# --- what only one of them may have


def lease(plane: Several, who: bytes) -> Any:
    return plane.answer(who, topics.LEASE, LeaseRequest("daily", 60.0), LeaseReply)


def test_a_lease_of_one_that_lingers_is_free_and_it_gets_none() -> None:
    plane = Several().joined()
    assert not lease(plane, A1).granted
    assert lease(plane, A2).granted
    assert not lease(plane, A3).granted
    plane.promote()
    assert not lease(plane, A2).granted
    assert lease(plane, A3).granted
    assert not lease(plane, A1).granted


def test_a_successor_keeps_its_lease_when_it_is_the_node() -> None:
    plane = Several().joined()
    assert lease(plane, A3).granted
    plane.promote()
    assert not lease(plane, B).granted
    plane.die("a", 3)
    assert lease(plane, B).granted


def permit(plane: Several, who: bytes) -> None:
    head = header(Kind.REQUEST, BROKER, topics.PERMIT, lane=Lane.CONTROL, correlation=9)
    plane.frame(who, head, encode_body(PermitRequest(0, 4)))
    plane.pump()


def test_permits_are_for_the_node_and_its_successor() -> None:
    plane = Several().joined()
    permit(plane, A1)
    (answer,) = [h for h, _ in plane.got[A1] if h.correlation == 9]
    assert answer.kind is Kind.ERROR
    waiter = plane.broker.fleet.permit_waiter
    for who, key in ((A2, ("a", 2)), (A3, ("a", 3))):
        permit(plane, who)
        assert waiter(0) == key
    plane.die("a", 3)
    assert waiter(0) is None


def sync(plane: Several, who: bytes, digest: str, *, done: bool = False) -> tuple[str, str]:
    body = CommandSync(digest, done)
    reply = plane.answer(who, topics.COMMAND_SYNC, body, CommandSyncReply)
    return reply.action, reply.holder


def test_a_set_of_commands_waits_until_it_is_that_of_all_nodes() -> None:
    plane = Several().joined()
    warnings = plane.broker.fleet.warnings
    for who in (A2, B):
        assert sync(plane, who, "old") in (("sync", "a"), ("wait", "a"))
    assert sync(plane, A2, "old", done=True) == ("skip", "")
    assert sync(plane, A3, "new") == ("wait", "a")
    assert "commands" not in warnings  # a is as it was
    plane.promote()
    assert sync(plane, A3, "new") == ("wait", "b")
    assert "the application commands of node a differ" in warnings["commands"]
    assert sync(plane, A2, "old") == ("skip", "")
    plane.die("b")
    assert "commands" not in warnings
    assert sync(plane, A3, "new") == ("sync", "a")
    assert sync(plane, A3, "new", done=True) == ("skip", "")


def test_after_a_brokers_death_the_old_ones_are_taken_to_have_what_was_synced() -> None:
    plane = Several()
    durable = Durable(
        operations={one.id: one for one in OPERATIONS},
        digests={"app": "old"},
    )
    plane.broker = Broker(Settings("f", "app", "boot"), durable, 0.0)
    plane.on(SupervisorHello(1, PROCESSES))
    plane.joined()
    plane.promote()
    assert sync(plane, A3, "new") == ("wait", "b")
    assert sync(plane, B, "new") == ("sync", "b")


def test_one_that_was_elected_and_ended_is_passed_over() -> None:
    plane = Several().joined()
    assert sync(plane, A3, "new") == ("sync", "a")
    assert sync(plane, B, "new") == ("wait", "a")
    plane.die("a", 3)
    assert sync(plane, B, "new") == ("sync", "b")
