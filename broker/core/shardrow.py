"""A shard as the broker knows it: what its node reported last, by the table of its states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core.states import StateError
from shard_node.wire.bodies import ShardReport, ShardState
from shard_node.wire.shard_states import CONNECTED, REPORTABLE, ShardEvent, after

FLAW_MAX_CHARS: Final = 200


@dataclass(slots=True)
class ShardRow:
    """A shard as last reported."""

    id: int
    state: ShardState = ShardState.QUEUED
    guilds: int = 0
    latency_ms: float = -1.0
    sequence: int = 0
    trouble: str = ""
    """Why its node is about to leave its connection."""
    events_per_s: float = 0.0
    voice: int = 0
    flaw: str = ""
    """Why its journal is none that a next process could RESUME from."""

    def on(self, event: ShardEvent) -> None:
        """A transition of ours. Raises StateError outside the table."""
        new = after(self.state, event)
        if new is None:
            msg = f"shard {self.id}: {event.value} while {self.state.value}"
            raise StateError(msg)
        self.state = new

    def observe(self, report: ShardReport) -> bool:
        """Takes over what its node reports; False where that cannot be."""
        if report.state not in REPORTABLE[self.state]:
            return False
        self.state = report.state
        self.guilds = report.guilds
        self.latency_ms = report.latency_ms
        self.sequence = report.sequence
        self.events_per_s = report.events_per_s
        self.voice = report.voice
        self.flaw = report.flaw[:FLAW_MAX_CHARS]
        return True

    def taken(self, report: ShardReport | None = None) -> None:
        """Another process has it now, which says (or has not said yet) how it is there."""
        if self.state is ShardState.HUNG:
            self.on(ShardEvent.DIED)
        elif self.state is ShardState.GONE:
            self.on(ShardEvent.SPAWNED)
        if after(self.state, ShardEvent.TAKEN) is None:
            self.on(
                ShardEvent.RELEASE if self.state is not ShardState.DRAINING else ShardEvent.DIED
            )
        self.on(ShardEvent.TAKEN)
        self.trouble = self.flaw = ""
        if report is not None and report.state in CONNECTED:
            self.observe(report)
        if self.state is ShardState.RESUMING:
            self.on(ShardEvent.RESUMED)
