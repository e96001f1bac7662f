"""A fleet in virtual time: the real broker machine, and models of all that is around it.

The models (supervisor, nodes, Discord, store) are simple and strict: Discord refuses what
the documentation refuses and remembers it, so a test only has to look at `Discord.faults`.
Everything comes from one seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from broker.core.effects import AskGateway, Commit, Effects, Order, Quit
from broker.core.events import (
    Committed,
    Event,
    Exited,
    FrameReceived,
    GatewayFailed,
    GatewayInfo,
    Process,
    Spawned,
    SupervisorHello,
    Tick,
)
from broker.core.settings import Settings
from broker.services.machine import Broker
from shard_node.wire import topics
from shard_node.wire.bodies import (
    Heartbeat,
    HeartbeatAck,
    IdentifySent,
    NodeStop,
    PermitGrant,
    PermitRequest,
    Register,
    ShardReady,
    ShardReport,
    ShardState,
    Welcome,
)
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import heartbeat_id, node_id
from shard_node.wire.targets import BROKER
from store.records import Durable, Forget, LeaseRecord, collect

WINDOW_S = 5.0
PERMIT_TTL_MS = 600_000


@dataclass
class Discord:
    """Counts IDENTIFYs as Discord does."""

    shards: int
    max_concurrency: int
    remaining: int
    total: int = 1000
    window_s: float = WINDOW_S
    down: bool = False
    faults: list[str] = field(default_factory=list)
    identifies: list[tuple[float, int]] = field(default_factory=list)
    _last: dict[int, float] = field(default_factory=dict)

    def identify(self, shard: int, now: float) -> None:
        key = shard % self.max_concurrency
        if now < self._last.get(key, -1e9) + self.window_s:
            self.faults.append(f"key {key} twice in {now - self._last[key]:.3f} s")
        if self.remaining <= 0:
            self.faults.append(f"the budget is overspent by shard {shard} at {now:.3f}")
        self._last[key] = now
        self.remaining -= 1
        self.identifies.append((now, shard))

    def info(self) -> GatewayInfo | GatewayFailed:
        if self.down:
            return GatewayFailed("E_NETWORK", "down")
        return GatewayInfo(
            self.shards, self.total, max(0, self.remaining), 3600.0, self.max_concurrency
        )


class SimNode:
    """A node's process: registers, asks permits, identifies, beats."""

    def __init__(self, sim: Sim, line: dict[str, Any]) -> None:
        self.sim = sim
        self.name = line["name"].removeprefix("node:")
        self.epoch, self.index = line["epoch"], line["index"]
        self.shards = tuple(line["shards"])
        self.num_shards = line["num_shards"]
        self.pid = sim.next_pid()
        self.states = dict.fromkeys(self.shards, ShardState.QUEUED)
        self.alive, self.hung, self.stopping = True, False, False
        self.born_at = sim.now
        self.permits_used: list[int] = []
        self._correlation = 0
        self._asked: dict[int, str] = {}

    def process(self) -> Process:
        age = self.sim.now - self.born_at
        return Process(
            self.name, self.epoch, self.pid, self.index, self.shards, self.num_shards, age
        )

    def start(self) -> None:
        self.register()
        self.beat()

    def send(self, kind: Kind, topic: str, body: Any, *, heartbeat: bool = False) -> None:
        if not self.alive or self.hung:
            return
        self._correlation += 1
        correlation = self._correlation if kind is Kind.REQUEST else 0
        if correlation:
            self._asked[correlation] = topic
        head = header(
            kind,
            BROKER,
            topic,
            lane=topics.TOPICS[topic].lane,
            correlation=correlation,
            ttl_ms=PERMIT_TTL_MS,
        )
        identity = (heartbeat_id if heartbeat else node_id)(self.name, self.epoch)
        self.sim.frame(identity, encode_header(head), encode_body(body))

    def register(self) -> None:
        body = Register(self.name, self.epoch, self.pid, self.num_shards, self.reports())
        self.send(Kind.REQUEST, topics.REGISTER, body)

    def reports(self) -> tuple[ShardReport, ...]:
        return tuple(ShardReport(shard, state, 3) for shard, state in self.states.items())

    def beat(self) -> None:
        if self.alive:
            body = Heartbeat(1, 0.0, 1 << 20, 0, self.reports())
            self.send(Kind.REQUEST, topics.HEARTBEAT, body, heartbeat=True)
            self.sim.after(1.0, self.beat)

    def take(self, head: Any, body: bytes) -> None:
        if not self.alive or self.hung:
            return
        if head.topic == topics.NODE_STOP:
            decode_body(body, NodeStop)
            self.stop()
        elif head.kind is Kind.REPLY and head.topic == topics.REGISTER:
            if decode_body(body, Welcome).accepted:
                self.ask_permits()
            else:
                self.exit(0)
        elif head.kind is Kind.REPLY and head.topic == topics.HEARTBEAT:
            if not decode_body(body, HeartbeatAck).registered:
                self.register()
        elif head.kind is Kind.REPLY and head.topic == topics.PERMIT:
            self.granted(decode_body(body, PermitGrant))

    def ask_permits(self) -> None:
        for shard, state in self.states.items():
            if state is ShardState.QUEUED:
                body = PermitRequest(shard, self.num_shards)
                self.send(Kind.REQUEST, topics.PERMIT, body)

    def granted(self, grant: PermitGrant) -> None:
        # The permit says not which shard; the broker's table does, and a real node keeps
        # the correlation. Ours looks it up where the model may.
        shard = self.sim.shard_of_permit(grant.permit)
        if shard is None or self.states[shard] is not ShardState.QUEUED or self.stopping:
            return
        self.states[shard] = ShardState.IDENTIFYING
        self.permits_used.append(grant.permit)
        delay = self.sim.random.uniform(0.005, self.sim.connect_max_s)
        self.sim.after(delay, lambda: self.identify(shard, grant.permit))

    def identify(self, shard: int, permit: int) -> None:
        if not self.alive or self.hung:
            return
        self.sim.discord.identify(shard, self.sim.now)
        sent_at = self.sim.now

        def report() -> None:
            ago_ms = (self.sim.now - sent_at) * 1000
            self.send(Kind.EVENT, topics.IDENTIFY_SENT, IdentifySent(permit, shard, ago_ms))

        self.sim.after(self.sim.random.uniform(0, 0.02), report)
        self.sim.after(self.sim.random.uniform(0.05, 0.2), lambda: self.ready(shard))

    def ready(self, shard: int) -> None:
        if self.alive:
            self.states[shard] = ShardState.READY
            body = ShardReady(shard, self.num_shards, 3)
            self.send(Kind.EVENT, topics.SHARD_READY, body)

    def stop(self) -> None:
        self.stopping = True
        for shard in self.states:
            self.states[shard] = ShardState.DRAINING
        self.sim.after(self.sim.drain_takes_s, lambda: self.exit(0))

    def exit(self, code: int | None, signal: int | None = None) -> None:
        if self.alive:
            self.alive = False
            self.sim.node_exited(self, code, signal)


class Sim:
    """The world. ``run`` lets time pass; ``broker`` is None while the broker is dead."""

    def __init__(
        self,
        *,
        shards: int,
        max_concurrency: int = 1,
        seed: int = 0,
        nodes: int | None = None,
        remaining: int = 1000,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.tail: tuple[str, ...] = ("last words",)
        self.discord = Discord(shards, max_concurrency, remaining)
        self.settings = Settings(
            "sim", "app", "boot", nodes=nodes, nodes_max=7, seed=seed, sandbox=nodes is None
        )
        self.durable = Durable()
        self.store_down = False
        self.nodes: dict[tuple[str, int], SimNode] = {}
        self.ended: dict[str, Any] | None = None
        self.quit = False
        self.connect_max_s = 0.05
        self.drain_takes_s = 0.3
        self.boot_code: Callable[[SimNode], int | None] = lambda node: None
        self.spawns: list[tuple[float, str, int]] = []
        self.broker: Broker | None = None
        self._pid = 100
        self._count = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._missed: list[Event] = []
        self._generation = 0

    # --- time

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._count, what))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Lets time pass; True as soon as ``until`` holds."""
        end = self.now + seconds
        while not until():
            deadline = self.broker.next_deadline() if self.broker else None
            agenda = self._agenda[0][0] if self._agenda else None
            times = [time for time in (deadline, agenda) if time is not None]
            if not times or min(times) > end:
                self.now = end
                return until()
            self.now = max(self.now, min(times))
            if agenda is not None and agenda <= self.now:
                heapq.heappop(self._agenda)[2]()
            else:
                self.give(Tick())
        return True

    # --- the broker

    def start_broker(self) -> None:
        self._generation += 1
        self.broker = Broker(self.settings, self.durable, self.now)
        living = tuple(node.process() for node in self.nodes.values() if node.alive)
        self.give(SupervisorHello(1, living))
        missed, self._missed = self._missed, []
        for event in missed:
            self.give(event)

    def kill_broker(self) -> None:
        self.broker = None

    def give(self, event: Event) -> None:
        if self.broker is None:
            if isinstance(event, Exited):
                self._missed.append(event)
            return
        self._do(self.broker.on(event, self.now))
        self._deliver()

    def frame(self, identity: bytes, head: bytes, body: bytes) -> None:
        self.after(0.001, lambda: self.give(FrameReceived(identity, head, body)))

    def _later(self, delay_s: float, event: Event) -> None:
        generation = self._generation

        def give() -> None:
            if generation == self._generation:
                self.give(event)

        self.after(delay_s, give)

    def _do(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Commit(token=token, changes=changes):
                    self._commit(token, changes)
                case Order(line=line):
                    self._order(line)
                case AskGateway():
                    # A dead broker's question dies with it.
                    generation = self._generation
                    self.after(0.05, lambda g=generation: self._answer(g))  # type: ignore[misc]
                case Quit():
                    self.quit = True

    def _answer(self, generation: int) -> None:
        if generation == self._generation:
            self.give(self.discord.info())

    def _commit(self, token: int, changes: tuple[Any, ...]) -> None:
        if self.store_down:
            self._later(0.002, Committed(token, "no room"))
            return

        def kept() -> None:
            for change in changes:
                if isinstance(change, Forget):
                    assert change.kind is LeaseRecord
                    self.durable.leases.pop(change.name, None)
                else:
                    collect(self.durable, change)

        # What was handed to the writer is kept even where the broker dies meanwhile.
        self.after(0.001, kept)
        self._later(0.002, Committed(token))

    def _order(self, line: dict[str, Any]) -> None:
        match line["op"]:
            case "spawn":
                self._spawn(line)
            case "signal":
                node = self.nodes.get((line["name"].removeprefix("node:"), line["epoch"]))
                if node is not None and line["signal"] == "KILL":
                    self.after(0.001, lambda: node.exit(None, 9))
                elif node is not None and not node.hung:
                    self.after(0.001, node.stop)
            case "stopped":
                self.ended = line

    def _spawn(self, line: dict[str, Any]) -> None:
        name = line["name"].removeprefix("node:")
        assert not [n for n in self.nodes.values() if n.name == name and n.alive], "two at once"
        node = SimNode(self, line)
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
        for routing_id in outbox.waiting():
            text = routing_id.decode().removesuffix("!hb")
            name, _, epoch = text.partition("#")
            while (entry := outbox.head(routing_id)) is not None:
                lane, frame = entry
                outbox.sent(routing_id, lane)
                node = self.nodes.get((name, int(epoch)))
                if node is not None:
                    head = decode_header(frame.header)
                    body = frame.body
                    self.after(0.001, lambda n=node, h=head, b=body: n.take(h, b))  # type: ignore[misc]

    # --- what tests look at

    def node_exited(self, node: SimNode, code: int | None, signal: int | None) -> None:
        event = Exited(node.name, node.epoch, node.pid, code, signal, 1.0, self.tail)
        self.after(0.005, lambda: self.give(event))

    def next_pid(self) -> int:
        self._pid += 1
        return self._pid

    def shard_of_permit(self, number: int) -> int | None:
        ledger = self.durable.ledger
        permits = ledger.permits if ledger is not None else ()
        return next((p.shard for p in permits if p.permit == number), None)

    def living(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.alive]

    def all_ready(self) -> bool:
        rows = self.broker.fleet.shard_rows() if self.broker else []
        return bool(rows) and all(row.state is ShardState.READY for _, row in rows)
