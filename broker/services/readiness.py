"""The moment at which all shards are ready, told to the bot once for a start of the fleet."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Keep, Log, Tell
from broker.core.events import Event, FleetReadyStored, SupervisorHello
from broker.core.fleet import Fleet, FleetState
from shard_node.wire.operations import FleetReady
from shard_node.wire.topics import FLEET_READY
from store.records import Durable, FleetReadyRecord

RETRY_S: Final = 1.0


class Readiness:
    """A start of the fleet is one of its supervisor. What is told is kept first: a broker that
    dies in between tells it not at all, rather than twice."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._told = durable.fleet_ready
        self._start = ""
        self._asked_at: float | None = None

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case SupervisorHello(supervisor_pid=pid):
                self._start = f"{self._fleet.settings.boot_id}-{pid}"
                if not event.processes:
                    # No node lives: a new start, even of a number that was another's before.
                    self._told = ""
            case FleetReadyStored():
                return self._stored(event)
        return self._look(now)

    def next_deadline(self) -> float | None:
        """None: an event is never far."""
        return None

    def _look(self, now: float) -> Effects:
        if self._fleet.state is not FleetState.RUNNING or self._told == self._start:
            return []
        if self._asked_at is not None and now < self._asked_at + RETRY_S:
            return []
        self._asked_at = now
        return [Keep((FleetReadyRecord(self._start),), FleetReadyStored(self._start))]

    def _stored(self, event: FleetReadyStored) -> Effects:
        if event.error or self._told == event.start:
            return []
        self._told = event.start
        holder = self._fleet.holder(0)
        if holder is None or not holder.epoch:
            return []
        said = Log("INFO", f"all {self._fleet.num_shards} shards are ready")
        return [said, Tell(holder.name, holder.epoch, FLEET_READY, FleetReady(event.start))]
