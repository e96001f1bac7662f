"""Leases, the command election, membership and status, one machine at a time."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core.effects import Commit, Effects, Order
from broker.core.events import (
    Committed,
    Event,
    Exited,
    FrameReceived,
    GatewayInfo,
    Process,
    SupervisorHello,
    Tick,
)
from broker.core.limits import LifecycleLimits
from broker.core.settings import Settings
from broker.services import leases
from broker.services.commands import SYNC_MAX_S
from broker.services.machine import Broker
from shard_node.wire import topics
from shard_node.wire.bodies import (
    CommandSync,
    CommandSyncReply,
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    LeaseRelease,
    LeaseReply,
    LeaseRequest,
    Register,
    ShardDisconnect,
    ShardReport,
    ShardState,
    Subscribe,
    Welcome,
)
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import heartbeat_id, node_id, operator_id
from shard_node.wire.limits import TOPIC_MAX_CHARS, TOPICS_PER_NODE_MAX
from shard_node.wire.targets import BROKER
from store.records import Durable, Forget, collect


class World:
    """A machine whose commits succeed at once (or fail, while ``store_error`` says why)."""

    def __init__(self, durable: Durable | None = None, **settings: Any) -> None:
        self.durable = durable or Durable()
        self.settings = Settings("f", **({"application": "app", "boot_id": "boot"} | settings))
        self.store_error = ""
        self.now = 100.0
        self.effects: Effects = []
        self.broker = Broker(self.settings, self.durable, self.now)
        self.processes = tuple(
            Process(name, 1, 10 + place, place, (2 * place, 2 * place + 1), 4, 1.0)
            for place, name in enumerate("ab")
        )
        self.give(SupervisorHello(1, self.processes))
        for name in "ab":
            assert self.register(name).accepted

    def give(self, event: Event) -> None:
        effects = self.broker.on(event, self.now)
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Commit):
                self.keep(effect)

    def keep(self, commit: Commit) -> None:
        if not self.store_error:
            for change in commit.changes:
                if isinstance(change, Forget):
                    self.durable.leases.pop(change.name, None)
                else:
                    collect(self.durable, change)
        self.give(Committed(commit.token, self.store_error))

    def ask(self, routing_id: bytes, topic: str, body: Any) -> Any:
        """The reply's body, the error's, or None; other frames are thrown away."""
        spec = topics.TOPICS[topic]
        head = header(spec.kind, BROKER, topic, lane=spec.lane, correlation=5)
        self.give(FrameReceived(routing_id, encode_header(head), encode_body(body)))
        answer = None
        outbox = self.broker.outbox
        for name in outbox.waiting():
            while (entry := outbox.head(name)) is not None:
                outbox.sent(name, entry[0])
                found = decode_header(entry[1].header)
                if name == routing_id and found.kind is Kind.REPLY:
                    answer = decode_body(entry[1].body, spec.reply)
                elif name == routing_id and found.kind is Kind.ERROR:
                    answer = decode_body(entry[1].body, ErrorBody)
        return answer

    def register(self, name: str, epoch: int = 1, **change: Any) -> Any:
        place = "ab".index(name)
        shards = tuple(ShardReport(shard, ShardState.READY) for shard in (2 * place, 2 * place + 1))
        body = {"name": name, "epoch": epoch, "pid": 1, "num_shards": 4, "shards": shards} | change
        return self.ask(node_id(name, epoch), topics.REGISTER, Register(**body))

    def exit(self, name: str, code: int = 1) -> None:
        self.give(Exited(name, 1, 10, code, None))

    def status(self) -> dict[str, Any]:
        return self.ask(operator_id(1, 1), topics.STATUS, [])


A, B = node_id("a", 1), node_id("b", 1)

# --- leases


def lease(world: World, who: bytes, name: str = "daily", ttl_s: float = 60.0) -> Any:
    return world.ask(who, topics.LEASE, LeaseRequest(name, ttl_s))


def test_one_node_holds_a_lease_and_renews_it() -> None:
    world = World()
    assert lease(world, A) == LeaseReply(True, "a")
    assert lease(world, B) == LeaseReply(False, "a")
    world.now += 59
    assert lease(world, A) == LeaseReply(True, "a")
    world.now += 59
    assert lease(world, B) == LeaseReply(False, "a")
    world.now += 2
    assert lease(world, B) == LeaseReply(True, "b")


def test_a_lease_is_given_back_by_its_holder_alone() -> None:
    world = World()
    lease(world, A)
    world.ask(B, topics.LEASE_RELEASE, LeaseRelease("daily"))
    assert lease(world, B) == LeaseReply(False, "a")
    world.ask(A, topics.LEASE_RELEASE, LeaseRelease("daily"))
    assert lease(world, B) == LeaseReply(True, "b")


def test_a_lease_ends_with_its_holders_process() -> None:
    world = World()
    lease(world, A)
    world.exit("a")
    assert lease(world, B) == LeaseReply(True, "b")


def test_a_lease_outlives_the_broker_but_not_the_boot() -> None:
    first = World()
    lease(first, A, ttl_s=3600)
    assert lease(World(first.durable), B) == LeaseReply(False, "a")
    assert lease(World(first.durable, boot_id="another"), B) == LeaseReply(True, "b")


def test_leases_are_bounded_and_ended_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASES_MAX", 2)
    world = World()
    lease(world, A, "1", 10.0)
    lease(world, A, "2", 1000.0)
    assert lease(world, A, "3").code == "E_BUSY"
    assert lease(world, A, "2").granted
    world.now += 11
    assert lease(world, A, "3").granted
    assert world.durable.leases.keys() == {"2", "3"}


@pytest.mark.parametrize(("name", "ttl_s"), [("", 1.0), ("x" * 300, 1.0), ("x", 0.0), ("x", 1e9)])
def test_a_lease_without_sense_is_refused(name: str, ttl_s: float) -> None:
    assert lease(World(), A, name, ttl_s).code == "E_BAD_REQUEST"


def test_a_lease_that_is_not_kept_is_not_granted() -> None:
    world = World()
    world.store_error = "no room"
    error = lease(world, A)
    assert (error.code, error.retryable) == ("E_STORE", True)
    assert "no room" in world.status()["warnings"][0]
    world.store_error = ""
    assert lease(world, B) == LeaseReply(True, "b")
    assert world.status()["warnings"] == []


# --- commands


def sync(world: World, who: bytes, digest: str, done: bool = False) -> Any:
    return world.ask(who, topics.COMMAND_SYNC, CommandSync(digest, done))


def test_one_node_syncs_and_the_others_wait_and_skip() -> None:
    world = World()
    assert sync(world, A, "x") == CommandSyncReply("sync", "a")
    assert sync(world, B, "x") == CommandSyncReply("wait", "a")
    assert sync(world, A, "x", done=True) == CommandSyncReply("skip")
    assert sync(world, B, "x") == CommandSyncReply("skip")
    assert sync(world, B, "y") == CommandSyncReply("wait", "a")  # a has another set
    assert sync(world, A, "y") == CommandSyncReply("sync", "a")


def test_a_node_that_dies_or_is_silent_is_passed_over() -> None:
    world = World()
    sync(world, A, "x")
    world.exit("a")
    assert sync(world, B, "x") == CommandSyncReply("sync", "b")
    world = World()
    sync(world, A, "x")
    world.now += SYNC_MAX_S
    assert sync(world, B, "x") == CommandSyncReply("sync", "b")


def test_the_digest_is_kept_for_its_application_alone() -> None:
    first = World()
    sync(first, A, "x")
    sync(first, A, "x", done=True)
    assert sync(World(first.durable), B, "x") == CommandSyncReply("skip")
    other = World(first.durable, application="another")
    assert sync(other, B, "x") == CommandSyncReply("sync", "b")


def test_a_digest_without_sense_is_refused() -> None:
    assert sync(World(), A, "").code == "E_BAD_REQUEST"
    assert sync(World(), A, "x" * 300).code == "E_BAD_REQUEST"


# --- membership


def test_registrations_that_do_not_fit_are_refused_with_a_reason() -> None:
    world = World()
    for change, reason in (
        ({"num_shards": 8}, "8 shards"),
        ({"shards": (ShardReport(3, ShardState.READY),)}, "not its own"),
    ):
        welcome = world.register("a", **change)
        assert isinstance(welcome, Welcome)
        assert not welcome.accepted
        assert reason in welcome.reason
    assert not world.register("a", epoch=7).accepted
    error = world.ask(A, topics.REGISTER, Register("b", 1, 1, 4, ()))
    assert error.code == "E_BAD_REQUEST"


def test_before_the_supervisors_hello_a_node_is_asked_to_retry() -> None:
    world = World()
    world.broker = Broker(world.settings, world.durable, world.now)
    error = world.register("a")
    assert (error.code, error.retryable) == ("E_NOT_READY", True)


def test_heartbeats_carry_states_and_lag() -> None:
    world = World()
    reports = (ShardReport(0, ShardState.RESUMING, 9, 33.0, 77),)
    beat = Heartbeat(4, 1500.0, 5 << 20, 6, reports, {"events_dropped": 3, "x" * 65: 1})
    assert world.ask(heartbeat_id("a", 1), topics.HEARTBEAT, beat) == HeartbeatAck(4, True, 0)
    world.now += 2
    status = world.status()
    node, shard = status["nodes"][0], status["shards"][0]
    assert (node["state"], node["rss_bytes"], node["queue"]) == ("degraded", 5 << 20, 6)
    assert node["troubles"] == {"events_dropped": 3}
    assert (shard["state"], shard["guilds"], shard["latency_ms"]) == ("resuming", 9, 33.0)
    assert (shard["sequence"], shard["heartbeat_age_s"]) == (77, 2.0)
    stray = world.ask(heartbeat_id("zz", 1), topics.HEARTBEAT, beat)
    assert stray == HeartbeatAck(4, False, 0)


def test_topics_are_bounded() -> None:
    world = World()
    many = tuple(str(n) for n in range(TOPICS_PER_NODE_MAX + 5))
    world.ask(A, topics.SUBSCRIBE, Subscribe(many))
    assert len(world.broker.fleet.table.topics("a")) == TOPICS_PER_NODE_MAX
    world.ask(A, topics.SUBSCRIBE, Subscribe(("x" * (TOPIC_MAX_CHARS + 1), "y")))
    assert world.broker.fleet.table.topics("a") == {"y"}
    assert world.broker.fleet.rejected["topics"] == 2


def test_a_lost_connection_shows() -> None:
    world = World()
    world.ask(A, topics.SHARD_DISCONNECT, ShardDisconnect(0, 4, 1006))
    world.ask(A, topics.SHARD_DISCONNECT, ShardDisconnect(1, 4, 4009, resumable=False))
    world.ask(A, topics.SHARD_DISCONNECT, ShardDisconnect(3, 4))
    states = [shard["state"] for shard in world.status()["shards"]]
    assert states == ["resuming", "queued", "ready", "ready"]
    assert world.broker.fleet.rejected["shard"] == 1


# --- status


def test_status_has_what_the_documentation_names() -> None:
    world = World()
    world.give(GatewayInfo(6, 1000, 990, 3600.0, 1))
    status = world.status()
    assert status["schema"] == 1
    assert status.keys() >= {"fleet", "broker", "identify", "nodes", "shards", "warnings"}
    assert status["broker"].keys() >= {"pid", "uptime_s"}
    assert status["identify"].keys() >= {"remaining", "total", "reset_after_s"}
    node_keys = {"id", "pid", "epoch", "state", "rss_bytes", "shards"}
    assert status["nodes"][0].keys() >= node_keys
    shard_keys = {"id", "num_shards", "node", "state", "guilds", "latency_ms"}
    shard_keys |= {"heartbeat_age_s", "sequence", "restarts"}
    assert status["shards"][0].keys() >= shard_keys
    assert status["fleet_state"] == "running"
    assert status["warnings"] == ["Discord recommends 6 shards; the fleet runs 4"]


def test_status_of_a_dead_node_says_why() -> None:
    world = World()
    world.exit("a", 3)
    node = world.status()["nodes"][0]
    assert (node["state"], node["pid"], node["reason"]) == ("backoff", None, "ended with 3")
    assert [shard["state"] for shard in world.status()["shards"]][:2] == ["dead", "dead"]


# --- a broker that is new, and processes that hang


class Again(World):
    """Another broker finds a and b alive; only those of ``joined`` register."""

    def __init__(self, joined: str, hang_s: float) -> None:
        super().__init__()
        limits = LifecycleLimits(hang_s=hang_s)
        self.settings = Settings("f", application="app", boot_id="boot", lifecycle=limits)
        self.broker = Broker(self.settings, self.durable, self.now)
        self.effects = []
        self.give(SupervisorHello(1, self.processes))
        self.began = self.now
        for name in joined:
            assert self.register(name).accepted

    def beat(self, name: str) -> None:
        self.ask(heartbeat_id(name, 1), topics.HEARTBEAT, Heartbeat(1, 0.0, 1, 0, ()))

    def killed_after_s(self, name: str, beats: str = "", for_s: float = 0.0) -> float:
        """From this broker's start; -1 where it was not, within a minute."""
        while self.now < self.began + 60:
            self.now += 0.25
            for one in beats if self.now <= self.began + for_s else "":
                self.beat(one)
            self.give(Tick())
            lines = [one.line for one in self.effects if isinstance(one, Order)]
            wanted = {"op": "signal", "name": f"node:{name}", "signal": "KILL"}
            if any(wanted.items() <= line.items() for line in lines):
                return self.now - self.began
        return -1.0


def test_a_process_that_never_finds_the_new_broker_hangs() -> None:
    assert Again("a", 3.0).killed_after_s("b") == 6.0


def test_one_that_beats_and_then_stops_before_it_has_registered_hangs() -> None:
    assert Again("a", 3.0).killed_after_s("b", beats="ab", for_s=5.0) == 8.0


def test_one_that_has_registered_and_then_stops_hangs() -> None:
    assert Again("ab", 3.0).killed_after_s("b") == 3.0


def test_one_that_beats_is_not_killed_while_it_registers() -> None:
    assert Again("a", 3.0).killed_after_s("b", beats="ab", for_s=60.0) == -1.0


def test_a_long_hang_time_does_not_lengthen_the_wait_for_a_registration() -> None:
    assert Again("a", 40.0).killed_after_s("b") == 10.0
