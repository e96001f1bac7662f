"""The journals of this process's shards: begun, written, given up; what predecessors left."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from shard_node.bridge.tail import Tail
from shard_node.bridge.tracking import Line, Tracking
from shard_node.bridge.warm import Feeder
from shard_node.gate import Gate
from shard_node.journal.follow import Follower
from shard_node.journal.place import Place, generation, touch
from shard_node.journal.records import Head, Released, Session, Started
from shard_node.journal.story import Story
from shard_node.journal.writer import ShardJournal
from shard_node.shared.clock import this_boot
from shard_node.wire.identity import application_key
from shard_node.wire.lifecycle import INTERRUPTED_MAX, Interrupted, Recovered
from shard_node.wire.topics import NODE_RECOVERED

if TYPE_CHECKING:
    from shard_node.bridge.exile import Exile
    from shard_node.bridge.hold import Hold
    from shard_node.bridge.remote import Asked

_log = logging.getLogger(__name__)

LOCK_WARNING_S: Final = 5.0
"""How often a shard that another process still holds is complained of."""
ALIVE_EVERY_S: Final = 30.0
"""A journal's age is that of its last write; a shard without events is touched."""
QUIET_S: Final = 1.0
"""A shard whose last event is older than this was quiet: a gap counts from the release."""
CLEAN_BUDGET_S: Final = 0.003
CLEAN_EVERY_S: Final = 0.05
NOTHING_KEPT: Final = "nothing"
WHY_MAX_CHARS: Final = 300


class Past:
    """What a predecessor left of a shard's session; stands in for its last connection."""

    def __init__(self, session: Session, sequence: int) -> None:
        self.session_id: str | None = session.id
        self.sequence: int | None = sequence
        self.resume_gateway: str | None = session.url

    def forget_session(self) -> None:
        """The next connection IDENTIFYs."""
        self.session_id = self.sequence = self.resume_gateway = None


class Given(NamedTuple):
    """What of a shard stays here that another process may have: its handlers run on."""

    journal: ShardJournal
    session_id: str


class Was(NamedTuple):
    """Where the process before was when it ended."""

    handled_seq: int
    running: tuple[Started, ...]


NOT_KNOWN: Final = Was(0, ())
"""There was no process before that had left a journal."""


class Keeping:
    """Of one bot. ``journals`` are those that are written now, by shard."""

    def __init__(self, hold: Hold, folder: Path, token: str) -> None:
        """Raises OSError where the folder cannot be used."""
        settings = hold.node.settings
        self.client = hold.client
        self.gate = Gate()
        self.tracking: Tracking = hold.tracking
        self.feeder = Feeder(hold.client._connection, hold.mute, hold.stock)
        self.feeder.elsewhere = hold.hosting.knows
        self.exile: Exile = hold.exile
        self.asked: Asked = hold.asked
        self.journals: dict[int, ShardJournal] = {}
        self._node = hold.node
        self._resume_max_s = settings.resume_max_s
        self._boot_id = _boot_id()
        key = application_key(settings.api_base, token)
        self.place = Place(folder, settings.num_shards, self._boot_id, key)
        self._lines: dict[int, Line] = {}
        self._was: dict[int, Was] = {}
        self._given: dict[int, Given] = {}
        self._released: dict[int, Released | None] = {}
        self._unkept: dict[int, str] = {}
        self._why: dict[int, str] = {}
        self._tasks = [
            asyncio.create_task(self._stay_young(), name="shardctl: journals' age"),
            asyncio.create_task(self._clean(), name="shardctl: journals' cleaning"),
        ]

    # --- what predecessors left

    async def take(self, shard: int) -> Past | None:
        """Wait for the shard's lock, feed the caches from its journal and begin to write it.
        None: there is nothing to RESUME."""
        while not await self.place.wait(shard, LOCK_WARNING_S):
            _log.warning("shard %d is still held by another process; waiting", shard)
        return self._read(shard)

    def tail(self, shard: int) -> Tail:
        """To follow what another process writes, without its lock."""
        return Tail(self.place, shard, self.feeder, alone=not self.journals)

    def taken(self, shard: int, tail: Tail | None) -> Past | None:
        """``take``, where the lock is ours and the caches were fed by ``tail``."""
        if tail is None or not tail.more() or tail.story.session is None:
            self.feeder.forget(shard)
            return self._read(shard)
        story = tail.story
        self._interrupted(shard, story)
        problem = self._unusable(shard, story)
        if problem or story.session is None:
            self._not_resumed(shard, problem)
            self.feeder.forget(shard)
            self._begin(shard, story.forget())
            return None
        tail.lasts()
        past = self._past(shard, story.session, story, story.handled_seq)
        self._begin(shard, story)
        return past

    def _read(self, shard: int) -> Past | None:
        """The whole journal, into the caches; the lock is ours."""
        story, past = Story(), None
        follower = Follower(self.place, shard)
        try:
            pieces = follower.more()
            self._interrupted(shard, follower.story)
            problem = follower.problem or self._unusable(shard, follower.story)
            if problem:
                self._not_resumed(shard, problem)
                story = follower.story.forget()
            elif follower.story.session is not None:
                self.feeder.feed(follower, pieces)
                story = follower.story
                past = self._past(shard, follower.story.session, story, story.handled_seq)
        except Exception as error:
            _log.exception("shard %d: its journal could not be read; it IDENTIFYs", shard)
            self._why[shard] = f"its journal could not be read: {error}"[:WHY_MAX_CHARS]
            story, past = Story(), None
        finally:
            follower.close()
        story.pulse = story.pulse or follower.story.pulse  # of a session that is over, too
        self._begin(shard, story)
        return past

    def _not_resumed(self, shard: int, problem: str) -> None:
        if problem == NOTHING_KEPT:
            _log.debug("shard %d has no journal; it IDENTIFYs", shard)
            return
        _log.warning("shard %d IDENTIFYs: %s", shard, problem)
        self._why[shard] = problem[:WHY_MAX_CHARS]

    def _interrupted(self, shard: int, story: Story) -> None:
        """What the one before did not finish. Where it gave the shard up it lives, and does."""
        self._released[shard] = story.released
        if story.head is not None:
            running = () if story.released is not None else tuple(story.running.values())
            self._was[shard] = Was(story.handled_seq, running)

    # --- given up, and taken back

    def give(self, shard: int, to: str, reason: str) -> None:
        """Nothing is written any more; the lock is still ours. Handlers run on."""
        journal, line = self.journals.pop(shard, None), self._lines.get(shard)
        if journal is None:
            return
        now = time.monotonic()
        last_at = now if line is None or now - line.last_at > QUIET_S else line.last_at
        session = journal.story.session
        self._given[shard] = Given(journal, "" if session is None else session.id)
        journal.release(to, last_at, reason)

    def handled_seq(self, shard: int) -> int:
        """Up to where this process has handled the shard's events; 0 where it has none."""
        given = self._given.get(shard)
        journal = self.journals.get(shard) or (given and given.journal)
        return journal.story.handled_seq if journal else 0

    def busy(self, shard: int) -> bool:
        """Whether handlers run that started before the shard was given up."""
        given = self._given.get(shard)
        return given is not None and bool(given.journal.story.running)

    def gone(self, shard: int) -> None:
        """It is another process's for good."""
        self._given.pop(shard, None)
        self._was.pop(shard, None)
        self._unkept.pop(shard, None)
        self.gate.fresh(shard)

    def again(self, shard: int) -> Past | None:
        """Take back what was given up: the caches are as old as that. The lock is ours."""
        given = self._given.pop(shard, None)
        follower = Follower(self.place, shard)
        follower.more()
        follower.close()
        story = follower.story
        session = story.session
        if given is None or session is None or session.id != given.session_id:
            self.feeder.forget(shard)
            return self._read(shard)
        running = given.journal.story.running
        if self._is_ours(story.head):
            story.running = dict(running)
        self._interrupted(shard, story)
        if story.released is not None or self._is_ours(story.head):
            self._was.pop(shard, None)
        seq = given.journal.story.handled_seq
        self.gate.suppress(shard, story.handled_seq)
        self._begin(shard, story)
        journal, line = self.journals.get(shard), self._lines.get(shard)
        if journal is not None and line is not None:
            line.journal, line.first_at = journal, 0.0
            for one in running.values():
                if one.seq not in journal.story.running:
                    journal.started(one.seq, one.event, one.guild, one.key)
        return self._past(shard, session, story, seq)

    def _past(self, shard: int, session: Session, story: Story, fed: int) -> Past:
        """The caches are as old as ``fed``. What is out comes again, and with it what is not."""
        seq = min(fed, story.resume_from)
        if seq < fed:
            self.gate.skip(shard, fed)
        return Past(session, seq)

    def _is_ours(self, head: Head | None) -> bool:
        if head is None:
            return False
        return (head.node, head.epoch, head.pid) == (self._node.name, self._node.epoch, os.getpid())

    def gap_ms(self, shard: int) -> float:
        """From the last handler of the one before to the first of this one; where no event came
        in between, until now. -1: it did not give the shard up in order."""
        released, line = self._released.pop(shard, None), self._lines.get(shard)
        if released is None:
            return -1.0
        first_at = time.monotonic()
        if line is not None and line.journal is self.journals.get(shard):  # else of an earlier time
            first_at = line.first_at or first_at
        return max(0.0, (first_at - released.last_at) * 1000)

    def _unusable(self, shard: int, story: Story) -> str:
        if story.session is None:
            return NOTHING_KEPT
        segments = self.place.segments(shard)
        age_s = time.time() - segments[-1].stat().st_mtime
        if age_s > self._resume_max_s:
            return f"its journal is {age_s:.0f} s old, sessions live {self._resume_max_s:.0f} s"
        return ""

    def _begin(self, shard: int, story: Story) -> None:
        node = self._node
        try:
            path = self.place.next_segment(shard, node.name, node.epoch)
            head = Head(
                self._boot_id,
                self.place.application,
                node.num_shards,
                shard,
                node.name,
                node.epoch,
                os.getpid(),
                generation(path),
                time.time(),
            )
            self.journals[shard] = ShardJournal(path, head, story, asyncio.get_running_loop())
            self._unkept.pop(shard, None)
        except OSError as error:
            self._keeps_none(shard, f"no journal can be kept: {error}")
        else:
            self.exile.restore(shard, story)

    # --- what the tap tells

    def line(self, shard: int, journal: ShardJournal) -> Line:
        """The session whose events come now."""
        line = self._lines.get(shard)
        if line is None or not line.alive or line.journal is not journal:
            line = self._lines[shard] = Line(journal)
        return line

    def new_session(self, shard: int, seq: int, session: Session) -> None:
        """READY came."""
        self._end_line(shard)
        self.gate.fresh(shard)
        self.exile.renewed(shard)
        self.journals[shard].session(seq, session)

    def ended(self, shard: int) -> None:
        """The session is over: nobody can RESUME it."""
        self._end_line(shard)
        journal = self.journals.get(shard)
        if journal is not None:
            journal.ended()

    def give_up(self, shard: int) -> None:
        """No journal is better than one with a hole."""
        self.ended(shard)
        if self.journals.pop(shard, None) is not None:
            self._keeps_none(shard, "its journal was given up: an event could not be written")

    def _keeps_none(self, shard: int, problem: str) -> None:
        self._unkept[shard] = f"{problem}; a respawn now will IDENTIFY"
        _log.warning("shard %d: %s", shard, self._unkept[shard])

    def flaws(self) -> dict[int, str]:
        """Of shards that a next process could not RESUME: why."""
        found = {shard: kept.broken for shard, kept in self.journals.items() if kept.broken}
        if self._unkept:
            found |= {s: why for s, why in self._unkept.items() if s not in self.journals}
        return found

    def _end_line(self, shard: int) -> None:
        line = self._lines.pop(shard, None)
        if line is not None:
            line.alive = False

    # --- what is told of it

    def settled(self, shard: int, *, resumed: bool) -> None:
        """The first READY or RESUMED of a process: what its predecessor did not finish."""
        was, why = self._was.pop(shard, NOT_KNOWN), self._why.pop(shard, "")
        if was is NOT_KNOWN and not why:
            return
        named = tuple(Interrupted(one.seq, one.event, one.guild, one.key) for one in was.running)
        more = max(0, len(named) - INTERRUPTED_MAX)
        body = Recovered(
            shard,
            self._node.num_shards,
            was.handled_seq,
            resumed,
            named[:INTERRUPTED_MAX],
            more,
            "" if resumed else why,
        )
        if named:
            _log.warning("shard %d: not handled to the end, and not again: %s", shard, _named(body))
        self._node.send_event(NODE_RECOVERED, body)

    # --- the end

    def close(self, *, discard: bool = False) -> None:
        """The process gives its shards up in order. ``discard``: their sessions with them."""
        for task in self._tasks:
            task.cancel()
        for shard, journal in self.journals.items():
            if discard:
                self.ended(shard)
            else:
                journal.release("", time.monotonic(), "stop")
        self.journals.clear()
        self.place.close()

    # --- in the background

    async def _stay_young(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            for shard in list(self.journals):
                segments = self.place.segments(shard)
                if segments:
                    touch(segments[-1])

    async def _clean(self) -> None:
        while True:
            more = False
            for journal in list(self.journals.values()):
                more |= journal.clean(CLEAN_BUDGET_S)
                await asyncio.sleep(0)
            await asyncio.sleep(CLEAN_EVERY_S if more else 1.0)


def _boot_id() -> str:
    """What changes with each boot; where the system has none, no journal outlives the process."""
    return this_boot() or f"process-{os.getpid()}"


def _named(body: Recovered) -> str:
    return ", ".join(one.words() for one in body.interrupted) + (
        f" and {body.more} more" if body.more else ""
    )
