"""The shards of this node and their states. Pure: events and a ``now`` in, reports out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shard_node.wire.bodies import ShardReady, ShardReport, ShardState

_S = ShardState

TRANSITIONS: Final[dict[tuple[ShardState, str], ShardState]] = {
    (_S.QUEUED, "permitted"): _S.IDENTIFYING,
    (_S.IDENTIFYING, "ready"): _S.READY,
    (_S.IDENTIFYING, "disconnected"): _S.QUEUED,
    (_S.IDENTIFYING, "interrupted"): _S.RESUMING,
    (_S.RESUMING, "resumed"): _S.READY,
    (_S.RESUMING, "disconnected"): _S.QUEUED,
    (_S.RESUMING, "interrupted"): _S.RESUMING,
    (_S.READY, "disconnected"): _S.QUEUED,
    (_S.READY, "interrupted"): _S.RESUMING,
    (_S.QUEUED, "disconnected"): _S.QUEUED,
    (_S.QUEUED, "interrupted"): _S.RESUMING,
    (_S.QUEUED, "drain"): _S.DRAINING,
    (_S.IDENTIFYING, "drain"): _S.DRAINING,
    (_S.RESUMING, "drain"): _S.DRAINING,
    (_S.READY, "drain"): _S.DRAINING,
    (_S.LOST, "drain"): _S.DRAINING,
    (_S.QUEUED, "closed"): _S.LOST,
    (_S.IDENTIFYING, "closed"): _S.LOST,
    (_S.RESUMING, "closed"): _S.LOST,
    (_S.READY, "closed"): _S.LOST,
    (_S.LOST, "disconnected"): _S.QUEUED,
    (_S.LOST, "interrupted"): _S.RESUMING,
}
"""Every transition. ``interrupted`` keeps a session to RESUME, ``disconnected`` does not,
``closed`` is a disconnect that the bot's author asked for. What is missing changes nothing:
it is an echo of a connection that is gone already."""


class _Shard:
    __slots__ = ("awaited", "quiet_at", "state")

    def __init__(self) -> None:
        self.state = ShardState.QUEUED
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

    def state(self, shard: int) -> ShardState:
        """The state of ``shard``."""
        return self._shards[shard].state

    def permitted(self, shard: int) -> None:
        """The shard holds a permit and connects to IDENTIFY."""
        self._move(shard, "permitted")

    def disconnected(self, shard: int, *, resumable: bool) -> None:
        """The shard's connection ended."""
        self._shards[shard].quiet_at = None
        self._move(shard, "interrupted" if resumable else "disconnected")

    def closed(self, shard: int) -> None:
        """The bot's author disconnected the shard."""
        self._shards[shard].quiet_at = None
        self._move(shard, "closed")

    def drain(self) -> None:
        """The node stops."""
        for shard in self._shards:
            self._move(shard, "drain")

    def ready_received(self, shard: int, guilds: Iterable[int], now: float) -> list[ShardReady]:
        """READY came, with the guilds that are still to arrive."""
        entry = self._shards[shard]
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
        if not self._move(shard, "resumed"):
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
        self, guilds: dict[int, int], latency_ms: dict[int, float], sequence: dict[int, int]
    ) -> tuple[ShardReport, ...]:
        """The shards as a heartbeat carries them; what is not known counts as nothing."""
        return tuple(
            ShardReport(
                shard,
                entry.state,
                guilds.get(shard, 0),
                latency_ms.get(shard, -1.0),
                sequence.get(shard, 0),
            )
            for shard, entry in self._shards.items()
        )

    def _complete(self, shard: int) -> list[ShardReady]:
        entry = self._shards[shard]
        entry.awaited, entry.quiet_at = set(), None
        if not self._move(shard, "ready"):
            return []
        return [ShardReady(shard, self.num_shards, 0)]

    def _move(self, shard: int, event: str) -> bool:
        entry = self._shards[shard]
        after = TRANSITIONS.get((entry.state, event))
        if after is None:
            return False
        entry.state = after
        return True
