"""Where in a journal's segments each guild is: its last whole state and what came after it.

Places alone, 20 bytes a change: the guilds themselves are in the files.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice

from shard_node.journal.frames import RECORD
from shard_node.journal.records import Kind, Piece

_SEGMENT_SHIFT = 40
_PLACE_MASK = (1 << _SEGMENT_SHIFT) - 1


class _Guild:
    """``as_of``: what has this sequence number or a smaller one is in the snapshot."""

    __slots__ = ("as_of", "kind", "places", "seqs", "sizes")

    def __init__(self, kind: int, place: int, size: int, as_of: int) -> None:
        self.kind, self.as_of = kind, as_of
        self.places, self.sizes, self.seqs = (
            array("Q", [place]),
            array("I", [size]),
            array("Q", [as_of]),
        )


class Index:
    """Live pieces by guild, and live bytes by segment. A guild's first place is its snapshot."""

    def __init__(self) -> None:
        self._guilds = dict[int, _Guild]()
        self._live = dict[int, int]()
        self.live_bytes = 0

    def __contains__(self, guild: int) -> bool:
        return guild in self._guilds

    def __iter__(self) -> Iterator[int]:
        return iter(self._guilds)

    def __len__(self) -> int:
        return len(self._guilds)

    def event(self, guild: int, segment: int, place: int, size: int, seq: int) -> None:
        """The text of an event: a change of a guild that is known, else its first state."""
        found = self._guilds.get(guild)
        where = segment << _SEGMENT_SHIFT | place
        if found is None:
            self._guilds[guild] = _Guild(Kind.EVENT, where, size, seq)
        elif seq <= found.as_of:
            return
        else:
            found.places.append(where)
            found.sizes.append(size)
            found.seqs.append(seq)
        size += RECORD.size
        self._live[segment] = self._live.get(segment, 0) + size
        self.live_bytes += size

    def snapshot(self, guild: int, segment: int, place: int, size: int, as_of: int) -> None:
        """A whole guild: what is not newer than ``as_of`` is dead."""
        found = self._guilds.pop(guild, None)
        made = self._guilds[guild] = _Guild(
            Kind.GUILD, segment << _SEGMENT_SHIFT | place, size, as_of
        )
        self._count(segment, size + RECORD.size)
        for where, length, seq in (
            zip(found.places, found.sizes, found.seqs, strict=True) if found else ()
        ):
            if seq > as_of:
                made.places.append(where)
                made.sizes.append(length)
                made.seqs.append(seq)
            else:
                self._count(where >> _SEGMENT_SHIFT, -length - RECORD.size)

    def gone(self, guild: int) -> None:
        """All of it is dead."""
        found = self._guilds.pop(guild, None)
        for where, length in zip(found.places, found.sizes, strict=True) if found else ():
            self._count(where >> _SEGMENT_SHIFT, -length - RECORD.size)

    def live(self, segment: int) -> int:
        """Bytes of a segment that are needed."""
        return self._live.get(segment, 0)

    def of(self, guild: int) -> list[Piece]:
        """A guild's snapshot and the changes after it, in their order."""
        found = self._guilds.get(guild)
        return [] if found is None else list(_pieces(guild, found))

    def in_segment(self, segment: int) -> list[int]:
        """The guilds that have something in a segment."""
        return [
            guild
            for guild, found in self._guilds.items()
            if any(where >> _SEGMENT_SHIFT == segment for where in found.places)
        ]

    def pieces(self) -> Iterator[Piece]:
        """In order of feeding: snapshots, the newest first (of a user in several guilds the
        library keeps what it sees first), then changes as they came."""
        guilds = sorted(self._guilds.items(), key=lambda item: -item[1].as_of)
        for guild, found in guilds:
            yield next(_pieces(guild, found))
        changes = (
            piece for guild, found in guilds for piece in islice(_pieces(guild, found), 1, None)
        )
        yield from sorted(changes, key=lambda piece: piece.seq)

    def _count(self, segment: int, size: int) -> None:
        self._live[segment] = self._live.get(segment, 0) + size
        self.live_bytes += size
        if not self._live[segment]:
            del self._live[segment]


def _pieces(guild: int, found: _Guild) -> Iterator[Piece]:
    kind = found.kind
    for where, size, seq in zip(found.places, found.sizes, found.seqs, strict=True):
        yield Piece(guild, kind, where >> _SEGMENT_SHIFT, where & _PLACE_MASK, size, seq)
        kind = Kind.EVENT
