"""Guilds of other processes' shards whose events are handled here: taken, had, given up.

The broker says what is to be done, and is told each phase. Who may handle a guild's events the
kernel's lock of its journal decides, so a broker, a message or the other process may be missing
at any time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge.boarding import Boarder, Boarding, CannotTake, until
from shard_node.bridge.owning import ELSEWHERE, Owned
from shard_node.peer.handlers import Message
from shard_node.wire.migration import (
    GuildAt,
    GuildDrop,
    GuildEvents,
    GuildHandled,
    GuildMoved,
    GuildPart,
    GuildPhase,
    GuildRelease,
    GuildTake,
)
from shard_node.wire.topics import (
    GUILD_DROP,
    GUILD_EVENTS,
    GUILD_MOVED,
    GUILD_RELEASE,
    GUILD_TAKE,
)

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

FOLLOW_S: Final = 0.02
"""How often the journal of a guild's shard is read that is warm, and not to be taken yet."""
BUSY_EVERY_S: Final = 1.0
CLEAN_EVERY_S: Final = 1.0
CLEAN_BUDGET_S: Final = 0.003


class Hosting:
    """Of one bot."""

    def __init__(self, hold: Hold) -> None:
        self._hold, self._node = hold, hold.node
        self.launched = asyncio.Event()
        """The bot has logged in: its caches can be fed."""
        self._guests: dict[int, Boarder] = {}
        self._boarding = Boarding(hold)
        self._tasks = set[asyncio.Task[None]]()
        self._cleaning: asyncio.Task[None] | None = None
        self._stopping = False

    def serve(self) -> None:
        """Hear what the broker says, and take what feeders send."""
        hears = self._node.hears
        hears[GUILD_TAKE], hears[GUILD_RELEASE] = self.take, self.release
        hears[GUILD_DROP] = self.drop
        self._node.serve(GUILD_EVENTS, self.events)
        self._node.welcomed.append(self._say_all)

    def has(self, guild: int) -> bool:
        """Whether its events are handled here, though its shard is not."""
        one = self._guests.get(guild)
        return one is not None and one.owned is not None and one.owned.open

    def knows(self, guild: int) -> bool:
        """Whether its part of the caches is fed from here."""
        return guild in self._guests

    def home(self, guild: int) -> GuildAt | None:
        """The guild is handled by its shard's holder, this process, from now on: up to where
        its owner before came, as ``take`` has found. None: it was not taken."""
        one = self._guests.get(guild)
        if one is None or one.phase is not GuildPhase.OWNED or one.owned is not None:
            return None
        self._forget(one)
        return one.at

    def begin_stop(self) -> None:
        """The process stops: nothing new is handled."""
        self._stopping = True

    def close(self) -> None:
        """The process ends."""
        self._stopping = True
        for one in self._guests.values():
            one.stop()
            if one.owned is not None:
                one.owned.release("", "stop")
        self._guests.clear()
        for task in tuple(self._tasks):
            task.cancel()
        self._boarding.close()

    # --- what the broker says

    def take(self, told: GuildTake) -> None:
        """Warm a guild; with ``lock``, have it."""
        one = self._guests.get(told.guild)
        if one is not None and told.version < one.version:
            return
        if one is None or one.phase in (GuildPhase.FAILED, GuildPhase.LEFT, GuildPhase.RELEASED):
            self._begin(told)
            return
        one.version = told.version
        if one.phase in (GuildPhase.OWNED, GuildPhase.DRAINING):
            if told.lock and one.owned is not None and told.shard in self._node.shards:
                one.owned.release("", "its shard has come")
                one.owned = None
            self._say(one)
            return
        if told.lock or not one.told.lock:
            one.told = told
        one.wake.set()
        self._say(one)

    def release(self, told: GuildRelease) -> None:
        """Give a guild up that is had here."""
        one = self._guests.get(told.guild)
        if one is not None and told.version < one.version:
            return
        if one is None:
            self._tell(told.guild, told.version, GuildPhase.RELEASED)
            return
        one.version = told.version
        if one.phase in (GuildPhase.DRAINING, GuildPhase.RELEASED):
            self._say(one)
            return
        one.stop()
        if one.owned is None:
            self._phase(one, GuildPhase.RELEASED)
            return
        one.owned.open = False
        self._phase(one, GuildPhase.DRAINING)
        one.task = self._later(self._drain(one, one.owned, told))

    def drop(self, told: GuildDrop) -> None:
        """Nothing of the guild stays here."""
        one = self._guests.get(told.guild)
        if one is not None and told.version < one.version:
            return
        if one is not None:
            if one.owned is not None:
                one.owned.release("", told.reason or "dropped")
            self._forget(one)
            self._uncache(told.guild)
        self._tell(told.guild, told.version, GuildPhase.NONE)

    # --- what feeders send

    async def events(self, message: Message) -> GuildHandled:
        """A batch of a guild's events; the answer says up to where they are handled."""
        told: GuildEvents = message.body
        one = self._guests.get(told.guild)
        if one is None or one.owned is None or not one.owned.open or self._stopping:
            return GuildHandled("", 0, ELSEWHERE)
        handled = one.owned.take(told)
        one.at = GuildAt(handled.session, handled.seq)
        if one.owned.journal.broken and not one.error:
            one.error = f"guild {one.guild}: {one.owned.journal.broken}"
            self._say(one)
        if one.owned.gone:
            one.owned.release("", "left")
            self._forget(one)
            self._tell(told.guild, one.version, GuildPhase.LEFT, at=one.at)
        return handled

    # --- taking

    def _begin(self, told: GuildTake) -> None:
        before = self._guests.get(told.guild)
        if before is not None:
            self._forget(before)
        one = self._guests[told.guild] = Boarder(told)
        one.task = self._later(self._board(one))
        self._say(one)

    async def _board(self, one: Boarder) -> None:
        try:
            self._boarding.check(one.told)
            await self.launched.wait()
            await self._boarding.warm(one)
            if not one.told.lock:
                self._phase(one, GuildPhase.WARM)
            while not one.told.lock:
                self._boarding.read_on(one)
                await until(one.wake, FOLLOW_S)
            await self._boarding.have(one)
            if self._cleaning is None:
                self._cleaning = self._later(self._clean())
            self._hold.lingering.guild_taken(one.guild)
            self._phase(one, GuildPhase.OWNED)
        except (CannotTake, OSError, TimeoutError) as error:
            self._fail(one, str(error) or "it took too long")
        except Exception as error:
            _log.exception("guild %d cannot be taken", one.guild)
            self._fail(one, repr(error))

    async def _clean(self) -> None:
        while True:
            await asyncio.sleep(CLEAN_EVERY_S)
            for one in tuple(self._guests.values()):
                if one.owned is not None:
                    one.owned.journal.clean(CLEAN_BUDGET_S)

    def _fail(self, one: Boarder, error: str) -> None:
        one.stop()
        if one.owned is None:
            self._boarding.free(one.guild)
        one.error = error
        _log.warning("guild %d is not taken: %s", one.guild, error)
        self._uncache(one.guild)
        self._phase(one, GuildPhase.FAILED)

    # --- giving up

    async def _drain(self, one: Boarder, owned: Owned, told: GuildRelease) -> None:
        self._leave_voice(one.guild)
        await self._hold.tracking.quiet(one.guild, told.drain_s)
        await self._hold.lingering.guild_given(one.guild, told.to)
        owned.release(told.to, "migration")
        one.owned = None
        self._phase(one, GuildPhase.RELEASED)
        await self._linger(one)

    def _leave_voice(self, guild: int) -> None:
        """What speaks here cannot speak there; the bot's code may connect again."""
        voice: Any = self._hold.client._connection._voice_clients.get(guild)
        if voice is not None:
            self._later(voice.disconnect(force=True))

    async def _linger(self, one: Boarder) -> None:
        """Handlers that run on, and views, need what the caches hold."""
        hold, clock = self._hold, asyncio.get_running_loop().time
        until = clock() + self._node.settings.linger_s
        while (left_s := until - clock()) > 0:
            if hold.tracking.busy(one.guild):
                await hold.tracking.quiet(one.guild, min(left_s, BUSY_EVERY_S))
            elif hold.lingering.guild_views(one.guild):
                await asyncio.sleep(min(left_s, BUSY_EVERY_S))
            else:
                break
        if self._guests.get(one.guild) is one and one.phase is GuildPhase.RELEASED:
            self._forget(one)
            self._uncache(one.guild)

    def _forget(self, one: Boarder) -> None:
        one.stop()
        if one.owned is None:
            self._boarding.free(one.guild)
        if self._guests.get(one.guild) is one:
            del self._guests[one.guild]

    def _uncache(self, guild: int) -> None:
        keeping = self._hold.keeping
        shard = (guild >> 22) % self._node.num_shards
        if keeping is not None and shard not in self._node.shards:
            keeping.feeder.drop(guild)
            self._hold.reports.changed()

    # --- telling

    def _phase(self, one: Boarder, phase: GuildPhase) -> None:
        one.phase = phase
        self._say(one)

    def _say(self, one: Boarder) -> None:
        self._tell(
            one.guild,
            one.version,
            one.phase,
            at=one.at,
            running=self._hold.tracking.busy(one.guild),
            views=self._hold.lingering.guild_views(one.guild),
            voice=int(one.guild in self._hold.client._connection._voice_clients),
            interrupted=one.interrupted,
            error=one.error,
        )

    def _say_all(self) -> None:
        for one in self._guests.values():
            self._say(one)

    def _tell(self, guild: int, version: int, phase: GuildPhase, **more: Any) -> None:
        label = self._hold.lingering.label
        moved = GuildMoved(guild, version, GuildPart.OWNER, phase, label, **more)
        self._node.send_event(GUILD_MOVED, moved)

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="shardctl: guild")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
