"""Writes a shard's journal: one frame a turn of the loop, before the handlers of that turn.

No fsync: what is in the page cache survives a killed process, and a reboot ends the session
anyway. ``os.write``, no mapping: a full disk is an error, not a SIGBUS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import msgspec

from shard_node.journal.cleaning import Cleaner
from shard_node.journal.frames import FRAME_HEAD_BYTES, RECORD, frame, sealed
from shard_node.journal.place import generation, segment_name
from shard_node.journal.records import (
    MUTATING,
    PAIR,
    SEQ,
    Away,
    Head,
    Kind,
    Piece,
    Record,
    Released,
    Session,
    Started,
)
from shard_node.journal.segment import Segment
from shard_node.journal.story import Story

_log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 8 << 20
"""A segment that is longer is left for the next one."""
PENDING_MAX_BYTES: Final = 8 << 20
"""So much waits in memory while nothing can be written; then the journal is broken."""
DONE_S: Final = 0.05
"""The end of a handler is written at the latest after so long."""
RETRY_S: Final = 1.0

_pack: Final = RECORD.pack
_encode: Final = msgspec.msgpack.Encoder().encode


class ShardJournal:
    """The journal of a shard whose lock is ours, in a new segment ``path``; ``story`` is what
    was read before, or an empty one, and is kept up to date from here on.

    Nothing here raises: what cannot be written is in ``broken``, and the bot goes on. A call
    that writes puts into a buffer and asks the loop to flush in its next turn: call it before
    the tasks of the event's handlers are made, and they start behind the write.
    """

    def __init__(
        self, path: Path, head: Head, story: Story, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.story, self.broken = story, ""
        self._folder, self._head, self._loop = path.parent, head, loop
        self._number = 0
        self._segment = cast("Segment | None", None)
        self._parts = list[bytes]()
        self._size = self._count = self._seen = 0
        self._lasts = dict[int, tuple[int, int]]()
        self._started = list[Started]()
        self._done = list[int]()
        self._cleaner = Cleaner(story)
        self._soon = False
        self._later: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._open(generation(path), story.kept_session())
        if self._segment is not None and not self._segment.pending:
            self._unlink_dead()

    # -- What is told

    def session(self, seq: int, session: Session) -> None:
        """A READY: everything older is dead; a broken journal is whole again."""
        self.close()
        self.story.begin(session, seq)
        self._open(self._number + 1, session)
        self._unlink_dead()

    def event(self, seq: int, event: str, raw: str, guild: int | None) -> None:
        """An event as it came; ``guild`` as ``guild_of`` says. Of one that is not in
        ``MUTATING`` nothing is kept: interactions have tokens."""
        if event not in MUTATING:
            self.seen(seq)
            return
        if self._closed or seq <= self.story.cache_seq:
            return  # what a predecessor has written is not told twice
        data = raw.encode()
        place = self._put(Kind.EVENT, seq, data)
        piece = Piece(guild or 0, Kind.EVENT, self._number, place, len(data), seq)
        self.story.changed(piece, event, raw)

    def seen(self, seq: int) -> None:
        """An event that changes no cache."""
        self._seen = seq
        if not self._soon:
            self._wake()

    def last(self, seq: int, channel: int, message: int) -> None:
        """A message in a channel of a guild."""
        self._lasts[channel] = (seq, message)
        if not self._soon:
            self._wake()

    def started(self, seq: int, event: str, guild: int, key: str) -> None:
        """Handlers of this event start in this turn of the loop. Once an event."""
        one = self.story.running[seq] = Started(seq, event, guild, key)
        self._started.append(one)
        if not self._soon:
            self._wake()

    def done(self, seq: int) -> None:
        """The last handler of this event has ended."""
        if self.story.running.pop(seq, None) is None:
            return
        self._done.append(seq)
        if not self._soon and self._later is None:
            self._later = self._loop.call_later(DONE_S, self.flush)

    def out(self, seq: int, guild: int) -> None:
        """This event, which was told just before, is another process's to handle."""
        self.story.out[seq] = guild
        self._put(Kind.OUT, seq, SEQ.pack(guild))

    def acked(self, guild: int, seq: int) -> None:
        """The events of a guild that is away are handled up to here."""
        self.story.acknowledged(guild, seq)
        self._put(Kind.ACK, seq, SEQ.pack(guild))

    def away(self, away: Away) -> None:
        """Where a guild's events go from here on."""
        self.story.went(away)
        self._put(Kind.AWAY, self.story.handled_seq, _encode(away))

    def waits(self, waits: msgspec.Struct) -> None:
        """What waits in a lingering process; in place of what was told before."""
        self.story.waits = _encode(waits)
        self._put(Kind.WAITS, self.story.handled_seq, self.story.waits)

    def pulse(self, rates: bytes) -> None:
        """The rates of the shard's events; in place of what was told before."""
        self.story.pulse = rates
        self._put(Kind.PULSE, self.story.handled_seq, rates)

    def ended(self) -> None:
        """The session is over. Nothing of it stays; the next READY begins anew."""
        self._put(Kind.ENDED, self.story.handled_seq, b"")
        self.flush()
        self._leave_nothing()

    def release(self, to: str, last_at: float, reason: str) -> None:
        """Another process may have the shard from here on: nothing is written any more."""
        told = Released(to, time.monotonic(), last_at, reason)
        self._put(Kind.RELEASED, self.story.handled_seq, _encode(told))
        self.flush()
        if self._segment is not None and not self._segment.retry():
            # The next holder would handle again what is not in the file.
            self._break(self._segment.why)
        self.close()

    def close(self) -> None:
        """Write no more. Twice does nothing."""
        self._closed = True
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._forget_buffer()

    # -- Writing

    def flush(self) -> None:
        """Write what was told since the last call, as one frame."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._soon = True
        if self._closed:
            self._forget_buffer()
        elif self._fill():
            data = sealed(b"".join(self._parts), self._count)
            self._forget_buffer()
            self._write(data)
            self._roll()
        self._soon = False

    def clean(self, budget_s: float) -> bool:
        """Bring what is live in the oldest segment into the newest, for about so long, a guild
        at least. True: there is more to do."""
        self.flush()
        segment = self._segment
        if self._closed or segment is None or segment.pending:
            return False
        try:
            return self._clean(time.perf_counter() + budget_s)
        except OSError as error:
            _log.warning("shard %d: its journal is not cleaned: %s", self._head.shard, error)
            return False

    def _clean(self, until: float) -> bool:
        paths = self._segments()
        if not self._cleaner.wanted(paths):
            return False
        self._cleaner.choose(generation(paths[0]))
        for records in self._cleaner.copies(paths):
            self._put_copies(records)
            if time.perf_counter() >= until:
                self.flush()
                return True
        self.flush()
        if self._segment is None or self._segment.pending:
            return False  # the copies are in memory alone: what they were made of stays
        self._unlink_dead()
        return self._cleaner.wanted(self._segments())

    def _put_copies(self, records: list[Record]) -> None:
        for record in records:
            self.story.take(self._number, self._put(*record), record)

    def _put(self, kind: int, seq: int, payload: bytes) -> int:
        """The place of the payload in the segment."""
        if not self._soon:
            self._wake()
        size, segment = len(payload), self._segment
        self._parts += (_pack(kind, seq, size), payload)
        self._size += RECORD.size + size
        self._count += 1
        return (segment.bytes if segment else 0) + FRAME_HEAD_BYTES + self._size - size

    def _wake(self) -> None:
        self._soon = True
        self._loop.call_soon(self.flush)

    def _fill(self) -> bool:
        """Put what a frame has once. Whether there is anything in it."""
        story = self.story
        for channel, (seq, message) in self._lasts.items():
            self._put(Kind.LAST, seq, PAIR.pack(channel, message))
            story.lasts[channel] = message
            story.handled_seq = max(story.handled_seq, seq)
        if self._seen > story.handled_seq:
            story.handled_seq = self._seen
            self._put(Kind.SEEN, self._seen, b"")
        if self._started:
            self._put(Kind.START, story.handled_seq, _encode(self._started))
        if self._done:
            self._put(Kind.DONE, story.handled_seq, _encode(self._done))
        return self._count > 0

    def _write(self, data: bytes) -> None:
        segment = self._segment
        if segment is None or segment.append(data):
            return
        if len(segment.pending) > PENDING_MAX_BYTES:
            self._break(segment.why)
        elif self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._write_pending)

    def _write_pending(self) -> None:
        self._retry = None
        if self._segment is not None and not self._segment.retry():
            self._retry = self._loop.call_later(RETRY_S, self._write_pending)

    def _forget_buffer(self) -> None:
        self._parts, self._size, self._count = [], 0, 0
        self._lasts.clear()
        self._started.clear()
        self._done.clear()

    # -- Segments

    def _roll(self) -> None:
        """To the next segment, where this one is long. Where there can be none, a long one is
        better."""
        segment = self._segment
        if segment is None or segment.bytes <= SEGMENT_BYTES or segment.pending:
            return
        self.story.end = (segment.number, segment.bytes)
        with contextlib.suppress(OSError):
            self._begin(segment.number + 1, self.story.kept_session())
            segment.close()

    def _open(self, number: int, session: Session | None) -> None:
        """The first segment of this process, or of a session."""
        self.broken, self._closed = "", False
        try:
            self._begin(number, session)
        except OSError as error:
            self._break(error.strerror or str(error))

    def _begin(self, number: int, session: Session | None) -> None:
        """A segment and its first frame: whose it is, and all that is of no guild, so that
        older segments can go. Raises OSError."""
        head, story = self._head, self.story
        segment = Segment(self._folder / segment_name(number, head.node, head.epoch))
        before, before_bytes = story.end
        told = msgspec.structs.replace(
            head, generation=number, at=time.time(), before=before, before_bytes=before_bytes
        )
        story.headed(told)
        seq = story.handled_seq
        records = [Record(Kind.HEAD, seq, _encode(told))]
        if session is not None:
            records.append(Record(Kind.SESSION, seq, _encode(session)))
            if session.carried:
                story.carried(seq)
        if story.running:
            records.append(Record(Kind.START, seq, _encode(list(story.running.values()))))
        kept = {Kind.WAITS: story.waits, Kind.PULSE: story.pulse, Kind.LASTS: story.lasts_plain()}
        records += (Record(kind, seq, payload) for kind, payload in kept.items() if payload)
        records += _away(story, seq)
        self._segment, self._number = segment, number
        self._write(frame(records))

    def _unlink_dead(self) -> None:
        """The oldest segments, as long as nothing in them is needed."""
        for path in self._segments()[:-1]:
            if self.story.needs(generation(path)):
                return
            with contextlib.suppress(OSError):
                path.unlink()

    def _segments(self) -> list[Path]:
        found = [path for path in self._folder.iterdir() if 0 < generation(path) <= self._number]
        return sorted(found, key=generation)

    def _break(self, why: str) -> None:
        self.broken = f"its journal cannot be written: {why}; a respawn now will IDENTIFY"
        self._leave_nothing()

    def _leave_nothing(self) -> None:
        """No segment stays, so that nobody RESUMEs from what is not all."""
        self.close()
        self.story.forget()
        self._cleaner = Cleaner(self.story)
        with contextlib.suppress(OSError):
            for path in self._segments():
                path.unlink()


def _away(story: Story, seq: int) -> Iterator[Record]:
    """What of guilds that are away is in no other segment."""
    for away in story.away.values():
        yield Record(Kind.AWAY, seq, _encode(away))
    for guild, up_to in story.acked.items():
        yield Record(Kind.ACK, up_to, SEQ.pack(guild))
    for out, guild in story.out.items():
        yield Record(Kind.OUT, out, SEQ.pack(guild))
