"""The shards of this node and their states. Pure: events and a ``now`` in, reports out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from shard_node.wire.bodies import ShardReady, ShardReport, ShardState
from shard_node.wire.handover import Phase
from shard_node.wire.shard_states import ShardEvent, after

NOTHING: Final[Mapping[int, Any]] = MappingProxyType({})


class _Shard:
    __slots__ = ("awaited", "op", "phase", "quiet_at", "state")

    def __init__(self) -> None:
        self.state = ShardState.QUEUED
        self.phase, self.op = Phase.NONE, ""
        self.awaited: set[int] = set()
        self.quiet_at: float | None = None


class ShardTable:
    """States of a node's shards.

    A shard is ready when every guild of its READY has arrived, or none did for ``quiet_s``:
    guilds in an outage never come.
    """

    def __init__(self, ids: Iterable[int], num_shards: int, quiet_s: float) -> None:
        self.num_shards = num_shards
        self.quiet_s = quiet_s
        self._shards = {shard: _Shard() for shard in ids}

    def add(self, shard: int) -> None:
        """Another process's shard is to come here. Twice does nothing."""
        self._shards.setdefault(shard, _Shard())

    def remove(self, shard: int) -> None:
        """It went to another process. Twice does nothing."""
        self._shards.pop(shard, None)

    def phased(self, shard: int, phase: Phase, op: str) -> None:
        """How far this process is with a shard that the operation ``op`` moves."""
        entry = self._shards.get(shard)
        if entry is not None:
            entry.phase, entry.op = phase, op

    def state(self, shard: int) -> ShardState:
        """The state of ``shard``."""
        return self._shards[shard].state

    def permitted(self, shard: int) -> None:
        """The shard holds a permit and connects to IDENTIFY."""
        self._move(shard, ShardEvent.PERMITTED)

    def disconnected(self, shard: int, *, resumable: bool) -> None:
        """The shard's connection ended."""
        entry = self._shards.get(shard)
        if entry is not None:
            entry.quiet_at = None
        event = ShardEvent.INTERRUPTED if resumable else ShardEvent.DISCONNECTED
        self._move(shard, event)

    def zombie(self, shard: int) -> None:
        """The gateway acknowledges no heartbeats."""
        self._move(shard, ShardEvent.ZOMBIE)

    def deaf(self, shard: int) -> None:
        """Heartbeats are acknowledged, but no event comes."""
        self._move(shard, ShardEvent.DEAF)

    def partly_deaf(self, shard: int) -> None:
        """No event of one type comes, while others do."""
        self._move(shard, ShardEvent.PARTLY_DEAF)

    def heard(self, shard: int) -> None:
        """What was missed came after all."""
        self._move(shard, ShardEvent.HEARD)

    def closed(self, shard: int) -> None:
        """The bot's author disconnected the shard."""
        entry = self._shards.get(shard)
        if entry is not None:
            entry.quiet_at = None
        self._move(shard, ShardEvent.CLOSED)

    def drain(self) -> None:
        """The node stops."""
        for shard in self._shards:
            self._move(shard, ShardEvent.DRAIN)

    def ready_received(self, shard: int, guilds: Iterable[int], now: float) -> list[ShardReady]:
        """READY came, with the guilds that are still to arrive."""
        entry = self._shards.get(shard)
        if entry is None:
            return []
        entry.awaited = set(guilds)
        entry.quiet_at = now + self.quiet_s
        return self._complete(shard) if not entry.awaited else []

    def guild_arrived(self, guild: int, now: float) -> list[ShardReady]:
        """A GUILD_CREATE came."""
        shard = (guild >> 22) % self.num_shards
        entry = self._shards.get(shard)
        if entry is None or entry.quiet_at is None:
            return []
        entry.awaited.discard(guild)
        entry.quiet_at = now + self.quiet_s
        return self._complete(shard) if not entry.awaited else []

    def resumed(self, shard: int) -> list[ShardReady]:
        """RESUMED came."""
        if not self._move(shard, ShardEvent.RESUMED):
            return []
        return [ShardReady(shard, self.num_shards, 0, resumed=True)]

    def tick(self, now: float) -> list[ShardReady]:
        """Complete the shards whose guilds have stopped arriving."""
        late = [
            shard
            for shard, entry in self._shards.items()
            if entry.quiet_at is not None and entry.quiet_at <= now
        ]
        return [report for shard in late for report in self._complete(shard)]

    def next_deadline(self) -> float | None:
        """When ``tick`` has something to do."""
        times = [e.quiet_at for e in self._shards.values() if e.quiet_at is not None]
        return min(times, default=None)

    def reports(
        self,
        guilds: Mapping[int, int],
        latency_ms: Mapping[int, float],
        sequence: Mapping[int, int],
        events_per_s: Mapping[int, float] = NOTHING,
        voice: Mapping[int, int] = NOTHING,
        flaws: Mapping[int, str] = NOTHING,
    ) -> tuple[ShardReport, ...]:
        """The shards as a heartbeat carries them; what is not known counts as nothing."""
        return tuple(
            ShardReport(
                shard,
                entry.state,
                guilds.get(shard, 0),
                latency_ms.get(shard, -1.0),
                sequence.get(shard, 0),
                entry.phase,
                entry.op,
                events_per_s=round(events_per_s.get(shard, 0.0), 2),
                voice=voice.get(shard, 0),
                flaw=flaws.get(shard, ""),
            )
            for shard, entry in self._shards.items()
        )

    def _complete(self, shard: int) -> list[ShardReady]:
        entry = self._shards[shard]
        entry.awaited, entry.quiet_at = set(), None
        if not self._move(shard, ShardEvent.READY):
            return []
        return [ShardReady(shard, self.num_shards, 0)]

    def _move(self, shard: int, event: ShardEvent) -> bool:
        """By the table; what is missing there changes nothing, nor does a shard that left."""
        entry = self._shards.get(shard)
        new = None if entry is None else after(entry.state, event)
        if entry is None or new is None:
            return False
        entry.state = new
        return True
