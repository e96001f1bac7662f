"""The fleet as the broker sees it: one model that the services share.

Lifecycle writes nodes and states, identify writes the budget, everybody may leave a warning.
"""

from __future__ import annotations

import enum
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from broker.core.guilds import Guilds
from broker.core.letters import Letters
from broker.core.procs import Proc, Role
from broker.core.settings import Settings
from broker.core.shardrow import ShardRow
from broker.core.stateport import SharedState
from broker.core.states import NodeState, step
from broker.core.table import Table
from shard_node.wire.bodies import ErrorBody, ShardReport
from shard_node.wire.handover import Phase
from shard_node.wire.limits import TOPIC_MAX_CHARS, TOPICS_PER_NODE_MAX
from shard_node.wire.shard_states import ShardEvent

CPU_OVER_S: Final = 60.0
LINGER_GRACE_S: Final = 5.0
"""A process that lingers ends by itself; it is killed so long after it should have."""


class FleetState(enum.StrEnum):
    """What the fleet as a whole is doing."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(slots=True)
class Node:
    """A node: its place in the plan, and the process that it is now.

    ``epoch`` is that of the process, ``last_epoch`` the last one ever given out.
    ``due_at`` is when the state has lasted too long, or (backoff) long enough.
    """

    name: str
    place: int
    shards: tuple[int, ...]
    rows: dict[int, ShardRow]
    state: NodeState = NodeState.PLANNED
    epoch: int = 0
    last_epoch: int = 0
    pid: int = 0
    restarts: int = 0
    due_at: float | None = None
    rests_until: float | None = None
    """When its next process is due, after an operation."""
    heard_at: float = 0.0
    heartbeat_at: float | None = None
    spawned_at: float = 0.0
    stop_asked: bool = False
    given_up: bool = False
    failures: deque[float] = field(default_factory=deque)
    rss_bytes: int = 0
    queue: int = 0
    lingers: int = 0
    """What waits in its process, which has given all its shards to others."""
    loop_lag_ms: float = 0.0
    degraded_ms: float = 1000.0
    """A loop that lags more makes the node `degraded`."""
    cpu_s: float = 0.0
    cpu: float = 0.0
    """A share of a core, over about the last CPU_OVER_S."""
    cpu_since: tuple[int, float] = (0, 0.0)
    """The epoch and the moment from which that is known."""
    phases: dict[int, Phase] = field(default_factory=dict)
    """By shard, as its process reports them for the operation ``op``."""
    reports: dict[int, ShardReport] = field(default_factory=dict)
    """The last ones of shards that come to it, and are not its own yet."""
    ops: dict[int, str] = field(default_factory=dict)
    """By shard, the operation for which its process reports that phase."""
    op: str = ""
    """The last of them."""
    reported: bool = False
    """Whether its process has registered with this broker."""
    retired: bool = False
    """Is not started again: the fleet has one node less."""
    troubles: dict[str, int] = field(default_factory=dict)
    disnake: str = ""
    reason: str = ""
    tail: tuple[str, ...] = ()

    def move(self, new: NodeState, due_at: float | None = None) -> None:
        """A transition. Raises StateError outside the table."""
        self.state = step(self.state, new, f"node {self.name}")
        self.due_at = due_at

    def worked(self, cpu_s: float, now: float) -> None:
        """Its process has used so much of the processor's time until now."""
        epoch, since = self.cpu_since
        if epoch != self.epoch or self.heartbeat_at is None or cpu_s < self.cpu_s:
            self.cpu, self.cpu_since = 0.0, (self.epoch, now)
        elif since < 0:
            self.cpu_since = self.epoch, now
        elif now > self.heartbeat_at:
            passed_s = now - self.heartbeat_at
            share = passed_s / max(passed_s, min(CPU_OVER_S, now - since))
            self.cpu += ((cpu_s - self.cpu_s) / passed_s - self.cpu) * share
        self.cpu_s = cpu_s

    @property
    def shown_state(self) -> str:
        """The state for people: a node whose event loop lags is `degraded`, one that is not in
        the plan any more and in which something waits is `lingering`."""
        if self.state is NodeState.UP and self.retired:
            return "lingering"
        if self.state is NodeState.UP and self.loop_lag_ms > self.degraded_ms:
            return "degraded"
        return self.state.value


@dataclass(slots=True)
class Budget:
    """IDENTIFYs left as Discord said it, less what was granted since."""

    total: int
    remaining: int
    reset_at: float
    max_concurrency: int
    recommended: int


def _lingering(node: Node, op: str, due_at: float) -> Proc:
    """What was a node's current process."""
    return Proc(
        node.name,
        node.epoch,
        Role.LINGERING,
        op,
        pid=node.pid,
        registered=node.reported,
        heard_at=node.heard_at,
        heartbeat_at=node.heartbeat_at,
        spawned_at=node.spawned_at,
        due_at=due_at,
        killed=node.given_up,
        phases=node.phases,
        rss_bytes=node.rss_bytes,
        queue=node.queue,
        loop_lag_ms=node.loop_lag_ms,
        cpu_s=node.cpu_s,
        troubles=node.troubles,
        disnake=node.disnake,
        voice=sum(row.voice for row in node.rows.values()),
    )


def _nobody(_shard: int, *_nodes: str) -> None:
    return None


def _no_depths(_name: str, _routing_id: bytes) -> dict[str, Any]:
    return {}


@dataclass(slots=True)
class Fleet:
    """Everything that the services share.

    ``info_until`` is how long Discord's last word on the budget may be acted on;
    ``permits_wanted`` counts the shards that wait for a permit. ``depths`` tells what waits
    for a process (broker.core.depths). ``state`` is the fleet's own, ``shared`` the bot's.
    """

    settings: Settings
    started_at: float
    state: FleetState = FleetState.STARTING
    num_shards: int = 0
    nodes: dict[str, Node] = field(default_factory=dict)
    table: Table = field(default_factory=Table)
    budget: Budget | None = None
    letters: Letters = field(default_factory=Letters)
    info_until: float = -math.inf
    permits_wanted: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_total: int = 0
    warnings: dict[str, str] = field(default_factory=dict)
    client_troubles: dict[str, dict[str, int]] = field(default_factory=dict)
    depths: Callable[[str, bytes], dict[str, Any]] = _no_depths
    permit_waiter: Callable[[int], tuple[str, int] | None] = _nobody
    """The process that waits for a permit for a shard."""
    adopts: Callable[[Node, float, float], bool] = lambda _node, _at, _now: False
    conflict: Callable[..., ErrorBody | None] = _nobody
    """Why nobody else may touch a shard, and nodes named after it: an operation has them."""
    shared: SharedState = field(default_factory=SharedState)
    guilds: Guilds = field(default_factory=Guilds)
    resumable: set[int] = field(default_factory=set)
    """The shards whose journal has a session: they start without an IDENTIFY."""
    procs: dict[tuple[str, int], Proc] = field(default_factory=dict)
    """Living processes beside the current ones of their nodes."""
    deciding: dict[str, str] = field(default_factory=dict)
    """Nodes whose dead process is not started again but by the operation (its id): it decides
    who has the shards."""
    heard: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    """By process, when a gateway event of a type last came to it."""

    def resize(self, num_shards: int) -> None:
        """Sets the number of shards."""
        self.num_shards = num_shards
        self.table.resize(num_shards)

    def add(self, name: str, place: int, shards: tuple[int, ...]) -> Node:
        """Puts a node into the plan."""
        rows = {shard: ShardRow(shard) for shard in shards}
        degraded_ms = self.settings.lifecycle.lag_s * 1000
        node = Node(name, place, shards, rows, degraded_ms=degraded_ms)
        self.nodes[name] = node
        return node

    def current(self, name: str, epoch: int) -> Node | None:
        """The node of this name, if this epoch is that of its process."""
        node = self.nodes.get(name)
        return node if node is not None and node.epoch == epoch > 0 else None

    def lives(self, name: str, epoch: int) -> bool:
        """Whether this is a living process of ours, the current one of its node or not."""
        return self.current(name, epoch) is not None or (name, epoch) in self.procs

    def beside(self, name: str) -> list[Proc]:
        """A node's living processes beside its current one, oldest first."""
        found = [proc for proc in self.procs.values() if proc.name == name]
        return sorted(found, key=lambda proc: proc.epoch)

    def phase(self, name: str, epoch: int, shard: int, op: str) -> Phase:
        """How far a process is, as it says itself, with a shard that ``op`` moves."""
        node, proc = self.current(name, epoch), self.procs.get((name, epoch))
        if node is not None and node.ops.get(shard) == op:
            return node.phases.get(shard, Phase.NONE)
        if proc is not None and proc.op == op:
            return proc.phases.get(shard, Phase.NONE)
        return Phase.NONE

    def concerns(self, name: str, epoch: int, shard: int) -> bool:
        """Whether a process has to do with a shard: it is its node's, or comes to it."""
        node = self.current(name, epoch)
        if node is not None:
            return shard in node.rows or node.phases.get(shard, Phase.NONE) is not Phase.NONE
        beside = self.nodes.get(name) if (name, epoch) in self.procs else None
        return beside is not None and shard in beside.rows

    def promote(self, name: str, epoch: int, now: float) -> Node:
        """Makes a process beside a node's current one the current one; that one lingers.

        Raises KeyError where there is no such process.
        """
        proc, node = self.procs.pop((name, epoch)), self.nodes[name]
        if node.epoch:
            due_at = now + self.settings.lifecycle.linger_s + LINGER_GRACE_S
            self.procs[name, node.epoch] = _lingering(node, proc.op, due_at)
        node.move(NodeState.UP)
        node.epoch, node.pid, node.spawned_at = proc.epoch, proc.pid, proc.spawned_at
        node.heard_at, node.heartbeat_at = proc.heard_at, proc.heartbeat_at
        node.rss_bytes, node.queue, node.cpu_s = proc.rss_bytes, proc.queue, proc.cpu_s
        node.loop_lag_ms, node.troubles, node.disnake = (
            proc.loop_lag_ms,
            proc.troubles,
            proc.disnake,
        )
        node.phases, node.op, node.reported = proc.phases, proc.op, proc.registered
        node.ops = dict.fromkeys(proc.phases, proc.op)
        node.stop_asked = node.given_up = False
        node.reason, node.tail = "", ()
        node.restarts += 1
        node.failures.clear()
        self.warn(f"node_{name}", None)
        for shard, row in node.rows.items():
            row.taken(proc.reports.get(shard))
        if proc.registered:
            self.table.promote(name, epoch, node.shards)
        return node

    def give(self, shards: Iterable[int], target: str) -> dict[str, tuple[int, ...]]:
        """Shards go to the node ``target``; whose they were. Raises KeyError for what is not
        in the plan."""
        receiver = self.nodes[target]
        given: dict[str, tuple[int, ...]] = {}
        for shard in sorted(shards):
            source = self.holder(shard)
            if source is None:
                raise KeyError(shard)
            if source is receiver:
                continue
            # What they did before, they did with other shards.
            source.cpu_since, receiver.cpu_since = (source.epoch, -1.0), (receiver.epoch, -1.0)
            row = source.rows.pop(shard)
            row.taken(receiver.reports.get(shard))
            if not receiver.epoch:
                row.on(ShardEvent.DIED)
            receiver.rows[shard] = row
            source.shards = tuple(other for other in source.shards if other != shard)
            receiver.shards = tuple(sorted((*receiver.shards, shard)))
            given[source.name] = (*given.get(source.name, ()), shard)
        receiver.rows = dict(sorted(receiver.rows.items()))
        self.table.give(tuple(chain.from_iterable(given.values())), target)
        return given

    def drop(self, name: str) -> None:
        """A node that has no shard and no process is in the plan no more."""
        del self.nodes[name]
        for key in (f"node_{name}", f"store_{name}"):
            self.warn(key, None)

    def holder(self, shard: int) -> Node | None:
        """The node in whose plan a shard is."""
        for node in self.nodes.values():
            if shard in node.rows:
                return node
        return None

    def shard_rows(self) -> list[tuple[Node, ShardRow]]:
        """All shards with their nodes, in order of the shards."""
        rows = [(node, row) for node in self.nodes.values() for row in node.rows.values()]
        return sorted(rows, key=lambda pair: pair[1].id)

    def subscribe(self, name: str, topics: tuple[str, ...]) -> None:
        """What a registered peer listens to, as far as the limits let it; a process beside its
        node's current one under ``name#epoch``."""
        if self.table.node(name) is None:
            return
        kept = frozenset(topic for topic in topics if len(topic) <= TOPIC_MAX_CHARS)
        if len(kept) < len(set(topics)) or len(kept) > TOPICS_PER_NODE_MAX:
            self.reject("topics")
            kept = frozenset(sorted(kept)[:TOPICS_PER_NODE_MAX])
        self.table.subscribe(name, kept)

    def reject(self, reason: str) -> None:
        """Counts something that a peer sent and that was not accepted."""
        self.rejected[reason] += 1
        self.rejected_total += 1

    def warn(self, key: str, text: str | None) -> None:
        """Sets a warning for `status`, or (None) takes it back."""
        if text is None:
            self.warnings.pop(key, None)
        else:
            self.warnings[key] = text
