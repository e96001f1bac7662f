"""Who is in the fleet: registrations, heartbeats, subscriptions, and what shards report."""

from __future__ import annotations

from typing import Final

import msgspec

from broker.core import beside
from broker.core.effects import Effects, Emit, Log, Publish, Refuse, Reply
from broker.core.events import Asked, Event, Exited, Hung, NodeRegistered, SupervisorHello
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.inflight import Ref
from broker.core.processes import speak_for
from broker.core.procs import Proc
from broker.core.shardrow import ShardRow
from broker.core.states import NodeState
from broker.services.recovery import listen
from shard_node.wire.bodies import (
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    Register,
    ShardDisconnect,
    ShardReady,
    ShardReport,
    ShardState,
    Subscribe,
    Welcome,
)
from shard_node.wire.handover import Phase
from shard_node.wire.limits import HEARTBEAT_INTERVAL_S
from shard_node.wire.shard_states import CONNECTED, ShardEvent
from shard_node.wire.topics import SHARD_DISCONNECT, SHARD_READY
from store.records import Durable

VERSION_MAX_CHARS: Final = 64
LAG_ROUNDED_MS: Final = 1.0
"""A node beats at the very moment; what it measures may be a hair less."""
TROUBLES_MAX: Final = 16
TROUBLE_MAX_CHARS: Final = 64


def troubles(body: Heartbeat) -> dict[str, int]:
    """What a peer says that it has dropped and refused, as far as it is reasonable."""
    return {
        name: count
        for name, count in list(body.troubles.items())[:TROUBLES_MAX]
        if len(name) <= TROUBLE_MAX_CHARS and count > 0
    }


class Membership:
    """Writes the routing table and what is known of each node and shard."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._greeted = False
        self._waited_for: ShardRow | None = None
        """A shard that was not ready at the last look."""

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case SupervisorHello():
                self._greeted = True
            case Asked(ref=ref, body=Heartbeat() as body):
                return self._heartbeat(ref, body, now)
            case Asked(ref=ref, body=Register() as body):
                return self._register(ref, body, now)
            case Asked(ref=ref, body=ShardReady() as body):
                return self._shard_ready(ref, body)
            case Asked(ref=ref, body=ShardDisconnect() as body):
                return self._shard_disconnect(ref, body)
            case Asked(ref=ref, body=Subscribe() as body):
                return self._subscribe(ref, body)
            case Exited(name=name, epoch=epoch):
                return self._disconnected(self._fleet.current(name, epoch))
        return []

    def next_deadline(self) -> float | None:
        """None: silence is lifecycle's matter."""
        return None

    # --- registration

    def _register(self, ref: Ref, body: Register, now: float) -> Effects:
        if not self._greeted:
            text = "the broker does not know its processes yet"
            return [Refuse(ref, ErrorBody("E_NOT_READY", text, "retry", retryable=True))]
        if (body.name, body.epoch) != (ref.peer.name, ref.peer.epoch):
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", "not the name of its socket"))]
        proc = self._fleet.procs.get((body.name, body.epoch))
        if proc is not None and not proc.killed and body.num_shards == self._fleet.num_shards:
            return self._join_beside(proc, ref, body, now)
        node = self._fleet.current(body.name, body.epoch)
        problem = self._problem(node, body)
        if node is None or problem:
            self._fleet.counts["registrations_refused"] += 1
            return [
                Log("WARNING", f"{body.name}#{body.epoch} is refused: {problem}"),
                Reply(ref, self._welcome(problem)),
            ]
        return self._join(node, ref, body, now)

    def _problem(self, node: Node | None, body: Register) -> str:
        if node is None:
            return "not the current process of its name"
        if node.given_up:
            return f"given up: {node.reason}"
        if body.num_shards != self._fleet.num_shards:
            return f"has {body.num_shards} shards in all; the fleet has {self._fleet.num_shards}"
        # What another process has, or brings here, is the matter of its operation.
        own = {report.id for report in body.shards if report.phase == Phase.NONE}
        if own - set(node.shards):
            return f"holds shards that are not its own; its own are {list(node.shards)}"
        return ""

    def _join(self, node: Node, ref: Ref, body: Register, now: float) -> Effects:
        again = self._fleet.table.node(node.name) is not None
        if node.state in (NodeState.SPAWNING, NodeState.STARTING):
            node.move(NodeState.UP)
        node.heard_at = now
        node.reported = True
        node.disnake = body.disnake[:VERSION_MAX_CHARS]
        self._fleet.table.join(node.name, node.epoch, node.shards)
        self._fleet.subscribe(node.name, body.topics)
        self._observe(node, body.shards)
        text = f"node {node.name}#{node.epoch} registered{' again' if again else ''}"
        return self._welcomed(text, ref, body, again=again)

    def _join_beside(self, proc: Proc, ref: Ref, body: Register, now: float) -> Effects:
        again = self._fleet.table.process(proc.name, proc.epoch) is not None
        proc.registered, proc.heard_at, proc.pid = True, now, body.pid
        proc.disnake = body.disnake[:VERSION_MAX_CHARS]
        self._fleet.table.join_beside(proc.name, proc.epoch, frozenset())
        self._fleet.subscribe(proc.label, body.topics)
        beside.observe(proc, body.shards)
        text = f"node {proc.label} registered{' again' if again else ''} ({proc.role.value})"
        return self._welcomed(text, ref, body, again=again)

    def _welcomed(self, text: str, ref: Ref, body: Register, *, again: bool) -> Effects:
        name, epoch = ref.peer.name, ref.peer.epoch
        return [
            Log("INFO", text, {"node": name, "epoch": epoch, "pid": body.pid}),
            Reply(ref, self._welcome("", self._told(ref))),
            Emit(NodeRegistered(name, epoch, again)),
        ]

    def _subscribe(self, ref: Ref, body: Subscribe) -> Effects:
        name, epoch = ref.peer.name, ref.peer.epoch
        node = self._fleet.procs.get((name, epoch))
        self._fleet.subscribe(node.label if node is not None else name, body.topics)
        return []

    def _told(self, ref: Ref) -> int:
        return self._fleet.shared.told.get(f"{ref.peer.name}#{ref.peer.epoch}", 0)

    def _welcome(self, problem: str, told: int = 0) -> Welcome:
        settings = self._fleet.settings
        return Welcome(
            not problem,
            settings.fleet,
            settings.broker_pid,
            HEARTBEAT_INTERVAL_S,
            settings.drain_s,
            problem,
            told,
            self._fleet.shared.era,
        )

    # --- heartbeats

    def _heartbeat(self, ref: Ref, body: Heartbeat, now: float) -> Effects:
        key = ref.peer.name, ref.peer.epoch
        node, proc = self._fleet.current(*key), self._fleet.procs.get(key)
        if proc is not None:
            beside.heard(proc, body, now)
            listen(self._fleet, key, body, now)
            hangs = self._hangs(proc.name, proc.epoch, body)
            return [self._ack(ref, body, registered=proc.registered), *hangs]
        if node is None:
            return [self._ack(ref, body, registered=False)]
        node.worked(body.cpu_s, now)
        node.heard_at = node.heartbeat_at = now
        node.loop_lag_ms = body.loop_lag_ms
        node.rss_bytes = body.rss_bytes
        node.queue, node.lingers = body.queue, body.lingers
        node.troubles = troubles(body)
        listen(self._fleet, (node.name, node.epoch), body, now)
        if node.state is NodeState.STARTING and node.due_at is not None:
            # It lives, and may still be importing the bot.
            node.due_at = max(node.due_at, now + self._fleet.settings.lifecycle.hang_s)
        owner = self._fleet.table.node(node.name)
        registered = owner is not None and owner.epoch == node.epoch
        if registered:
            self._observe(node, body.shards)
        hangs = self._hangs(node.name, node.epoch, body)
        return [self._ack(ref, body, registered=registered), *hangs]

    def _hangs(self, name: str, epoch: int, body: Heartbeat) -> Effects:
        hang_ms = self._fleet.settings.lifecycle.hang_s * 1000
        if body.loop_lag_ms < hang_ms - LAG_ROUNDED_MS:
            return []
        reason = f"its event loop did not turn for {body.loop_lag_ms / 1000:.1f} s"
        return [Emit(Hung(name, epoch, reason))]

    def _ack(self, ref: Ref, body: Heartbeat, *, registered: bool) -> Reply:
        ack = HeartbeatAck(
            body.counter,
            registered,
            self._fleet.settings.broker_pid,
            told=self._told(ref) if registered else 0,
        )
        return Reply(ref, ack)

    def _observe(self, node: Node, reports: tuple[ShardReport, ...]) -> None:
        if node.given_up:
            return
        beside.phases(node, reports)
        for report in reports:
            row = node.rows.get(report.id)
            if row is None and report.phase != Phase.NONE:
                continue
            if row is None or not row.observe(report):
                self._fleet.reject("shard_state")
            elif report.state is ShardState.READY:
                self._fleet.resumable.add(report.id)
        self._notice_ready()

    def _notice_ready(self) -> None:
        """The start is over when every shard has been ready at one time.

        As long as one that was not ready still is not, nobody looks at the others: a large
        fleet starts for hours, and each heartbeat comes here.
        """
        if self._fleet.state is not FleetState.STARTING:
            return
        if self._waited_for is None or self._waited_for.state is ShardState.READY:
            rows = (row for node in self._fleet.nodes.values() for row in node.rows.values())
            unready = (row for row in rows if row.state is not ShardState.READY)
            self._waited_for = next(unready, None)
        if self._waited_for is None:
            self._fleet.state = FleetState.RUNNING

    # --- events of shards

    def _shard_ready(self, ref: Ref, body: ShardReady) -> Effects:
        node, row = self._row(ref, body.shard)
        if node is None or row is None:
            return self._beside_shard(ref, body, body.shard)
        report = ShardReport(
            body.shard, ShardState.READY, body.guilds, row.latency_ms, row.sequence
        )
        self._observe(node, (report,))
        how = "resumed" if body.resumed else "ready"
        return [
            Log("INFO", f"shard {body.shard} is {how} on node {node.name}"),
            Publish(SHARD_READY, body, f"{node.name}#{node.epoch}"),
        ]

    def _row(self, ref: Ref, shard: int) -> tuple[Node | None, ShardRow | None]:
        """The row of a shard of a current process's node."""
        node = self._fleet.current(ref.peer.name, ref.peer.epoch)
        return node, node.rows.get(shard) if node is not None else None

    def _beside_shard(self, ref: Ref, body: ShardReady | ShardDisconnect, shard: int) -> Effects:
        """Of a process that has not the shard by the plan, but may come to have it, or had it:
        programs hear it, our row is another process's."""
        name, epoch = ref.peer.name, ref.peer.epoch
        if not self._fleet.concerns(name, epoch, shard):
            self._fleet.reject("shard")
            return []
        ready = isinstance(body, ShardReady)
        text = (
            f"shard {shard} {'is ready on' if ready else 'lost its connection on'} {name}#{epoch}"
        )
        topic = SHARD_READY if ready else SHARD_DISCONNECT
        return [Log("INFO", text), Publish(topic, body, f"{name}#{epoch}")]

    def _disconnected(self, node: Node | None) -> Effects:
        """A process has ended and cannot tell of its shards itself."""
        if node is None:
            return []
        return speak_for(self._fleet, node, f"node {node.name} ended")

    def _shard_disconnect(self, ref: Ref, body: ShardDisconnect) -> Effects:
        node, row = self._row(ref, body.shard)
        if node is None or row is None:
            return self._beside_shard(ref, body, body.shard)
        if row.state in CONNECTED:
            row.on(ShardEvent.INTERRUPTED if body.resumable else ShardEvent.DISCONNECTED)
        if not body.resumable:
            self._fleet.resumable.discard(body.shard)
        if row.trouble:
            body, row.trouble = msgspec.structs.replace(body, reason=row.trouble), ""
        text = f"shard {body.shard} of node {node.name} lost its connection ({body.code})"
        return [
            Log("INFO", text, {"reason": body.reason[:200], "resumable": body.resumable}),
            Publish(SHARD_DISCONNECT, body, f"{node.name}#{node.epoch}"),
        ]
