"""What the node knows of its shards, read off disnake's state once a second.

READY, RESUMED, GUILD_CREATE and GUILD_DELETE are seen by standing in for their parsers;
all other events pass untouched, so that the node costs them nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from shard_node.rates import Rates
from shard_node.wire.bodies import ShardReady, ShardReport
from shard_node.wire.topics import SHARD_READY

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

Parser = Callable[[Any], Any]


class Reports:
    """Watches one bot's shards and reports them."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._node = hold.node
        self._state = hold.client._connection
        self._guilds: dict[int, int] = {}
        self._dirty = True
        self._rates = Rates()
        self._timer: asyncio.TimerHandle | None = None
        self._stand_in()

    def snapshot(self) -> tuple[ShardReport, ...]:
        """The shards as the next heartbeat carries them."""
        shards = self._hold.shards
        sequences = {shard: held.ws.sequence or 0 for shard, held in shards.items()}
        return self._node.table.reports(
            self._guild_counts(),
            {shard: _latency_ms(held.ws.latency) for shard, held in shards.items()},
            sequences,
            self._rates.look(sequences, time.monotonic()),
            self._voice(),
            self._hold.keeping.flaws() if self._hold.keeping is not None else {},
        )

    def _voice(self) -> dict[int, int]:
        """The voice clients of each shard."""
        num_shards = self._node.num_shards
        return Counter((guild >> 22) % num_shards for guild in self._state._voice_clients)

    def changed(self) -> None:
        """Guilds came or went unseen."""
        self._dirty = True

    def guilds(self, shard: int) -> int:
        """The guilds of a shard."""
        return self._guild_counts().get(shard, 0)

    def left(self, shard: int) -> None:
        """Another process has the shard: its rate begins anew when it comes back."""
        self._rates.forget(shard)

    def close(self) -> None:
        """No timer outlives the loop."""
        if self._timer is not None:
            self._timer.cancel()

    # --- the four parsers

    def _stand_in(self) -> None:
        parsers = self._state.parsers
        for event, seen in (
            ("READY", self._ready),
            ("RESUMED", self._resumed),
            ("GUILD_CREATE", self._guild_created),
            ("GUILD_DELETE", self._guild_deleted),
        ):
            parsers[event] = and_then(parsers[event], seen)

    def _ready(self, data: Any) -> None:
        shard = data["__shard_id__"]
        self._hold.settled(shard, resumed=False)
        self._dirty = True
        self._purge(shard, {int(guild["id"]) for guild in data["guilds"]})
        awaited = [int(guild["id"]) for guild in data["guilds"] if guild.get("unavailable")]
        self._tell(self._node.table.ready_received(shard, awaited, time.monotonic()))
        self._set_timer()

    def _resumed(self, data: Any) -> None:
        shard = data["__shard_id__"]
        self._hold.settled(shard, resumed=True)
        self._tell(self._node.table.resumed(shard))

    def _guild_created(self, data: Any) -> None:
        self._dirty = True
        self._tell(self._node.table.guild_arrived(int(data["id"]), time.monotonic()))

    def _guild_deleted(self, _data: Any) -> None:
        self._dirty = True

    def _purge(self, shard: int, present: set[int]) -> None:
        """After a second IDENTIFY: guilds that left meanwhile. disnake keeps them for ever."""
        gone = [
            guild
            for guild_id, guild in self._state._guilds.items()
            if (guild_id >> 22) % self._node.num_shards == shard and guild_id not in present
        ]
        for guild in gone:
            self._state._remove_guild(guild)

    # --- telling

    def _tell(self, ready: Iterable[ShardReady]) -> None:
        for report in ready:
            guilds = self._guild_counts().get(report.shard, 0)
            body = ShardReady(report.shard, report.num_shards, guilds, report.resumed)
            self._node.send_event(SHARD_READY, body)
            self._node.refresh()

    def _guild_counts(self) -> dict[int, int]:
        if self._dirty:
            num_shards = self._node.num_shards
            self._guilds = Counter((guild >> 22) % num_shards for guild in self._state._guilds)
            self._dirty = False
        return self._guilds

    def _set_timer(self) -> None:
        self.close()
        deadline = self._node.table.next_deadline()
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, deadline - time.monotonic()), self._quiet)

    def _quiet(self) -> None:
        self._tell(self._node.table.tick(time.monotonic()))
        self._set_timer()


def and_then(parse: Parser, seen: Parser) -> Parser:
    """``parse``, then ``seen``. A fault of ours is logged and harms no event."""

    def parser(data: Any) -> None:
        parse(data)
        try:
            seen(data)
        except Exception:
            _log.exception("the node could not take note of an event")

    return parser


def _latency_ms(latency_s: float) -> float:
    """Milliseconds; -1 before the first acknowledgement."""
    return latency_s * 1000 if math.isfinite(latency_s) else -1.0
