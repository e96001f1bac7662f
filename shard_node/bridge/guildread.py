"""One guild out of the journal of its shard, read while it grows, into the caches here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Final

from shard_node.bridge.warm import BAD_PIECES_MAX, Feeder
from shard_node.journal.follow import Follower
from shard_node.journal.place import Place
from shard_node.journal.records import Kind, Piece
from shard_node.journal.story import Story
from shard_node.wire.migration import GuildAt

_log = logging.getLogger(__name__)

SLICE_S: Final = 0.005
"""Shards of this process are served in between."""


class ShardSource:
    """A shard's journal, read once for all guilds of it that are wanted here."""

    def __init__(self, place: Place, shard: int) -> None:
        self.shard = shard
        self.readers: dict[int, GuildReader] = {}
        self.wanted = 0
        """So many wait until it is read."""
        self.follower = Follower(place, shard)
        self._first: asyncio.Task[None] | None = None

    @property
    def story(self) -> Story:
        """What is known so far."""
        return self.follower.story

    @property
    def problem(self) -> str:
        """Why it cannot be read any more; empty where it can."""
        return self.follower.problem

    async def open(self) -> None:
        """Read what there is, in a thread: a long journal takes a second of the CPU."""
        if self._first is None:
            work = asyncio.to_thread(self.follower.more)
            self._first = asyncio.create_task(_done(work), name="shardctl: a guild's shard")
        await asyncio.shield(self._first)

    def read(self) -> None:
        """What was written since."""
        for piece in self.follower.more():
            if piece.kind == Kind.SESSION:
                for reader in self.readers.values():
                    reader.renewed()
            elif (wants := self.readers.get(piece.guild)) is not None:
                wants.came(piece)

    def close(self) -> None:
        """Nobody reads any more. Twice does nothing."""
        if self._first is not None and not self._first.done():
            self._first.add_done_callback(lambda _: self.follower.close())
        else:
            self.follower.close()


async def _done(work: object) -> None:
    await work  # type: ignore[misc]


class GuildReader:
    """Feeds one guild, muted: first all of it, then what changes. What its shard's holder keeps
    for the guild's owner (``Story.out``) is not fed: who owns the guild handles it."""

    def __init__(self, source: ShardSource, guild: int, feeder: Feeder) -> None:
        self._source, self._guild, self._feeder = source, guild, feeder
        self._pending = deque(source.story.guilds.of(guild))
        self._fed = self._bad = 0
        source.readers[guild] = self
        feeder.drop(guild)
        if not self._pending and self.known:
            feeder.out_of_reach(guild)

    @property
    def at(self) -> GuildAt:
        """How far the journal was read."""
        story = self._source.story
        return GuildAt(story.session.id if story.session else "", story.handled_seq)

    @property
    def known(self) -> bool:
        """Whether the session has this guild."""
        story = self._source.story
        if story.session is None:
            return False
        return self._guild in story.session.guilds or self._guild in story.guilds

    @property
    def problem(self) -> str:
        """Why it cannot be read any more; empty where it can."""
        if self._bad > max(1.0, self._fed * BAD_PIECES_MAX):
            return f"{self._bad} of {self._fed} changes could not be fed"
        return self._source.problem

    def more(self, up_to: int | None = None) -> bool:
        """Read on, and feed for SLICE_S at most; with ``up_to`` all up to this event, whoever
        had it before, and nothing after it. True: there is nothing more to feed now."""
        self._source.read()
        until = time.perf_counter() + SLICE_S
        while self._pending and self._is_fed(self._pending[0], up_to):
            self._feed(self._pending.popleft())
            if time.perf_counter() >= until:
                return not self._pending
        return True

    def lasts(self) -> None:
        """The newest message of each channel; once, at the end."""
        self._feeder.lasts(self._source.story)

    def came(self, piece: Piece) -> None:
        """A change was written."""
        if piece.kind == Kind.GUILD:
            self._pending = deque(one for one in self._pending if one.seq > piece.seq)
            self._pending.appendleft(piece)
        else:
            self._pending.append(piece)

    def renewed(self) -> None:
        """A READY: what is pending belongs to a session that is over. What was fed stays: its
        GUILD_CREATE makes it new, here or at who handles it."""
        self._pending.clear()

    def close(self) -> None:
        """What was fed stays. Twice does nothing."""
        with contextlib.suppress(KeyError):
            if self._source.readers[self._guild] is self:
                del self._source.readers[self._guild]

    def _is_fed(self, piece: Piece, up_to: int | None) -> bool:
        if up_to is not None:
            return piece.seq <= up_to
        return piece.seq not in self._source.story.out

    def _feed(self, piece: Piece) -> None:
        self._fed += 1
        try:
            self._feeder.piece(piece, self._source.follower.payload(piece))
        except Exception:
            self._bad += 1
            _log.debug("guild %d: a change could not be fed", self._guild, exc_info=True)
