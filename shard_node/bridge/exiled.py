"""A guild whose events are not handled by its shard's holder, which is this process; and how what
waits of it is sent to the process that has it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge.owning import ELSEWHERE, GAP
from shard_node.errors import ShardNodeError
from shard_node.journal.place import GuildPlace
from shard_node.journal.records import HELD, Away
from shard_node.outbound import Batch, Outbound, Way
from shard_node.wire.migration import (
    GuildAt,
    GuildEvents,
    GuildHandled,
    GuildMoved,
    GuildPart,
    GuildPhase,
)
from shard_node.wire.targets import Node
from shard_node.wire.topics import GUILD_EVENTS, GUILD_MOVED

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold
    from shard_node.journal.writer import ShardJournal

_log = logging.getLogger(__name__)

SEND_S: Final = 2.0
"""A batch that is not answered by then is said again; an interaction has 3 s."""
AGAIN_S: Final = 0.05
AGAIN_MAX_S: Final = 0.5
SILENT_S: Final = 2.0
"""An owner that takes nothing for so long is told to the broker."""
GAPS_MAX: Final = 3
"""So often an owner may lack what it was not sent; then it has not what was acknowledged."""


class Exiled:
    """One guild. ``intact``: what the caches here hold of it is what this process has handled;
    ``stays``: something here needs them, so they are fed on."""

    def __init__(self, guild: int, version: int, shard: int, out: Outbound) -> None:
        self.guild, self.version, self.shard, self.out = guild, version, shard, out
        self.phase = GuildPhase.DRAINING
        self.intact, self.stays, self.burst = True, False, False
        self.error = ""
        self.since = time.monotonic()
        self.held_ms = 0.0
        self.wake, self.landed = asyncio.Event(), asyncio.Event()
        self.landed.set()
        self.turn = 0
        """Counts up with each new way: answers of an older one mean nothing."""
        self.gaps = 0
        self.pump: asyncio.Task[None] | None = None
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Nothing of it goes on."""
        self.turn += 1
        self.landed.set()
        for task in (self.pump, self.task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        self.pump = self.task = None


class Exiles:
    """The guilds that are away, and what is told and written of them."""

    def __init__(self, hold: Hold) -> None:
        self.bot, self.node = hold, hold.node
        self._guilds: dict[int, Exiled] = {}
        self.place: GuildPlace | None = None

    def write(self, one: Exiled, state: str) -> None:
        journal = self.journal(one)
        if journal is not None:
            journal.away(Away(one.guild, one.version, state, one.out.owner))
            journal.flush()

    def flush(self, one: Exiled) -> None:
        journal = self.journal(one)
        if journal is not None:
            journal.flush()

    def say(self, one: Exiled) -> None:
        waits = one.phase in (GuildPhase.HELD, GuildPhase.BURST)
        self.tell(
            one.guild,
            one.version,
            one.phase,
            owner=one.out.owner,
            at=one.out.at,
            held=len(one.out),
            held_ms=since_ms(one.since) if waits else one.held_ms,
            running=self.bot.tracking.busy(one.guild),
            error=one.error,
        )

    def say_all(self) -> None:
        for one in self._guilds.values():
            if one.phase is not GuildPhase.DRAINING:
                self.say(one)

    def tell(self, guild: int, version: int, phase: GuildPhase, **more: Any) -> None:
        moved = GuildMoved(guild, version, GuildPart.FEEDER, phase, **more)
        self.node.send_event(GUILD_MOVED, moved)

    def shard(self, guild: int) -> int:
        return (guild >> 22) % self.node.num_shards

    def of_shard(self, shard: int) -> list[Exiled]:
        return [one for one in self._guilds.values() if one.shard == shard]

    def placed(self) -> GuildPlace | None:
        keeping = self.bot.keeping
        if self.place is None and keeping is not None:
            its = keeping.place
            self.place = GuildPlace(its.folder, its.boot_id, its.application)
        return self.place

    def journal(self, one: Exiled) -> ShardJournal | None:
        return journal_of(self.bot, one)


class Forwarding:
    """Sends what waits, a batch at a time. ``said``: there is something to tell the broker."""

    def __init__(self, hold: Hold, said: Callable[[Exiled], None]) -> None:
        self.bot, self.node, self._said = hold, hold.node, said

    def start(self, one: Exiled) -> None:
        """It is routed."""
        if one.pump is None or one.pump.done():
            one.pump = asyncio.create_task(self._run(one), name="shardctl: forwarding")
        one.wake.set()

    def write_ack(self, one: Exiled) -> None:
        """What is handled needs not come again."""
        journal, at = journal_of(self.bot, one), one.out.at
        session = None if journal is None else journal.story.session
        if journal is not None and session is not None and session.id == at.session:
            journal.acked(one.guild, at.seq)

    async def _run(self, one: Exiled) -> None:
        silent_at, delay_s = 0.0, AGAIN_S
        while one.out.state is Way.ROUTED:
            batch = one.out.batch()
            if batch is None:
                one.wake.clear()
                await one.wake.wait()
                continue
            turn = one.turn
            one.landed.clear()
            answer = await self._ask(one, batch)
            if turn != one.turn:
                continue
            if answer is not None:
                silent_at, delay_s = 0.0, AGAIN_S
                self._answered(one, answer)
                one.landed.set()
                continue
            one.out.lost()
            one.landed.set()
            silent_at = silent_at or time.monotonic()
            if time.monotonic() - silent_at >= SILENT_S and not one.error:
                one.error = f"{one.out.owner} has taken nothing for {SILENT_S:.0f} s"
                self._said(one)
            await asyncio.sleep(delay_s)
            delay_s = min(AGAIN_MAX_S, delay_s * 2)

    async def _ask(self, one: Exiled, batch: Batch) -> GuildHandled | None:
        """Send it. None: it may not have come."""
        body = GuildEvents(
            one.guild,
            one.version,
            self.node.num_shards,
            one.shard,
            batch.session,
            batch.after,
            tuple((entry.seq, entry.event, entry.raw) for entry in batch.entries),
        )
        try:
            found: GuildHandled = await self.node.request(
                Node(one.out.owner), GUILD_EVENTS, body, timeout_s=SEND_S
            )
        except ShardNodeError as error:
            _log.debug("guild %d: %s took nothing: %s", one.guild, one.out.owner, error)
            return None
        return found

    def _answered(self, one: Exiled, answer: GuildHandled) -> None:
        out = one.out
        if answer.code == ELSEWHERE:
            out.lost()
            self._held_back(one, f"{out.owner} does not have guild {one.guild}")
            return
        count = out.handled(GuildAt(answer.session, answer.seq))
        if count:
            self.write_ack(one)
            one.burst = one.burst and out.full
        one.gaps = one.gaps + 1 if answer.code == GAP and not count else 0
        if one.gaps >= GAPS_MAX:
            self._held_back(one, f"{out.owner} lacks events of guild {one.guild}")
        elif one.error:
            one.error = ""
            self._said(one)

    def _held_back(self, one: Exiled, why: str) -> None:
        """It cannot go there; the broker decides."""
        _log.warning("its events are held: %s", why)
        one.out.hold()
        one.error, one.phase, one.since, one.gaps = why, GuildPhase.HELD, time.monotonic(), 0
        journal = journal_of(self.bot, one)
        if journal is not None:
            journal.away(Away(one.guild, one.version, HELD, one.out.owner))
        self._said(one)


def journal_of(hold: Hold, one: Exiled) -> ShardJournal | None:
    """That of its shard."""
    keeping = hold.keeping
    return None if keeping is None else keeping.journals.get(one.shard)


def since_ms(since: float) -> float:
    """Of a monotonic time."""
    return (time.monotonic() - since) * 1000
