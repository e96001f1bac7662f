"""How a guild comes from another process: its part of the caches warmed from its shard's journal,
then its lock, and a journal of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from shard_node.bridge.guildread import GuildReader, ShardSource
from shard_node.bridge.owning import Owned, left
from shard_node.journal.place import GuildPlace
from shard_node.wire.lifecycle import Interrupted
from shard_node.wire.migration import GuildAt, GuildPhase, GuildTake

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

READ_S: Final = 0.002
"""The same, when it is to be taken."""
TAKE_S: Final = 5.0
"""How long what is needed for that may take, the lock as well; the broker waits less long."""
OTHER_SESSION_S: Final = 0.1
"""The feeder has named another session than the journal shows: it may be behind, or ahead."""
SOURCES_KEPT: Final = 8
"""Journals of shards of which no guild is read now; the one used longest ago is closed."""


class CannotTake(Exception):
    """Why a guild does not come here."""


class Boarder:
    """One guild, and how far this process is with it."""

    def __init__(self, told: GuildTake) -> None:
        self.guild, self.told, self.version = told.guild, told, told.version
        self.phase = GuildPhase.WARMING
        self.owned: Owned | None = None
        self.reader: GuildReader | None = None
        self.task: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()
        self.at = GuildAt()
        self.interrupted: tuple[Interrupted, ...] = ()
        self.error = ""

    def stop(self) -> None:
        """Nothing is read or waited for any more."""
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        self.task = None
        if self.reader is not None:
            self.reader.close()
            self.reader = None


class Boarding:
    """Of one bot. ``place``: where guilds' journals are, once one is needed."""

    def __init__(self, hold: Hold) -> None:
        self._hold, self._node = hold, hold.node
        self._sources: dict[int, ShardSource] = {}
        self.place: GuildPlace | None = None

    def free(self, guild: int) -> None:
        """Let go of a guild's lock."""
        if self.place is not None:
            self.place.free(guild)

    def close(self) -> None:
        """The process ends."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        if self.place is not None:
            self.place.close()

    def check(self, told: GuildTake) -> None:
        """Raises CannotTake where this process can have no such guild."""
        node, hold = self._node, self._hold
        who = f"{node.name}#{node.epoch}"
        if told.num_shards != node.num_shards:
            raise CannotTake(f"{who} is of {node.num_shards} shards, not of {told.num_shards}")
        if hold.keeping is None:
            raise CannotTake(f"{who} has no journal: no guild can be handed over to it")
        if hold.stopping or hold.client.is_closed():
            raise CannotTake(f"node {node.name} stops")

    async def warm(self, one: Boarder) -> None:
        """Feed what its shard's journal tells of it."""
        source, keeping = await self._source(one.told.shard), self._hold.keeping
        assert keeping is not None
        if source.story.session is not None:
            keeping.feeder.identity(source.story.session)  # before members: one is the bot
        one.reader = GuildReader(source, one.guild, keeping.feeder)
        if not one.reader.known:
            text = f"the journal of shard {source.shard} knows of no guild {one.guild}"
            raise CannotTake(text)
        while not self.read_on(one):
            await asyncio.sleep(0)
        one.at = one.reader.at

    async def _source(self, shard: int) -> ShardSource:
        keeping = self._hold.keeping
        assert keeping is not None
        source = self._sources.pop(shard, None)
        if source is None or source.problem:
            source = ShardSource(keeping.place, shard)
        self._sources[shard] = source
        source.wanted += 1
        try:
            return await self._opened(source)
        finally:
            source.wanted -= 1

    async def _opened(self, source: ShardSource) -> ShardSource:
        idle = [one for one in self._sources.values() if not (one.readers or one.wanted)]
        for kept in idle[: max(0, len(self._sources) - SOURCES_KEPT)]:
            self._sources.pop(kept.shard).close()
        await source.open()
        if source.problem:
            raise CannotTake(source.problem)
        return source

    def read_on(self, one: Boarder, up_to: int | None = None) -> bool:
        """Feed what was written since; whether that is all."""
        reader, keeping = one.reader, self._hold.keeping
        assert reader is not None
        assert keeping is not None
        if (journal := keeping.journals.get(one.told.shard)) is not None:
            journal.flush()  # the shard is this process's own
        fed = reader.more(up_to)
        if reader.problem:
            raise CannotTake(reader.problem)
        return fed

    async def have(self, one: Boarder) -> None:
        """Its feeder holds it, and its owner has let go of it or is about to."""
        reader, told, place = one.reader, one.told, self._placed()
        assert reader is not None
        async with asyncio.timeout(TAKE_S):
            await self._read_to(one, reader)
            told = one.told
            if not await place.wait(one.guild, TAKE_S, READ_S):
                text = f"guild {one.guild} is still held by another process"
                raise CannotTake(text)
            found = left(place, one.guild)
            at = _latest(told.up_to, found.at, reader.at.session)
            up_to = at.seq if at.session == reader.at.session else None
            while not self.read_on(one, up_to):
                await asyncio.sleep(0)
        reader.lasts()
        one.at, one.interrupted = at, found.interrupted
        if told.shard in self._node.shards:
            place.free(one.guild)  # its holder's own: what is sent nowhere needs no lock
        else:
            one.owned = Owned(self._hold, place, one.guild, at)
        self._hold.reports.changed()
        reader.close()
        one.reader = None

    async def _read_to(self, one: Boarder, reader: GuildReader) -> None:
        """Until the journal says what the feeder has said."""
        clock = asyncio.get_running_loop().time
        other_until = clock() + OTHER_SESSION_S
        while True:
            self.read_on(one)
            wanted, at = one.told.up_to, reader.at
            if not wanted.session:
                return
            if at.seq >= wanted.seq if at.session == wanted.session else clock() > other_until:
                return
            await until(one.wake, READ_S)

    def _placed(self) -> GuildPlace:
        keeping = self._hold.keeping
        assert keeping is not None
        if self.place is None:
            its = keeping.place
            self.place = GuildPlace(its.folder, its.boot_id, its.application)
        return self.place


async def until(wake: asyncio.Event, timeout_s: float) -> None:
    """Wait until something is told, at most so long."""
    wake.clear()
    try:
        async with asyncio.timeout(timeout_s):
            await wake.wait()
    except TimeoutError:
        return


def _latest(told: GuildAt, found: GuildAt, session: str) -> GuildAt:
    """Up to where somebody has handled the guild's events: as the feeder knows by what was
    acknowledged, or further, as its last owner has written; ``session`` is the shard's."""
    if found.session != session or not session:
        return told
    return found if told.session != session or found.seq > told.seq else told
