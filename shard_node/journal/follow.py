"""Reads a shard's journal, and what its living writer adds."""

from __future__ import annotations

import os
from typing import Final

from shard_node.journal.frames import Damaged, read
from shard_node.journal.place import Place, generation
from shard_node.journal.records import READABLE, Head, Kind, Piece
from shard_node.journal.story import Story

_COPIES: Final = frozenset({Kind.GUILD, Kind.REST})


class Follower:
    """A journal, read with or without its shard's lock.

    Segments stay open once they were read: a writer that cleans may unlink them. The end of a
    frame that is missing is "not yet"; once the lock is ours it is the end.
    """

    def __init__(self, place: Place, shard: int) -> None:
        self.story = Story()
        self.problem = ""
        """Why the journal cannot be used; the story is empty then."""
        self._place, self._shard = place, shard
        self._files = dict[int, int]()
        self._last = self._at = 0
        self._begun = self._missed = self._copied = False

    def more(self) -> list[Piece]:
        """What is new since the last call, in order of feeding; the first call: all of it.

        A piece of kind SESSION: what was fed before belongs to a session that is over. A GUILD
        replaces what was fed of it.
        """
        if self.problem:
            return []
        news = list[Piece]()
        try:
            self._read_on(news)
        except (Damaged, OSError) as error:
            self.problem, self.story = f"shard {self._shard}: {error}", Story()
            return []
        if not self._begun and self._last:
            self._begun = True
            return list(self.story.pieces())
        return news

    def payload(self, piece: Piece) -> bytes:
        """The bytes of a piece. Raises OSError."""
        return os.pread(self._files[piece.segment], piece.length, piece.place)

    def close(self) -> None:
        """Twice does nothing."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _read_on(self, news: list[Piece]) -> None:
        # Listed before the newest one that we know is read to its end: its writer is through
        # with it when the next one exists.
        segments = self._place.segments(self._shard)
        if self._last and (not segments or generation(segments[-1]) < self._last):
            text = "its journal is gone: the session is over, or events could not be written"
            raise Damaged(text)
        if self._last:
            self._read(self._last, news)
        for path in segments:
            number = generation(path)
            if number <= self._last:
                continue
            try:
                self._files[number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # cleaned meanwhile: what was live in it is in a later one
            self._missed |= number != self._last + 1
            self._last, self._at = number, 0
            self._read(number, news)

    def _read(self, number: int, news: list[Piece]) -> None:
        file = self._files[number]
        size = os.fstat(file).st_size - self._at
        if size <= 0:
            return
        records, end = read(os.pread(file, size, self._at))
        for record, place in records:
            if record.kind == Kind.GUILD:
                self._copied = record.seq in self.story.guilds and not self._missed
            piece = self.story.take(number, self._at + place, record)
            if record.kind == Kind.HEAD:
                self._check(self.story.head)
            if piece is not None and not (self._copied and record.kind in _COPIES):
                news.append(piece)
        self._at += end
        self.story.end = (number, self._at)

    def _check(self, head: Head | None) -> None:
        """Raises Damaged for a segment that is not of this fleet, or behind one whose end is
        missing."""
        place, (before, read_bytes) = self._place, self.story.end
        if head is None or head.schema not in READABLE:
            text = "its journal was written by another version"
        elif head.application != place.application:
            text = f"its journal is that of application {head.application}"
        elif (head.boot_id, head.num_shards, head.shard) != (
            place.boot_id,
            place.num_shards,
            self._shard,
        ):
            text = f"its journal is that of shard {head.shard} of {head.num_shards}"
        elif head.before == before and read_bytes < head.before_bytes:
            text = f"segment {before} had {head.before_bytes} bytes, {read_bytes} are left"
        else:
            return
        raise Damaged(text)
