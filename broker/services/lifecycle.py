"""The processes of nodes: started, watched, given up, started again.

An exit other than 0 waits with a backoff; 5 in 10 minutes are a crash loop, and the node
stays down while the others stay up. A node that hangs, its heartbeat thread silent or its event
loop blocked, is killed, and started again once its exit is reported: its shards are never held
twice.
"""

from __future__ import annotations

from typing import Final

from broker.core.backoff import delay_s
from broker.core.effects import Effects, Emit, Keep, Log, Order
from broker.core.events import (
    EpochStored,
    Event,
    Exited,
    Hung,
    NodeGone,
    Spawned,
    SpawnFailed,
    SpawnWanted,
    StopWanted,
    Tick,
)
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.last_words import bot_error
from broker.core.opevents import AdoptionWanted
from broker.core.plan import ranges
from broker.core.processes import kill, rest, spawn_line
from broker.core.states import ALIVE, NodeState
from shard_node.wire.bodies import ShardState
from shard_node.wire.shard_states import ShardEvent
from store.records import Durable, EpochRecord

REGISTER_LOST_S: Final = 60.0
"""From the spawn to the first sign of life: importing a bot can take long."""
CLEAN_RESTART_S: Final = 1.0
"""A node that ends by itself with 0 is started at most once in this."""
STEADY_S: Final = 30.0
"""A process that lived so long is started again at once, the first time."""
CRASHES_MAX: Final = 5
CRASHES_WITHIN_S: Final = 600.0
EXIT_CONFIG: Final = 78
"""The bot cannot be loaded: no restart mends it (EX_CONFIG of sysexits.h)."""
STORE_RETRY_S: Final = 1.0
TICK_S: Final = 1.0
STALL_S: Final = 3.0
"""A gap before a tick that says: it was the broker that did not run."""
TAIL_SHOWN_LINES: Final = 5


class Lifecycle:
    """Every transition of a node's process."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._ticked_at = self._ran_at = fleet.started_at
        self._draws = 0
        self._was_ready = False
        self._hang_s = fleet.settings.lifecycle.hang_s

    def on(self, event: Event, now: float) -> Effects:
        gap, self._ran_at = now - self._ran_at, now
        match event:
            case Tick():
                return self._tick(now, gap)
            case SpawnWanted():
                return self._store_epoch(event)
            case EpochStored():
                return self._spawn(event, now)
            case Spawned():
                self._spawned(event, now)
            case SpawnFailed(name=name, epoch=epoch, error=error):
                return [Emit(Exited(name, epoch, 0, 1, None, 0.0, (error,)))]
            case Hung(name=name, epoch=epoch, reason=reason):
                node = self._fleet.current(name, epoch)
                if node is not None and node.state is NodeState.UP:
                    return self._hangs(node, reason, now)
            case Exited():
                return self._exited(event, now)
        return []

    def next_deadline(self) -> float | None:
        """When a state has lasted long enough, a node was silent for too long, or the next look."""
        nodes = self._fleet.nodes.values()
        times = [node.due_at for node in nodes if node.due_at is not None]
        if any(node.state in ALIVE for node in nodes):
            times.append(self._ticked_at + TICK_S)
        times += [node.heard_at + self._hang_s for node in nodes if node.state is NodeState.UP]
        return min(times, default=None)

    # --- time

    def _tick(self, now: float, gap: float) -> Effects:
        self._ticked_at = now
        effects: Effects = []
        for node in list(self._fleet.nodes.values()):
            if gap > STALL_S:
                _forgive(node, gap, now)
            effects += self._overdue(node, now)
        return effects

    def _overdue(self, node: Node, now: float) -> Effects:
        if node.state is NodeState.UP and now >= node.heard_at + self._hang_s:
            return self._hangs(node, f"silent for {self._hang_s:g} s", now)
        if node.due_at is None or node.due_at > now:
            return []
        match node.state:
            case NodeState.BACKOFF:
                return [Emit(SpawnWanted(node.name, again=True))]
            case NodeState.SPAWNING | NodeState.STARTING:
                return self._give_up(node, "did not register in time", now)
            case NodeState.STOPPING:
                reason = node.reason if node.given_up else "did not end in time"
                return kill(self._fleet, node, reason, now)
        return []

    def _hangs(self, node: Node, reason: str, now: float) -> Effects:
        self._fleet.counts["shard_hung"] += len(node.rows)
        return self._give_up(node, f"hangs: {reason}", now)

    def _give_up(self, node: Node, reason: str, now: float) -> Effects:
        node.given_up = True
        return kill(self._fleet, node, reason, now)

    # --- starting

    def _store_epoch(self, event: SpawnWanted) -> Effects:
        node = self._fleet.nodes[event.name]
        if self._fleet.state is FleetState.STOPPING or node.state is NodeState.STORING:
            return []
        node.move(NodeState.STORING)
        node.last_epoch += 1
        node.restarts += event.again
        record = EpochRecord(node.name, node.last_epoch, node.restarts)
        return [Keep((record,), EpochStored(node.name, node.last_epoch))]

    def _spawn(self, event: EpochStored, now: float) -> Effects:
        node = self._fleet.nodes[event.name]
        if node.state is not NodeState.STORING:
            return []
        key = f"store_{node.name}"
        text = f"node {node.name} waits: {event.error}"
        self._fleet.warn(key, text if event.error else None)
        if event.error:
            node.move(NodeState.BACKOFF, now + STORE_RETRY_S)
            return []
        why = node.reason
        _renew(node, event.epoch, now)
        line = spawn_line(self._fleet, node, node.epoch)
        if why:
            line["why"] = why
        what = f"shards {ranges(node.shards)}" if node.shards else "no shard yet"
        text = f"node {node.name}#{node.epoch} is started with {what}"
        return [Log("INFO", text), Order(line)]

    def _spawned(self, event: Spawned, now: float) -> None:
        node = self._fleet.current(event.name, event.epoch)
        if node is None:
            return
        node.pid = event.pid
        if node.state is NodeState.SPAWNING:
            node.move(NodeState.STARTING, now + REGISTER_LOST_S)

    # --- exits

    def _exited(self, event: Exited, now: float) -> Effects:
        node = self._fleet.current(event.name, event.epoch) or self._missed(event)
        if node is None:
            return []
        self._was_ready |= any(row.state is ShardState.READY for row in node.rows.values())
        asked, given_up = node.stop_asked, node.given_up
        clean = asked or event.code == 0
        decided = self._is_decided(node)
        self._fleet.counts["shard_dead"] += 0 if clean else len(node.rows)
        _end_shards(node, ShardEvent.ENDED if clean and not decided else ShardEvent.DIED)
        self._fleet.table.leave(node.name, event.epoch)
        node.epoch = node.pid = 0
        node.reported = False
        node.phases, node.ops, node.reports = {}, {}, {}
        node.tail = event.tail
        how = _how(event)
        if not given_up:
            node.reason = how
        effects: Effects = [
            Log("INFO" if clean else "WARNING", f"node {node.name}#{event.epoch} {how}"),
            Emit(NodeGone(node.name, event.epoch)),
        ]
        if decided:
            node.move(NodeState.BACKOFF)
            return effects
        return effects + self._after_exit(node, event, now, asked=asked, given_up=given_up)

    def _is_decided(self, node: Node) -> bool:
        """Whether an operation decides what becomes of the node's shards: somebody else may have
        them already."""
        stopping = self._fleet.state is FleetState.STOPPING
        return node.name in self._fleet.deciding and not stopping

    def _missed(self, event: Exited) -> Node | None:
        """The node whose process ended while the broker was away."""
        node = self._fleet.nodes.get(event.name)
        if (event.name, event.epoch) in self._fleet.procs:
            return None
        if node is None or node.state is not NodeState.BACKOFF or node.tail or node.reason:
            return None
        return node if node.last_epoch == event.epoch else None

    def _after_exit(
        self, node: Node, event: Exited, now: float, *, asked: bool, given_up: bool
    ) -> Effects:
        if self._fleet.state is FleetState.STOPPING or node.retired:
            node.move(NodeState.GONE)
            return []
        if asked:
            return [Emit(SpawnWanted(node.name, again=True))]
        if event.code == EXIT_CONFIG:
            return self._fail_to_load(node)
        if event.code == 0:
            return self._later(node, node.spawned_at + CLEAN_RESTART_S, now)
        node.failures.append(now)
        while node.failures[0] <= now - CRASHES_WITHIN_S:
            node.failures.popleft()
        if len(node.failures) >= CRASHES_MAX:
            # The gateway may have gone away first, so that no shard was ready at the exits.
            self._was_ready |= self._fleet.state is FleetState.RUNNING
            return self._fail(node, f"ended {CRASHES_MAX} times in 10 min")
        steady = now - node.spawned_at >= STEADY_S
        if len(node.failures) == 1 and (given_up or steady):
            return self._later(node, now, now)
        return self._later(node, now + self._delay_s(node), now)

    def _later(self, node: Node, at: float, now: float) -> Effects:
        if self._fleet.adopts(node, at, now):
            rest(node, at)
            return [Emit(AdoptionWanted(node.name))]
        if at <= now:
            return [Emit(SpawnWanted(node.name, again=True))]
        node.move(NodeState.BACKOFF, at)
        return []

    def _delay_s(self, node: Node) -> float:
        self._draws += 1
        return delay_s(len(node.failures), self._fleet.settings.seed, self._draws)

    def _fail_to_load(self, node: Node) -> Effects:
        """The bot's own error is the reason, and leads where it ends the fleet."""
        error = bot_error(node.tail)
        if error is None:
            return self._fail(node, "its bot cannot be loaded", EXIT_CONFIG)
        node.reason = error.message
        return self._fail(node, "its bot cannot be loaded", EXIT_CONFIG, error.told())

    def _fail(self, node: Node, why: str, exit_code: int = 1, told: str = "") -> Effects:
        """A crash loop. A fleet of which no bot can be loaded has nothing to do.

        ``told`` is why the fleet ends, where there is a better word than E_CRASH_LOOP.
        """
        node.move(NodeState.FAILED)
        node.reason = f"{why}: {node.reason}"
        for row in node.rows.values():
            row.on(ShardEvent.FAILED)
        tail = "\n".join(node.tail[-TAIL_SHOWN_LINES:])
        self._fleet.warn(f"node_{node.name}", f"node {node.name} stays down: {node.reason}")
        effects: Effects = [
            Log("ERROR", f"node {node.name} stays down: {node.reason}", {"tail": tail})
        ]
        others = self._fleet.nodes.values()
        if not self._was_ready and all(other.state is NodeState.FAILED for other in others):
            text = f"E_CRASH_LOOP: no node came up; node {node.name}: {node.reason}"
            effects.append(Emit(StopWanted(told or text, exit_code)))
        return effects


def _forgive(node: Node, gap: float, now: float) -> None:
    """The broker itself did not run for ``gap``: nobody was silent."""
    node.heard_at = min(now, node.heard_at + gap)
    if node.due_at is not None and node.state in ALIVE:
        node.due_at += gap


def _renew(node: Node, epoch: int, now: float) -> None:
    """The node becomes a new process."""
    node.move(NodeState.SPAWNING, now + REGISTER_LOST_S)
    node.epoch = epoch
    node.heard_at = node.spawned_at = now
    node.heartbeat_at = None
    node.stop_asked = node.given_up = False
    node.loop_lag_ms = node.cpu_s = 0.0
    node.rss_bytes = node.queue = 0
    node.reported = False
    for row in node.rows.values():
        if row.state is not ShardState.QUEUED:
            row.on(ShardEvent.SPAWNED)
        row.guilds, row.latency_ms, row.sequence = 0, -1.0, 0


def _end_shards(node: Node, event: ShardEvent) -> None:
    for row in node.rows.values():
        row.on(ShardEvent.DIED if row.state is ShardState.HUNG else event)


def _how(event: Exited) -> str:
    if event.signal is not None:
        return f"was ended by signal {event.signal}"
    return "ended" if event.code is None else f"ended with {event.code}"
