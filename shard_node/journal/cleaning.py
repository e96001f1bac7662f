"""Copies what is live in the oldest segment of a journal, a guild at a time, so that it can go.

A guild is read, its changes are brought into it and it is written anew; none is kept. Of a guild
whose events another process has not acknowledged the changes stay apart, as that process has
not seen them: it waits, and its segment with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from shard_node.journal.merge import RawGuild, merged
from shard_node.journal.place import generation
from shard_node.journal.records import SEQ, Kind, Piece, Record
from shard_node.journal.story import Story

DEAD_MAX_BYTES: Final = 8 << 20
"""So much may be dead, or half of what is live, before a segment is cleaned."""


class Cleaner:
    """Of the journal that ``story`` tells."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._victim, self._guilds = 0, dict[int, None]()

    def wanted(self, paths: list[Path]) -> bool:
        """Whether anything is to be done; ``paths``: all segments, oldest first."""
        if len(paths) < 2:
            return False
        if self._victim:
            return not self._guilds or any(one not in self._waiting() for one in self._guilds)
        live = self._story.guilds.live_bytes
        return sum(path.stat().st_size for path in paths) - live > max(DEAD_MAX_BYTES, live // 2)

    def choose(self, segment: int) -> None:
        """This is the oldest segment."""
        if segment != self._victim:
            self._victim = segment
            self._guilds = dict.fromkeys(self._story.guilds.in_segment(segment))

    def copies(self, paths: list[Path]) -> Iterator[list[Record]]:
        """What is live in the segment chosen, a guild at a time, to be written before the next
        is asked for. Raises OSError."""
        with opened(paths) as files:
            waiting = self._waiting()
            for guild in [one for one in self._guilds if one not in waiting]:
                del self._guilds[guild]
                pieces = self._story.guilds.of(guild)
                if any(piece.segment == self._victim for piece in pieces):
                    yield self._copy(guild, pieces, files)
            user = self._story.user
            if user is not None and user.segment == self._victim:
                yield [Record(Kind.EVENT, user.seq, payload(files, user))]
            self._victim = self._victim if self._guilds else 0

    def _waiting(self) -> set[int]:
        return set(self._story.out.values())

    def _copy(self, guild: int, pieces: list[Piece], files: dict[int, int]) -> list[Record]:
        first, changes = payload(files, pieces[0]), [payload(files, piece) for piece in pieces[1:]]
        whole = pieces[0].kind == Kind.GUILD
        as_of = SEQ.pack(pieces[-1].seq)
        session = self._story.session
        own_id = str(session.user.get("id", "")) if session is not None else ""
        try:
            found = merged(first[SEQ.size :] if whole else first, whole, changes, own_id)
            self._fold(found)
            text, rest = found.whole(), found.rest()
        except (ValueError, KeyError, TypeError, AttributeError):
            # What cannot be merged is carried along as it came.
            text, rest = first[SEQ.size :] if whole else _data(first), changes
        records = [Record(Kind.REST, guild, change) for change in rest]
        return [Record(Kind.GUILD, guild, as_of + text), *records]

    def _fold(self, guild: RawGuild) -> None:
        lasts = self._story.lasts
        for table in ("channels", "threads") if lasts else ():
            for key, one in guild.tables.table(table).items():
                message = lasts.pop(int(key), 0)
                if message > int(one.get("last_message_id") or 0):
                    one["last_message_id"] = str(message)


class _Text(msgspec.Struct):
    d: msgspec.Raw


def _data(text: bytes) -> bytes:
    return bytes(msgspec.json.decode(text, type=_Text).d)


def payload(files: dict[int, int], piece: Piece) -> bytes:
    """The bytes of a piece. Raises OSError."""
    data = os.pread(files[piece.segment], piece.length, piece.place)
    if len(data) != piece.length:
        text = f"segment {piece.segment} ends before byte {piece.place + piece.length}"
        raise OSError(text)
    return data


@contextmanager
def opened(paths: list[Path]) -> Iterator[dict[int, int]]:
    """Descriptors by segment, closed at the end. Raises OSError."""
    files = dict[int, int]()
    try:
        for path in paths:
            files[generation(path)] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        yield files
    finally:
        for file in files.values():
            os.close(file)
