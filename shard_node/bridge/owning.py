"""A guild whose shard another process has, and whose events are handled here: its lock is ours,
and a journal of its own says what was handled."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shard_node.bridge.tracking import Line
from shard_node.guest import Fate, Guest
from shard_node.journal.follow import Follower
from shard_node.journal.place import GuildPlace, generation
from shard_node.journal.records import Head, Session
from shard_node.journal.story import Story
from shard_node.journal.writer import ShardJournal
from shard_node.wire.lifecycle import INTERRUPTED_MAX, Interrupted
from shard_node.wire.migration import GuildAt, GuildEvents, GuildHandled

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

GAP: Final = "gap"
"""Something before this batch has not come."""
ELSEWHERE: Final = "elsewhere"
"""The guild is not this process's."""


class Left(NamedTuple):
    """What the owner before has written: up to where it came, and what it did not finish."""

    at: GuildAt
    interrupted: tuple[Interrupted, ...] = ()


def left(place: GuildPlace, guild: int) -> Left:
    """Of a guild whose lock is ours."""
    follower = Follower(place, guild)
    follower.more()
    follower.close()
    story = follower.story
    if follower.problem:
        _log.warning("guild %d: what its owner handled cannot be read: %s", guild, follower.problem)
    if story.session is None:
        return Left(GuildAt())
    running = () if story.released is not None else tuple(story.running.values())
    named = (Interrupted(one.seq, one.event, one.guild, one.key) for one in running)
    return Left(GuildAt(story.session.id, story.handled_seq), tuple(named)[:INTERRUPTED_MAX])


class Owned:
    """One such guild. Making it begins its journal: raises OSError where there can be none."""

    def __init__(self, hold: Hold, place: GuildPlace, guild: int, at: GuildAt) -> None:
        self.guild, self.guest = guild, Guest(at)
        self.open = True
        """False: it is given up, and handles nothing more."""
        self.gone = False
        """The bot has left the guild."""
        self._hold, self._place = hold, place
        self.journal = self._begin(at)
        self.line = Line(self.journal)

    @property
    def running(self) -> int:
        """Events whose handlers run, of this time."""
        return len(self.journal.story.running)

    def take(self, told: GuildEvents) -> GuildHandled:
        """Handle what is new. What is acknowledged is in the journal before."""
        after, code = told.after, ""
        for seq, event, raw in told.events:
            if not self.open:
                code = ELSEWHERE
                break
            before = self.guest.session
            fate = self.guest.decide(told.session, after, seq)
            if fate is Fate.GAP:
                code = GAP
                break
            after = seq
            if fate is Fate.NEW:
                if self.guest.session != before:
                    self._renew(seq)
                self._handle(told.shard, seq, event, raw)
        self.journal.flush()
        return GuildHandled(self.guest.session, self.guest.seq, code)

    def release(self, to: str, reason: str) -> None:
        """Nothing is written any more, and the lock is free. Handlers run on."""
        self.open = False
        if self.guild in self._place.held:
            self.journal.release(to, self.line.last_at or time.monotonic(), reason)
            self._place.free(self.guild)

    # --- within

    def _begin(self, at: GuildAt) -> ShardJournal:
        node, place, guild = self._hold.node, self._place, self.guild
        path = place.next_segment(guild, node.name, node.epoch)
        head = Head(
            place.boot_id,
            place.application,
            place.num_shards,
            guild,
            node.name,
            node.epoch,
            os.getpid(),
            generation(path),
            time.time(),
        )
        story = Story()
        story.begin(self._session(at.session), at.seq)
        return ShardJournal(path, head, story, asyncio.get_running_loop())

    def _session(self, name: str) -> Session:
        return Session(name, "", {}, {}, [self.guild])

    def _renew(self, seq: int) -> None:
        """The shard has another session; numbers of the old one mean nothing in it."""
        self.line.alive = False
        self.journal.session(seq - 1, self._session(self.guest.session))
        self.line = Line(self.journal)

    def _handle(self, shard: int, seq: int, event: str, raw: bytes) -> None:
        self.journal.seen(seq)
        try:
            text = raw.decode()
            data = json.loads(text)["d"]
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("guild %d: %s %d cannot be read: %s", self.guild, event, seq, error)
            return
        if event == "GUILD_DELETE" and not data.get("unavailable"):
            self.gone = True
        hold, parse = self._hold, partial(self._parse, event, data)
        passing = hold.passing
        if passing.affinity and passing.takes(self.line, shard, seq, event, data, text, parse):
            return
        hold.tracking.begin(self.line, seq, event, data)
        try:
            parse()
        except Exception as error:
            report = hold.client._dispatch_gateway_error(event, data, shard, error)
            asyncio.get_running_loop().create_task(report, name="shardctl: gateway error")
        finally:
            hold.tracking.end()

    def _parse(self, event: str, data: Any) -> None:
        """By all who stand in for parsers: nobody else has parsed it."""
        try:
            parser = self._hold.client._connection.parsers[event]
        except KeyError:
            _log.debug("nobody parses %s", event)
            return
        parser(data)
