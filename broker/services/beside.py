"""Processes beside the current ones of their nodes: successors started, all of them watched.

What they are for is the matter of their operation. Here they are started, killed when they
hang or stay too long, and forgotten when they have ended.
"""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Emit, Keep, Log, Order
from broker.core.events import (
    Event,
    Exited,
    Hung,
    NodeGone,
    Spawned,
    SuccessorSpawned,
    SuccessorStored,
    SuccessorWanted,
    Tick,
)
from broker.core.fleet import Fleet, FleetState
from broker.core.plan import ranges
from broker.core.processes import kill_beside, signal, spawn_line
from broker.core.procs import Proc, Role
from store.records import Durable, EpochRecord

STALL_S: Final = 3.0
"""A gap before a tick that says: it was the broker that did not run."""
UNREADY_S: Final = 15.0
"""A successor that is so much overdue is nobody's: its operation would have ended it."""


class Beside:
    """Every process in ``Fleet.procs``, from its spawn to its exit."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._ran_at = fleet.started_at
        self._hang_s = fleet.settings.lifecycle.hang_s

    def on(self, event: Event, now: float) -> Effects:
        gap, self._ran_at = now - self._ran_at, now
        match event:
            case SuccessorWanted(name=name, op=op):
                return self._store_epoch(name, op)
            case SuccessorStored():
                return self._spawn(event, now)
            case Spawned(name=name, epoch=epoch, pid=pid):
                proc = self._fleet.procs.get((name, epoch))
                if proc is not None:
                    proc.pid = pid
                    return self._unwanted(proc, now)
            case Hung(name=name, epoch=epoch, reason=reason):
                proc = self._fleet.procs.get((name, epoch))
                if proc is not None and not proc.killed:
                    return kill_beside(proc, f"hangs: {reason}", now)
            case Exited():
                return self._exited(event)
            case Tick():
                return self._tick(now, gap)
        return []

    def next_deadline(self) -> float | None:
        """When one has to be gone, or was silent for too long."""
        return min((self._due_at(proc) for proc in self._fleet.procs.values()), default=None)

    def _due_at(self, proc: Proc) -> float:
        times = [] if proc.due_at is None else [proc.due_at + self._grace_s(proc)]
        if self._is_heard(proc) and not proc.killed:
            times.append(proc.heard_at + self._hang_s)
        return min(times, default=proc.heard_at + self._fleet.settings.lifecycle.ready_max_s)

    def _is_heard(self, proc: Proc) -> bool:
        """One that imports its bot may say nothing for long."""
        return proc.registered or proc.heartbeat_at is not None

    def _grace_s(self, proc: Proc) -> float:
        ends = proc.killed or proc.stop_asked or proc.role is Role.LINGERING
        return 0.0 if ends else UNREADY_S

    # --- starting

    def _store_epoch(self, name: str, op: str) -> Effects:
        node = self._fleet.nodes[name]
        if self._fleet.state is FleetState.STOPPING:
            return [Emit(SuccessorSpawned(name, 0, op, "the fleet is stopping"))]
        node.last_epoch += 1
        record = EpochRecord(name, node.last_epoch, node.restarts + 1)
        return [Keep((record,), SuccessorStored(name, node.last_epoch, op))]

    def _spawn(self, event: SuccessorStored, now: float) -> Effects:
        fleet, error = self._fleet, event.error
        if fleet.state is FleetState.STOPPING:
            error = error or "the fleet is stopping"
        told = Emit(SuccessorSpawned(event.name, event.epoch, event.op, error))
        if error:
            return [told]
        node = fleet.nodes[event.name]
        due_at = now + fleet.settings.lifecycle.ready_s
        proc = Proc(event.name, event.epoch, Role.SUCCESSOR, event.op, due_at=due_at)
        proc.heard_at = proc.spawned_at = now
        fleet.procs[proc.name, proc.epoch] = proc
        text = f"node {proc.label} is started beside {_current(node.name, node.epoch)}"
        said = Log("INFO", f"{text} for shards {ranges(node.shards)} ({event.op})")
        return [said, Order(spawn_line(fleet, node, event.epoch, proc.role.value)), told]

    def _unwanted(self, proc: Proc, now: float) -> Effects:
        """It was to end before it ran: that order came to nothing."""
        if proc.killed:
            return kill_beside(proc, proc.reason, now)
        return [signal(proc, "TERM")] if proc.stop_asked else []

    # --- the end

    def _tick(self, now: float, gap: float) -> Effects:
        effects: Effects = []
        for proc in list(self._fleet.procs.values()):
            if gap > STALL_S:
                proc.heard_at = min(now, proc.heard_at + gap)
                proc.due_at = None if proc.due_at is None else proc.due_at + gap
            if self._due_at(proc) <= now:
                effects += kill_beside(proc, self._why(proc, now), now)
        return effects

    def _why(self, proc: Proc, now: float) -> str:
        if proc.killed:
            return proc.reason
        if proc.stop_asked:
            return "did not end in time"
        if self._is_heard(proc) and now >= proc.heard_at + self._hang_s:
            return f"hangs: silent for {self._hang_s:g} s"
        if proc.role is Role.SUCCESSOR:
            return "was not ready in time"
        return f"what waits in it was given {self._fleet.settings.lifecycle.linger_s:g} s"

    def _exited(self, event: Exited) -> Effects:
        proc = self._fleet.procs.pop((event.name, event.epoch), None)
        if proc is None:
            return []
        self._fleet.table.leave(event.name, event.epoch)
        clean = proc.stop_asked or event.code == 0
        if event.signal is not None:
            how = f"was ended by signal {event.signal}"
        else:
            how = "ended" if not event.code else f"ended with {event.code}"
        fields = {"tail": "\n".join(event.tail[-5:])} if not clean and event.tail else {}
        said = Log("INFO" if clean else "WARNING", f"node {proc.label} {how}", fields)
        return [said, Emit(NodeGone(event.name, event.epoch))]


def _current(name: str, epoch: int) -> str:
    return f"{name}#{epoch}" if epoch else "nobody"
