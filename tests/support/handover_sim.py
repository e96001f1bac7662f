"""A fleet in virtual time whose nodes hand shards over: the real broker, and processes that do
what nodes do. A lock for each shard says who has it, as the kernel's does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broker.core.events import Committed, Spawned
from broker.core.operation import OpState
from shard_node.wire import topics
from shard_node.wire.bodies import (
    ErrorBody,
    Heartbeat,
    ShardReady,
    ShardReport,
    ShardState,
)
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.handover import (
    Phase,
    ShardArm,
    ShardDisarm,
    ShardMoved,
    ShardRelease,
    ShardSettle,
)
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import operator_id
from shard_node.wire.operations import OpRequest
from shard_node.wire.targets import BROKER
from store.records import Forget, LeaseRecord, OperationRecord, collect
from tests.support.fleet_sim import Sim, SimNode

OPERATOR = operator_id(7, 7)


class HandNode(SimNode):
    """A process that takes shards over and gives them up."""

    sim: HandoverSim

    def __init__(self, sim: HandoverSim, line: dict[str, Any]) -> None:
        super().__init__(sim, line)
        self.role = line.get("role", "first")
        self.phases: dict[int, tuple[str, Phase]] = {}
        self.settled: set[int] = set()
        self.voice = self.lingers = 0
        self.rss_bytes = 50 << 20
        self.troubles: dict[str, int] = {}
        self.deaf_to: set[str] = set()
        if self.role == "successor":
            self.phases = dict.fromkeys(self.shards, ("", Phase.WARMING))

    # --- life

    def start(self) -> None:
        super().start()
        if self.role == "successor":
            self.sim.after(self.sim.warm_s, self.warm)

    def warm(self) -> None:
        for shard, (op, phase) in list(self.phases.items()):
            if phase is Phase.WARMING:
                self.say(shard, op, Phase.WARM)

    def ask_permits(self) -> None:
        if self.role != "first":
            return
        for shard, state in self.states.items():
            if state is ShardState.QUEUED and shard in self.sim.sessions:
                self.take_by_lock(shard)
        super().ask_permits()

    def take_by_lock(self, shard: int) -> None:
        """A process that starts on its own waits for the lock, and RESUMEs."""
        self.states[shard] = ShardState.RESUMING

        def look() -> None:
            if not self.runs or shard not in self.states or self.stopping:
                return
            if self.sim.locks.get(shard) in (None, self):
                self.sim.lock(shard, self)
                self.sim.after(0.05, lambda: self.ready(shard))
            else:
                self.sim.after(0.1, look)

        look()

    def ready(self, shard: int) -> None:
        if not self.runs or self.states.get(shard) in (None, ShardState.RELEASING):
            return
        self.sim.lock(shard, self)
        self.sim.sessions.add(shard)
        super().ready(shard)

    @property
    def runs(self) -> bool:
        return self.alive and not self.hung

    def exit(self, code: int | None, signal: int | None = None) -> None:
        if self.alive:
            self.sim.free(self)
        super().exit(code, signal)

    def reports(self) -> tuple[ShardReport, ...]:
        shards = {*self.states, *self.phases}
        return tuple(self.report(shard) for shard in sorted(shards))

    def report(self, shard: int) -> ShardReport:
        op, phase = self.phases.get(shard, ("", Phase.NONE))
        state = self.states.get(shard, ShardState.QUEUED)
        return ShardReport(shard, state, 3, phase=phase.value, op=op, voice=self.voice)

    def beat(self) -> None:
        if self.alive:
            body = Heartbeat(
                1, 0.0, self.rss_bytes, 0, self.reports(), self.troubles, lingers=self.lingers
            )
            self.send(Kind.REQUEST, topics.HEARTBEAT, body, heartbeat=True)
            self.sim.after(1.0, self.beat)

    # --- shards change hands

    def take(self, head: Any, body: bytes) -> None:
        if not self.runs or head.topic in self.deaf_to:
            return
        self.sim.heard(self, head.topic)
        match head.topic:
            case topics.SHARD_ARM:
                arm = decode_body(body, ShardArm)
                self.each(arm.shards, lambda shard: self.arm(arm.op, shard))
            case topics.SHARD_RELEASE:
                release = decode_body(body, ShardRelease)
                self.each(release.shards, lambda shard: self.release(release, shard))
            case topics.SHARD_DISARM:
                disarm = decode_body(body, ShardDisarm)
                self.each(disarm.shards, lambda shard: self.disarm(disarm.op, shard))
            case topics.SHARD_SETTLE:
                settle = decode_body(body, ShardSettle)
                self.each(settle.shards, lambda shard: self.settle(settle.op, shard))
            case _:
                super().take(head, body)

    def each(self, shards: tuple[int, ...], what: Callable[[int], None]) -> None:
        for shard in shards:
            what(shard)

    def say(self, shard: int, op: str, phase: Phase, **fields: Any) -> None:
        self.phases[shard] = (op, phase)
        body = ShardMoved(op, shard, self.num_shards, phase, **fields)
        self.send(Kind.EVENT, topics.SHARD_MOVED, body)

    def has(self, shard: int) -> bool:
        return self.sim.locks.get(shard) is self

    def arm(self, op: str, shard: int) -> None:
        known, phase = self.phases.get(shard, ("", Phase.NONE))
        if known == op and phase not in (Phase.NONE, Phase.WARM):
            return
        if known != op and self.has(shard):
            return
        if shard in self.sim.refuses:
            self.say(shard, op, Phase.FAILED, error="no connection")
            return
        self.say(shard, op, Phase.ARMED)
        self.try_lock(op, shard)

    def try_lock(self, op: str, shard: int) -> None:
        if not self.runs or self.phases.get(shard) != (op, Phase.ARMED):
            return
        if self.sim.locks.get(shard) is None:
            self.sim.lock(shard, self)
            self.states[shard] = ShardState.RESUMING
            self.say(shard, op, Phase.TAKING)
            self.sim.after(self.sim.take_s, lambda: self.held(op, shard))
        else:
            self.sim.after(0.005, lambda: self.try_lock(op, shard))

    def held(self, op: str, shard: int) -> None:
        if not self.runs or self.phases.get(shard) != (op, Phase.TAKING):
            return
        self.states[shard] = ShardState.READY
        self.send(Kind.EVENT, topics.SHARD_READY, ShardReady(shard, self.num_shards, 3, True))
        self.say(shard, op, Phase.HELD, gap_ms=60.0 + shard)

    def release(self, body: ShardRelease, shard: int) -> None:
        op, known = body.op, self.phases.get(shard, ("", Phase.NONE))
        if known[0] == op and known[1] is not Phase.NONE:
            return
        if not self.has(shard):
            return
        self.sim.locks[shard] = None
        self.states[shard] = ShardState.RELEASING
        self.say(shard, op, Phase.RELEASED)
        self.retake(op, shard, body.retake_s, self.sim.now)

    def retake(self, op: str, shard: int, within_s: float, free_since: float) -> None:
        if not self.runs or self.phases.get(shard) != (op, Phase.RELEASED):
            return
        if self.sim.locks.get(shard) is not None:
            free_since = self.sim.now
        if self.sim.now >= free_since + within_s:
            self.sim.lock(shard, self)
            self.states[shard] = ShardState.READY
            self.say(shard, op, Phase.RETAKEN)
            return
        self.sim.after(0.25, lambda: self.retake(op, shard, within_s, free_since))

    def disarm(self, op: str, shard: int) -> None:
        known, phase = self.phases.get(shard, ("", Phase.NONE))
        if known not in ("", op) or phase is Phase.NONE:
            return
        if self.has(shard):
            self.sim.locks[shard] = None
        self.states.pop(shard, None)
        if self.role == "successor":
            self.states[shard] = ShardState.QUEUED
            self.say(shard, op, Phase.WARM)
        else:
            self.say(shard, op, Phase.NONE)
            del self.phases[shard]

    def settle(self, op: str, shard: int) -> None:
        if self.phases.get(shard, ("",))[0] == op and not self.has(shard):
            self.say(shard, op, Phase.NONE)
            del self.phases[shard]
            self.states.pop(shard, None)


class HandoverSim(Sim):
    """``locks``: who has which shard; ``sessions``: shards that can RESUME."""

    def __init__(self, *, shards: int = 4, nodes: int = 2, seed: int = 0, **options: Any) -> None:
        super().__init__(shards=shards, nodes=nodes, seed=seed, max_concurrency=4, **options)
        self.locks: dict[int, HandNode | None] = {}
        self.sessions: set[int] = set()
        self.refuses: set[int] = set()
        self.warm_s = 0.5
        self.take_s = 0.1
        self.answers: dict[int, Any] = {}
        self.heard: Callable[[HandNode, str], None] = lambda node, topic: None
        self._asked = 0

    def lock(self, shard: int, node: HandNode) -> None:
        holder = self.locks.get(shard)
        assert holder in (None, node), f"{shard} twice: {holder}"
        self.locks[shard] = node

    def free(self, node: SimNode) -> None:
        for shard, holder in self.locks.items():
            if holder is node:
                self.locks[shard] = None

    # --- the broker's surroundings

    def _commit(self, token: int, changes: tuple[Any, ...]) -> None:
        if self.store_down:
            self._later(0.002, Committed(token, "no room"))
            return

        def kept() -> None:
            for change in changes:
                if not isinstance(change, Forget):
                    collect(self.durable, change)
                elif change.kind is LeaseRecord:
                    self.durable.leases.pop(change.name, None)
                else:
                    assert change.kind is OperationRecord
                    self.durable.operations.pop(change.name, None)

        self.after(0.001, kept)
        self._later(0.002, Committed(token))

    def _spawn(self, line: dict[str, Any]) -> None:
        name = line["name"].removeprefix("node:")
        others = [n for n in self.nodes.values() if n.name == name and n.alive]
        assert not others or line.get("role") == "successor", "two at once"
        node = HandNode(self, line)
        self.nodes[node.name, node.epoch] = node
        self.spawns.append((self.now, node.name, node.epoch))
        self.after(0.01, lambda: self.give(Spawned(node.name, node.epoch, node.pid)))
        code = self.boot_code(node)
        if code is None:
            self.after(self.random.uniform(0.3, 0.6), node.start)
        else:
            self.after(0.3, lambda: node.exit(code))

    def _deliver(self) -> None:
        assert self.broker is not None
        outbox = self.broker.outbox
        while (entry := outbox.head(OPERATOR)) is not None:
            lane, frame = entry
            outbox.sent(OPERATOR, lane)
            head = decode_header(frame.header)
            kind = ErrorBody if head.kind is Kind.ERROR else topics.TOPICS[head.topic].reply
            assert kind is not None
            self.answers[head.correlation] = decode_body(frame.body, kind)
        super()._deliver()

    # --- what tests do

    def started(self) -> HandoverSim:
        """All shards ready."""
        self.start_broker()
        assert self.run(60, self.all_ready)
        self.run(2)
        return self

    def ask(self, topic: str, body: Any) -> Any:
        """An operator's request and its answer."""
        self._asked += 1
        number = self._asked
        head = header(
            Kind.REQUEST, BROKER, topic, lane=topics.TOPICS[topic].lane, correlation=number
        )
        self.frame(OPERATOR, encode_header(head), encode_body(body))
        assert self.run(5, lambda: number in self.answers), topic
        return self.answers[number]

    def shown(self, op: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(topics.OP_SHOW, OpRequest(op))
        return found

    def record(self, op: str) -> OperationRecord | None:
        return self.durable.operations.get(op)

    def is_over(self, op: str) -> bool:
        record = self.record(op)
        return record is not None and record.state not in (OpState.WAITING, OpState.RUNNING)

    def wait(self, op: str, within_s: float = 400.0) -> OperationRecord:
        """Until an operation is over."""
        assert self.run(within_s, lambda: self.is_over(op)), self.record(op)
        record = self.record(op)
        assert record is not None
        return record

    def node(self, name: str) -> HandNode:
        """The newest living process of a name."""
        found = [n for n in self.nodes.values() if n.name == name and n.alive]
        node = max(found, key=lambda n: n.epoch)
        assert isinstance(node, HandNode)
        return node

    def check(self, *rejected: str) -> None:
        """After all: each shard is ready, and its node's current process has its lock. What was
        ``rejected`` may have been under way to a broker that was another's."""
        self.run(120, self.settled)
        assert self.broker is not None
        assert self.settled(), [
            (shard, node and (node.name, node.epoch), self.broker.fleet.holder(shard))
            for shard, node in self.locks.items()
        ]
        assert not self.broker.fleet.deciding
        assert self.discord.faults == []
        assert set(self.broker.fleet.rejected) <= set(rejected), self.broker.fleet.rejected

    def settled(self) -> bool:
        if self.broker is None or not self.all_ready():
            return False
        for shard in range(self.broker.fleet.num_shards):
            node, holder = self.broker.fleet.holder(shard), self.locks.get(shard)
            if node is None or holder is None:
                return False
            if (node.name, node.epoch) != (holder.name, holder.epoch):
                return False
        return True
