"""The journal of a shard that another process has: read while it grows, into the caches here."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from shard_node.bridge.warm import BAD_PIECES_MAX, Feeder
from shard_node.journal.follow import Follower
from shard_node.journal.place import Place
from shard_node.journal.records import Kind, Piece
from shard_node.journal.story import Story

_log = logging.getLogger(__name__)

SLICE_S: Final = 0.005
"""Other shards of this process are served in between."""


class Tail:
    """Follows one shard. What cannot be fed or read is in ``problem``; then a new one begins."""

    def __init__(self, place: Place, shard: int, feeder: Feeder, *, alone: bool) -> None:
        self._follower = Follower(place, shard)
        self._shard, self._feeder = shard, feeder
        self._alone = alone
        """Nothing else tells this process who the bot is."""
        self._fed = self._bad = 0
        self._guilds = set[int]()
        self._known = False
        self._warm = False
        self._unfit = ""

    @property
    def story(self) -> Story:
        """What is known so far."""
        return self._follower.story

    @property
    def problem(self) -> str:
        """Why it cannot be followed; empty where it can."""
        return self._follower.problem or self._unfit

    async def warm(self) -> None:
        """Feed all that there is now."""
        self._feeder.forget(self._shard)
        until = time.perf_counter() + SLICE_S
        pieces = self._follower.more()
        self._identity()
        for piece in pieces:
            self._feed(piece)
            if time.perf_counter() >= until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE_S
        self._absent()
        self._warm = True

    def more(self) -> bool:
        """Feed what was written since. False: what is fed is not what the journal tells."""
        if not self._warm:
            return False
        for piece in self._follower.more():
            if piece.kind == Kind.SESSION:
                self._renew()
            else:
                self._feed(piece)
        self._absent()
        return not self.problem

    def lasts(self) -> None:
        """The newest message of each channel; once, at the end."""
        self._feeder.lasts(self.story)

    def close(self) -> None:
        """Twice does nothing."""
        self._follower.close()

    def _renew(self) -> None:
        """A READY: what was fed belongs to a session that is over."""
        self._feeder.forget(self._shard)
        self._guilds.clear()
        self._known = False
        self._identity()
        self._absent()

    def _identity(self) -> None:
        """Before any guild: the bot's own members are of its own user."""
        session = self.story.session
        if self._alone and session is not None and not self.problem:
            self._feeder.identity(session)

    def _absent(self) -> None:
        """Once a session: its guilds that have not come."""
        session = self.story.session
        if self._known or session is None or self.problem:
            return
        self._known = True
        wanted = (guild for guild in session.guilds if guild not in self._guilds)
        self._feeder.absent(guild for guild in wanted if not self._feeder.elsewhere(guild))

    def _feed(self, piece: Piece) -> None:
        if not piece.guild and not self._alone:
            return  # the bot's own user: this process hears of it itself
        self._fed += 1
        self._guilds.add(piece.guild)
        if self._feeder.elsewhere(piece.guild):
            return
        try:
            self._feeder.piece(piece, self._follower.payload(piece))
        except Exception:
            self._bad += 1
            _log.debug("guild %d: a change could not be fed", piece.guild, exc_info=True)
            if self._bad > max(1.0, self._fed * BAD_PIECES_MAX):
                self._unfit = f"{self._bad} of {self._fed} changes could not be fed"
