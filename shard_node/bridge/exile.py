"""Guilds of this process's shards that another process handles, or shall: their events are taken
out of the stream, wait in order, and go where the broker says.

All that changes caches stays in the shard's journal, which is where the next owner reads the guild.
An event that is not acknowledged is named there (OUT), so whoever has the shard next has the
gateway say it again. No text of a message, and no token, is ever written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge.exiled import Exiled, Exiles, Forwarding, since_ms
from shard_node.bridge.homecoming import Homecoming
from shard_node.bridge.owning import left
from shard_node.journal.records import HELD, HOME, ROUTED, guild_of
from shard_node.outbound import Entry, HoldLimits, Outbound, Way
from shard_node.wire.migration import (
    GuildAt,
    GuildHold,
    GuildPhase,
    GuildRoute,
)
from shard_node.wire.topics import GUILD_HOLD, GUILD_ROUTE

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold
    from shard_node.journal.story import Story
    from shard_node.journal.writer import ShardJournal

_log = logging.getLogger(__name__)

FREEZE_S: Final = 0.05
"""A shard that goes waits so long for the answer to what is on its way."""
BUSY_EVERY_S: Final = 1.0
_CHUNK: Final = "GUILD_MEMBERS_CHUNK"


class Exile(Exiles):
    """Of one bot. Falsy as long as no guild is away: then nothing is asked."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold)
        self.limits = HoldLimits()
        self._forwarding = Forwarding(hold, self.say)
        self._homecoming = Homecoming(hold)
        self._tasks = set[asyncio.Task[None]]()

    def __bool__(self) -> bool:
        return bool(self._guilds)

    def serve(self) -> None:
        """Hear what the broker says."""
        self.node.hears[GUILD_HOLD] = self.hold
        self.node.hears[GUILD_ROUTE] = self.route
        self.node.welcomed.append(self.say_all)

    def close(self) -> None:
        """The process ends; what waits comes again at whoever has the shard next."""
        for one in self._guilds.values():
            one.stop()
        self._guilds.clear()
        for task in tuple(self._tasks):
            task.cancel()
        if self.place is not None:
            self.place.close()

    # --- what the tap asks

    def of(self, shard: int, event: str, data: Any) -> Exiled | None:
        """The guild of an event, if it is away."""
        try:
            guild = guild_of(event, data)
        except (AttributeError, TypeError, ValueError):
            return None  # nor can its parser read it
        one = None if guild is None else self._guilds.get(guild)
        if one is None or one.shard != shard:
            return None
        if event == _CHUNK and self._is_asked_here(data):
            return None  # a handler here waits for it
        return one

    def put(
        self,
        one: Exiled,
        entry: Entry,
        data: Any,
        journal: ShardJournal | None,
        *,
        again: bool,
    ) -> None:
        """An event of a guild that is away; its change is in the journal. ``again``: a predecessor
        had it, or this process."""
        if journal is not None:
            if again and journal.story.out.get(entry.seq) != one.guild:
                return  # it was acknowledged
            if not again:
                journal.out(entry.seq, one.guild)
        is_new = one.out.put(entry)
        if is_new and not again and one.stays and not self.bot.hosting.knows(one.guild):
            self._feed(entry.event, data)
        one.wake.set()
        if one.out.full and not one.burst:
            self._burst(one)
        elif one.out.hopeless:
            self._despair(one)

    def here(self, guilds: Any) -> list[Any]:
        """Of a READY's guilds those that are not away."""
        return [guild for guild in guilds if int(guild["id"]) not in self._guilds]

    def _is_asked_here(self, data: Any) -> bool:
        nonce = data.get("nonce")
        requests = self.bot.client._connection._chunk_requests.values()
        return any(request.nonce == nonce for request in requests)

    # --- what becomes of the shard

    def renewed(self, shard: int) -> None:
        """Its session is another: what was to come again does not."""
        for one in self.of_shard(shard):
            journal = self.journal(one)
            unhandled = [] if journal is None else journal.story.unhandled(one.guild)
            name = _name(journal)
            lost = [seq for seq in unhandled if not one.out.waits(name, seq)]
            if lost:
                _log.warning(
                    "guild %d: %d events were not forwarded, and will not be: the session in which "
                    "they came is over (%d to %d)",
                    one.guild, len(lost), lost[0], lost[-1],
                )  # fmt: skip
            one.out.again()
            asyncio.get_running_loop().call_soon(one.wake.set)

    async def freeze(self, shard: int) -> None:
        """The shard is about to be given up, and nothing of it is read any more."""
        mine = self.of_shard(shard)
        for one in mine:
            one.out.hold()
        flying = [asyncio.create_task(one.landed.wait()) for one in mine if one.out.flying]
        if flying:
            _, late = await asyncio.wait(flying, timeout=FREEZE_S)
            for task in late:
                task.cancel()
        for one in mine:
            one.stop()
            del self._guilds[one.guild]

    def restore(self, shard: int, story: Story) -> None:
        """The shard has come, its caches were fed; ``story`` is that of its journal."""
        for away in tuple(story.away.values()):
            session = "" if story.session is None else story.session.id
            known = session and away.guild in story.acked
            at = GuildAt(session, story.acked[away.guild]) if known else GuildAt()
            out = Outbound(away.guild, at, self.limits)
            one = self._guilds[away.guild] = Exiled(away.guild, away.version, shard, out)
            out.owner = away.owner
            if away.state == ROUTED:
                out.route(away.owner)
                one.phase = GuildPhase.ROUTED
                self._forwarding.start(one)
            else:
                one.phase = GuildPhase.HELD
            one.intact = not away.owner
            if one.intact:
                self._homecoming.feed(shard, away.guild)
            else:
                self._uncache(one)
            self.say(one)

    # --- what the broker says

    def hold(self, told: GuildHold) -> None:
        """The guild's events wait."""
        one = self._guilds.get(told.guild)
        if one is None:
            one = self._begin(told)
            if one is None:
                return
        elif told.version < one.version:
            return
        elif told.version == one.version:
            if one.phase is not GuildPhase.DRAINING:
                self.say(one)
            return
        else:
            one.version = told.version
            if one.task is not None:
                one.task.cancel()
            if one.out.state is not Way.HELD:
                one.since = time.monotonic()
            one.out.hold()
        one.phase, one.error = GuildPhase.DRAINING, ""
        self.write(one, HELD)
        one.task = self._later(self._drain(one, told.drain_s))

    def route(self, told: GuildRoute) -> None:
        """Its events go to a process, or are handled here."""
        one = self._guilds.get(told.guild)
        if one is None:
            keeping = self.bot.keeping
            if keeping is not None and self.shard(told.guild) in keeping.journals:
                self.tell(told.guild, told.version, GuildPhase.HOME)
            return
        if told.version < one.version:
            return
        one.version = told.version
        out = one.out
        if told.owner:
            if out.state is Way.ROUTED and out.owner == told.owner:
                self.say(one)
            else:
                self._go(one, told.owner)
        elif out.state is not Way.PARSING:
            at = self.bot.hosting.home(one.guild)
            one.intact = one.intact or at is not None
            self._home(one, at or out.at)

    # --- held

    def _begin(self, told: GuildHold) -> Exiled | None:
        shard, keeping = self.shard(told.guild), self.bot.keeping
        journal = None if keeping is None else keeping.journals.get(shard)
        session = None if journal is None else journal.story.session
        if keeping is None or journal is None or session is None or journal.broken:
            who = f"{self.node.name}#{self.node.epoch}"
            error = f"{who} does not hold shard {shard}"
            if shard in self.node.shards:
                error = f"shard {shard} of {who} has no journal: nobody could take the guild"
            self.tell(told.guild, told.version, GuildPhase.FAILED, error=error)
            return None
        journal.flush()
        at = GuildAt(session.id, journal.story.handled_seq)
        out = Outbound(told.guild, at, self.limits)
        one = self._guilds[told.guild] = Exiled(told.guild, told.version, shard, out)
        journal.acked(told.guild, at.seq)
        return one

    async def _drain(self, one: Exiled, drain_s: float) -> None:
        if one.out.flying:
            await one.landed.wait()  # a batch is answered, or lost after SEND_S
        if not one.out.owner:
            await self.bot.tracking.quiet(one.guild, drain_s)
        self.flush(one)
        one.phase = GuildPhase.HELD
        self.say(one)

    # --- away

    def _go(self, one: Exiled, owner: str) -> None:
        if one.task is not None:
            one.task.cancel()
        one.turn += 1
        one.landed.set()
        settles = one.intact or one.stays
        one.out.route(owner)
        one.intact = one.burst = False
        one.phase, one.error = GuildPhase.ROUTED, ""
        one.held_ms = since_ms(one.since)
        self.write(one, ROUTED)
        if one.out.shed:
            self._again(one)
        self._forwarding.start(one)
        self.say(one)
        if settles:
            one.stays = True
            one.task = self._later(self._settle(one))

    async def _settle(self, one: Exiled) -> None:
        """Handlers that run on need what the caches hold; then it goes without a word."""
        clock = asyncio.get_running_loop().time
        until = clock() + self.node.settings.linger_s
        while self.bot.tracking.busy(one.guild) and clock() < until:
            await self.bot.tracking.quiet(one.guild, BUSY_EVERY_S)
        one.stays = False
        if self._guilds.get(one.guild) is one and not one.intact:
            self._uncache(one)

    def _feed(self, event: str, data: Any) -> None:
        keeping = self.bot.keeping
        try:
            if keeping is not None:
                keeping.feeder.event(event, data)
        except Exception:
            _log.debug("%s could not be fed", event, exc_info=True)

    def _uncache(self, one: Exiled) -> None:
        keeping = self.bot.keeping
        if keeping is not None and not self.bot.hosting.knows(one.guild):
            keeping.feeder.drop(one.guild)
            self.bot.reports.changed()

    # --- home

    def _home(self, one: Exiled, at: GuildAt) -> None:
        if one.task is not None and one.task is not asyncio.current_task():
            one.task.cancel()
        one.turn += 1
        one.landed.set()
        one.out.home(at)
        self._forwarding.write_ack(one)
        if not one.intact:
            self._homecoming.feed(one.shard, one.guild)
            one.intact, one.stays = True, False
        if one.out.shed:
            self._again(one)
        if self._homecoming.parse(one):
            self._ended(one)
        else:
            one.task = self._later(self._parse(one))

    async def _parse(self, one: Exiled) -> None:
        while not self._homecoming.parse(one):
            if len(one.out):
                await asyncio.sleep(0)
            else:
                one.wake.clear()
                await one.wake.wait()
        self._ended(one)

    def _ended(self, one: Exiled) -> None:
        one.held_ms = since_ms(one.since)
        one.phase = GuildPhase.HOME
        self.write(one, HOME)
        one.stop()
        del self._guilds[one.guild]
        if (place := self.placed()) is not None:
            place.forget(one.guild)
        self.say(one)

    # --- too much

    def _burst(self, one: Exiled) -> None:
        """The broker ends it, if there is one."""
        one.burst = True
        what = f"{len(one.out)} events ({one.out.bytes} bytes) of guild {one.guild} wait"
        one.error = what
        if one.phase in (GuildPhase.HELD, GuildPhase.DRAINING):
            one.phase = GuildPhase.BURST
        _log.warning("%s", what)
        self.say(one)
        if not self.node.broker_up:
            self._despair(one)

    def _despair(self, one: Exiled) -> None:
        """Nobody ends it. Where no process has the guild it is this one's again; else the texts
        go, and the gateway says all of it again when there is somebody to send it to."""
        place = self.placed()
        if one.out.state is Way.PARSING:
            return
        if place is None or not place.take(one.guild):
            _log.warning("guild %d: what waits is let go of, and will come again", one.guild)
            one.out.let_go()
            return
        found = left(place, one.guild)
        place.free(one.guild)
        if found.interrupted:
            named = ", ".join(each.words() for each in found.interrupted)
            _log.warning("guild %d: not handled to the end, and not again: %s", one.guild, named)
        _log.warning("guild %d is handled here again: no other process has it", one.guild)
        self._home(one, found.at)

    def _again(self, one: Exiled) -> None:
        """Have the gateway say what is not handled again."""
        keeping, held = self.bot.keeping, self.bot.shards.get(one.shard)
        journal = self.journal(one)
        one.out.again()
        if keeping is None or journal is None or held is None:
            return
        journal.flush()
        keeping.gate.skip(one.shard, journal.story.handled_seq)
        held.ws.sequence = journal.story.resume_from
        self.bot.recover(held, resume=True)

    # --- within

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="shardctl: guild away")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _name(journal: ShardJournal | None) -> str:
    """Of the session that it is of."""
    session = None if journal is None else journal.story.session
    return "" if session is None else session.id
