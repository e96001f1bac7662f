"""Listens whether the shards still hear: ``shard_node.pulse`` on real connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge import alive
from shard_node.errors import BrokerUnavailable, RequestFailed, RequestTimeout
from shard_node.missing import Cure, Finding
from shard_node.pulse import Pulse
from shard_node.wire.bodies import ShardState
from shard_node.wire.health import OthersRequest, ShardHealth
from shard_node.wire.topics import SHARD_HEALTH, SHARD_OTHERS

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeShard, NodeWebSocket
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
KEEP_EVERY_S: Final = 300.0
"""How often the rates go into the journal."""
AGE_MAX_S: Final = 3600.0
"""Heartbeats tell of types of events that came within that time."""
PROBE_NONCE: Final = "shardctl-pulse"
_JUDGED: Final = frozenset({ShardState.READY, ShardState.DEAF, ShardState.PARTLY_DEAF})


class Listening:
    """Of one bot, from ``start`` on; ``close`` ends it."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._pulses: dict[int, Pulse] = {}
        self._listener: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept_at = time.monotonic()

    def start(self) -> None:
        """Begin to look, twice a second."""
        self._listener = asyncio.create_task(self._listen(), name="shardctl: listening")

    def close(self) -> None:
        """The journals get the rates; no task outlives the loop."""
        self._keep(time.monotonic())
        for task in (self._listener, *self._tasks):
            if task is not None:
                task.cancel()

    def left(self, shard_id: int) -> None:
        """A shard goes to another process, with its rates."""
        pulse, journal = self._pulses.pop(shard_id, None), self._journal(shard_id)
        if pulse is not None and journal is not None:
            journal.pulse(pulse.keep(time.monotonic(), time.time()))

    async def _listen(self) -> None:
        while not self._hold.stopping:
            await asyncio.sleep(LOOK_S)
            now, hour = time.monotonic(), time.localtime().tm_hour
            for shard in list(self._hold.shards.values()):
                try:
                    self._look(shard, now, hour)
                except Exception:
                    _log.exception("the node could not judge the hearing of shard %d", shard.id)
            self._tell(now)
            if now - self._kept_at >= KEEP_EVERY_S:
                self._keep(now)

    def _look(self, shard: NodeShard, now: float, hour: int) -> None:
        heard, shard.ws.heard = shard.ws.heard, {}
        found: list[Finding] = []
        pulse = self._pulses.get(shard.id)
        if "READY" in heard or "RESUMED" in heard:
            if pulse is None:
                pulse = self._pulses[shard.id] = self._new(shard.id, now)
            found += pulse.connected(now, resumed="READY" not in heard)
            heard = {}  # what RESUME replays says nothing of what comes from now on
        if pulse is None:
            return
        if self._hold.node.table.state(shard.id) not in _JUDGED:
            pulse.connecting()
            return
        if self._some_guild(shard.id) is None:
            return  # nothing comes, and there is nothing to ask for
        for finding in (*found, *pulse.look(now, hour, heard)):
            self._act(shard, finding)

    def _new(self, shard_id: int, now: float) -> Pulse:
        journal = self._journal(shard_id)
        kept = b"" if journal is None else journal.story.pulse
        return Pulse(now, time.time(), kept)

    def _journal(self, shard_id: int) -> Any:
        keeping = self._hold.keeping
        return None if keeping is None else keeping.journals.get(shard_id)

    def _keep(self, now: float) -> None:
        self._kept_at, wall = now, time.time()
        for shard_id, pulse in self._pulses.items():
            journal = self._journal(shard_id)
            if journal is not None:
                journal.pulse(pulse.keep(now, wall))

    def _tell(self, now: float) -> None:
        """The next heartbeat tells which types of events came to this process."""
        ages: dict[str, float] = {}
        for pulse in self._pulses.values():
            for event, age_s in pulse.ages(now, AGE_MAX_S).items():
                ages[event] = round(min(age_s, ages.get(event, age_s)), 1)
        self._hold.node.vitals.heard = ages

    # --- what is found

    def _act(self, shard: NodeShard, finding: Finding) -> None:
        if finding.cure is Cure.PROBE:
            self._begin(self._probe(shard.id, shard.ws))
            return
        if finding.cure is Cure.ASK:
            self._begin(self._ask(shard, finding))
            return
        if finding.what == "deaf" and not _acknowledged(shard.ws):
            self._begin(alive.give_up(self._hold, shard.ws))
            return
        if finding.what:
            self._say(shard.id, finding)
        if finding.cure is Cure.NONE:
            return
        _log.warning("shard %d will %s: %s", shard.id, finding.cure.name, finding.detail)
        self._hold.recover(shard, resume=finding.cure is Cure.RESUME)

    def _say(self, shard_id: int, finding: Finding) -> None:
        node, what = self._hold.node, finding.what
        move = {
            "deaf": node.table.deaf,
            "partly-deaf": node.table.partly_deaf,
            "heard": node.table.heard,
        }[what]
        move(shard_id)
        level = logging.INFO if what == "heard" else logging.WARNING
        detail = finding.detail or "what was missed comes again"
        _log.log(level, "shard %d is %s: %s", shard_id, what, detail)
        node.refresh()
        body = ShardHealth(shard_id, node.num_shards, what, finding.detail)
        node.send_event(SHARD_HEALTH, body)

    async def _probe(self, shard_id: int, ws: NodeWebSocket) -> None:
        """Ask for the bot's own member; and for an acknowledgement, to tell deaf from dead."""
        client = self._hold.client
        guild = self._some_guild(shard_id)
        if guild is None or ws._keep_alive is None or client.user is None:
            return
        with contextlib.suppress(Exception):  # a connection that is gone is noticed elsewhere
            await ws.send_as_json(ws._keep_alive.get_payload())
            await ws.request_chunks(guild, limit=1, user_ids=[client.user.id], nonce=PROBE_NONCE)

    async def _ask(self, shard: NodeShard, finding: Finding) -> None:
        """Whether other shards get the type: of this process, else of other nodes."""
        node, now, event = self._hold.node, time.monotonic(), finding.event
        others = any(
            event in pulse.ages(now, finding.within_s)
            for other, pulse in self._pulses.items()
            if other != shard.id
        )
        if not others:
            body = OthersRequest(shard.id, node.num_shards, event, finding.within_s)
            try:
                others = (await node.ask(SHARD_OTHERS, body)).heard > 0
            except (BrokerUnavailable, RequestTimeout, RequestFailed) as error:
                _log.info("shard %d: nobody says whether others get %s: %s", shard.id, event, error)
                return
        for found in self._pulses[shard.id].answered(time.monotonic(), event, others=others):
            self._act(shard, found)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="shardctl: probe")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _some_guild(self, shard_id: int) -> int | None:
        guilds, num_shards = self._hold.client._connection._guilds, self._hold.node.num_shards
        return next((guild for guild in guilds if (guild >> 22) % num_shards == shard_id), None)


def _acknowledged(ws: NodeWebSocket) -> bool:
    beats = ws._keep_alive
    return beats is None or beats._last_ack >= ws.beat_at
