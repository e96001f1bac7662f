"""A warm start: disnake's caches are fed from a journal by disnake's own parsers, muted.

So a cache that was fed equals one that lived, by construction. What a start of the bot tells
its author (`on_connect`, `on_ready`, ...) is told once, when all shards are there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
from disnake import Guild, Member, StageChannel, TextChannel, Thread, VoiceChannel
from disnake.flags import ApplicationFlags

from shard_node.bridge.mute import Mute
from shard_node.journal.records import SEQ, Kind, Piece, Session
from shard_node.journal.story import Story

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

BAD_PIECES_MAX: Final = 0.01
"""Share of pieces that may fail: beyond, a fresh IDENTIFY is the better cache."""
CHUNKS_AT_ONCE: Final = 2
_WITH_LAST: Final = (TextChannel, Thread, VoiceChannel, StageChannel)


class Source(Protocol):
    """A journal that was read."""

    story: Story

    def payload(self, piece: Piece) -> bytes:
        """The bytes of a piece."""
        ...


class Unfit(Exception):
    """Too much of a journal could not be fed."""


class Feeder:
    """Feeds the caches of one bot. ``stock`` are disnake's parsers before anybody stood in."""

    def __init__(self, state: Any, mute: Mute, stock: Mapping[str, Any]) -> None:
        self._state, self._mute, self._stock = state, mute, stock
        self.elsewhere: Callable[[int], bool] = _never
        """Whether a guild is fed by somebody else than its shard's journal as a whole."""

    def feed(self, source: Source, pieces: Iterable[Piece]) -> None:
        """Everything that a shard's journal knows. Raises Unfit."""
        session = source.story.session
        assert session is not None
        self.identity(session)
        fed = bad = 0
        seen: set[int] = set()
        for piece in pieces:
            fed += 1
            seen.add(piece.guild)
            if self.elsewhere(piece.guild):
                continue
            try:
                self.piece(piece, source.payload(piece))
            except Exception:
                bad += 1
                _log.debug("guild %d: a change could not be fed", piece.guild, exc_info=True)
        if bad > fed * BAD_PIECES_MAX:
            raise Unfit(f"{bad} of {fed} changes could not be fed")
        self.absent(one for one in session.guilds if one not in seen)
        self.lasts(source.story)

    def absent(self, guilds: Iterable[int]) -> None:
        """Guilds of a session that have not come yet."""
        for guild in guilds:
            if not self.elsewhere(guild):
                self.out_of_reach(guild)

    def out_of_reach(self, guild: int) -> None:
        """A guild that has not come yet."""
        self._state._add_guild_from_data({"id": str(guild), "unavailable": True})

    def lasts(self, story: Story) -> None:
        """The newest message of each channel."""
        for channel, message in story.lasts.items():
            self._last(channel, message)

    def forget(self, shard: int) -> None:
        """A shard's guilds, without a word to the bot."""
        for guild in [one for one in self._state.guilds if one.shard_id == shard]:
            if not self.elsewhere(guild.id):
                self._state._remove_guild(guild)

    def drop(self, guild: int) -> None:
        """One guild, without a word to the bot."""
        found = self._state._get_guild(guild)
        if found is not None:
            self._state._remove_guild(found)

    def event(self, event: str, data: Any) -> None:
        """One event, for the caches alone."""
        with self._mute.silence():
            if event == "GUILD_CREATE":
                self._guild(data)
            elif event == "GUILD_MEMBERS_CHUNK":
                self._members(data)
            elif (parser := self._stock.get(event)) is not None:
                parser(data)

    def piece(self, piece: Piece, payload: bytes) -> None:
        """A guild, or a change."""
        if piece.kind == Kind.GUILD:  # as it was, also out of reach
            self._state._add_guild_from_data(msgspec.json.decode(payload[SEQ.size :]))
            return
        told = msgspec.json.decode(payload)
        self.event(told["t"], told["d"])

    def identity(self, session: Session) -> None:
        """Who the bot is, as READY would have told; the login has told the user."""
        state, application = self._state, session.application
        if application:
            if state.application_id is None:
                state.application_id = int(application["id"])
            state.application_flags = ApplicationFlags._from_value(application["flags"])
        state._users[state.user.id] = state.user

    def _guild(self, data: Any) -> None:
        """As its parser, which would tell of a join: one that is out of reach is passed over,
        one that is in reach again is the same object, a join makes another."""
        if data.get("unavailable") is not True:
            self._state._get_create_guild(data)

    def _members(self, data: Any) -> None:
        """Their parser wants the request that they answered."""
        guild: Guild | None = self._state._get_guild(int(data["guild_id"]))
        if guild is None:
            return
        found = {}
        for member in data.get("members", ()):
            made = Member(data=member, guild=guild, state=self._state)
            found[made.id] = made
        for presence in data.get("presences") or ():
            one = found.get(int(presence["user"]["id"]))
            if one is not None:
                one._presence_update(presence, presence["user"])
        for one in found.values():
            known = guild.get_member(one.id)
            if known is None or known.joined_at is None:
                guild._add_member(one)

    def _last(self, channel_id: int, message: int) -> None:
        channel = self._state.get_channel(channel_id)
        if isinstance(channel, _WITH_LAST):
            channel.last_message_id = max(channel.last_message_id or 0, message)


def _never(_guild: int) -> bool:
    return False


class Start:
    """What the start of a process tells its bot, where shards RESUME instead of IDENTIFYing.

    One shard that IDENTIFYs leaves `ready` to disnake, which waits for its guilds.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._state = hold.client._connection
        self._waiting = set(hold.node.shards)
        self._connected = self._identified = False
        self._chunking: asyncio.Task[None] | None = None

    def expect(self, shard: int) -> None:
        """A shard of another process is to come here."""
        self._waiting.add(shard)

    def left(self, shard: int) -> None:
        """It does not come, or is another process's."""
        self._waiting.discard(shard)

    def identified(self, shard: int) -> None:
        """READY came."""
        self._identified = self._connected = True
        self._waiting.discard(shard)

    def resumed(self, shard: int) -> bool:
        """RESUMED came; whether it is the shard's first sign of life in this process."""
        if shard not in self._waiting:
            return False
        self._waiting.discard(shard)
        state = self._state
        if not self._connected:
            self._connected = True
            state.call_handlers("connect_internal")
        state.dispatch("connect")
        state.dispatch("shard_connect", shard)
        for guild in [one for one in state.guilds if one.shard_id == shard]:
            if guild.unavailable is False:
                state.dispatch("guild_available", guild)
        state.dispatch("shard_ready", shard)
        if not self._waiting and not self._identified:
            state.call_handlers("ready")
            state.dispatch("ready")
        self._chunk_soon()
        return True

    def close(self) -> None:
        """The process ends."""
        if self._chunking is not None:
            self._chunking.cancel()

    # --- members that the predecessor had not been told yet

    def _chunk_soon(self) -> None:
        if not self._waiting and (self._chunking is None or self._chunking.done()):
            self._chunking = asyncio.create_task(self._chunk(), name="shardctl: members")

    async def _chunk(self) -> None:
        state = self._state
        wanted = [
            guild
            for guild in state.guilds
            if not guild.unavailable
            and guild.shard_id in self._hold.node.shards  # others' chunk their own
            and state._guild_needs_chunking(guild)
        ]
        places = asyncio.Semaphore(CHUNKS_AT_ONCE)

        async def one(guild: Guild) -> None:
            async with places:
                try:
                    await asyncio.wait_for(state.chunk_guild(guild), 60.0)
                except Exception as error:
                    _log.warning("guild %d: its members did not come: %r", guild.id, error)

        await asyncio.gather(*(one(guild) for guild in wanted))
