"""The end of the fleet: asked for by the operator, by a signal, or because it cannot run."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Log, Order, Quit, Reply, WatchProcesses
from broker.core.events import (
    Asked,
    Committed,
    Event,
    NodeGone,
    StateCommitted,
    StateSettled,
    StopAsked,
    StopWanted,
    SupervisorGone,
    Tick,
)
from broker.core.fleet import Fleet, FleetState
from broker.core.processes import STOP_GRACE_S, ask_stop, end_beside
from broker.core.states import ALIVE, NodeState
from shard_node.wire.bodies import NodeFatal, StopReply, StopRequest
from store.records import Durable

ORPHANED_S: Final = 2.0
"""After the drain, how much longer a broker without a supervisor stays for its nodes."""
PANIC: Final = "E_STORE_PANIC"
EXIT_STORE: Final = 74
"""The store gave up in this process; the next one can write again."""
REASON_MAX_CHARS: Final = 2000
"""Of a node's fatal reason: it goes to the supervisor in one line of bounded length."""


class Stopping:
    """Stops all nodes, once, and says so to the supervisor when they are gone."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._reason = ""
        self._exit_code = 0
        self._ended = False
        self._orphaned = False
        self._quit_at: float | None = None

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case StopAsked(reason=reason, discard_sessions=discard):
                return self._begin(reason, 0, now, discard_sessions=discard)
            case StopWanted(reason=reason, exit_code=exit_code):
                return self._begin(f"fatal: {reason}", exit_code, now)
            case Asked(ref=ref, body=StopRequest(discard_sessions=discard)):
                reply = Reply(ref, StopReply(self._fleet.settings.drain_s))
                return [reply, *self._begin("operator", 0, now, discard_sessions=discard)]
            case Asked(ref=ref, body=NodeFatal() as body):
                return self._fatal(ref.peer.name, body, now)
            case SupervisorGone() if not self._orphaned:
                return self._orphan(now)
            case NodeGone():
                return self._check()
            case Tick() if self._quit_at is not None and now >= self._quit_at:
                return self._quit("the supervisor is gone, and the nodes had their time")
        return []

    def next_deadline(self) -> float | None:
        """When a broker without a supervisor ends."""
        return self._quit_at

    def _fatal(self, name: str, body: NodeFatal, now: float) -> Effects:
        text = f"node {name}: {body.reason[:REASON_MAX_CHARS]} ({body.code})"
        if body.hint:
            text = f"{text}; hint: {body.hint[:REASON_MAX_CHARS]}"
        return self._begin(f"fatal: {text}", 1, now)

    def _begin(
        self, reason: str, exit_code: int, now: float, *, discard_sessions: bool = False
    ) -> Effects:
        if self._fleet.state is FleetState.STOPPING:
            return []
        self._fleet.state = FleetState.STOPPING
        self._reason, self._exit_code = reason, exit_code
        # The supervisor knows before anybody ends: a broker that dies now is not started again.
        effects: Effects = [
            Log("ERROR" if exit_code else "INFO", f"the fleet stops: {reason}"),
            Order({"op": "stopping", "reason": reason, "exit_code": exit_code}),
        ]
        for node in self._fleet.nodes.values():
            if node.state is NodeState.STOPPING:
                due_at = now + self._fleet.settings.drain_s + STOP_GRACE_S
                node.due_at = min(node.due_at or due_at, due_at)
            elif node.state in ALIVE:
                effects += ask_stop(
                    self._fleet, node, reason, now, discard_sessions=discard_sessions
                )
            else:
                node.move(NodeState.GONE)
        for proc in self._fleet.procs.values():
            effects += end_beside(self._fleet, proc, reason, now, discard_sessions=discard_sessions)
        return effects + self._check()

    def _orphan(self, now: float) -> Effects:
        """Nodes see the supervisor's end by themselves; routing goes on until they are gone."""
        self._orphaned = True
        self._fleet.state = FleetState.STOPPING
        self._quit_at = now + self._fleet.settings.drain_s + ORPHANED_S
        alive = []
        for node in self._fleet.nodes.values():
            if node.state in ALIVE:
                alive.append((node.name, node.epoch, node.pid))
                node.stop_asked = True
                node.move(NodeState.STOPPING)
            elif node.state is not NodeState.GONE:
                node.move(NodeState.GONE)
        for proc in self._fleet.procs.values():
            alive.append((proc.name, proc.epoch, proc.pid))
            proc.stop_asked = True
        watch = WatchProcesses(tuple(alive))
        return [Log("WARNING", "the supervisor is gone"), watch, *self._check()]

    def _check(self) -> Effects:
        """Whether the last process is gone."""
        nodes = self._fleet.nodes.values()
        over = all(node.state is NodeState.GONE for node in nodes) and not self._fleet.procs
        if self._fleet.state is not FleetState.STOPPING or not over:
            return []
        if self._orphaned:
            return self._quit("the supervisor and all nodes are gone")
        if self._ended:
            return []
        self._ended = True
        line = {"op": "stopped", "reason": self._reason, "exit_code": self._exit_code}
        return [Log("INFO", "all nodes are gone"), Order(line)]

    def _quit(self, reason: str) -> Effects:
        self._quit_at = None
        return [Quit(reason)]


def given_up(event: Committed | StateCommitted | StateSettled) -> Effects:
    """Where the store can write no more in this process, it ends, to be started again."""
    if event.code != PANIC:
        return []
    why = f"the store gave up: {event.error}"
    said = f"{why}; the broker ends and is to be started again, what was confirmed is safe"
    return [Log("CRITICAL", said), Quit(why, EXIT_STORE)]
