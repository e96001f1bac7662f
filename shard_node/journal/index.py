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
    """``as_of``: what has this sequence number or a smaller one is in the snapshot. ``bytes``:
    of the snapshot and of what is beside it."""

    __slots__ = ("as_of", "bytes", "kind", "places", "seqs", "sizes")

    def __init__(self, kind: int, place: int, size: int, as_of: int) -> None:
        self.kind, self.as_of, self.bytes = kind, as_of, RECORD.size + size
        self.places, self.sizes = array("Q", [place]), array("I", [size])
        self.seqs = array("Q", [as_of])


class Index:
    """The places that are needed, by guild; the first one of a guild is its snapshot."""

    def __init__(self) -> None:
        self._guilds = dict[int, _Guild]()
        self._needed = dict[int, int]()
        self.live_bytes = 0
        """Of snapshots and what is beside them: changes can be brought into these."""

    def __contains__(self, guild: int) -> bool:
        return guild in self._guilds

    def __iter__(self) -> Iterator[int]:
        return iter(self._guilds)

    def __len__(self) -> int:
        return len(self._guilds)

    def event(self, guild: int, segment: int, place: int, size: int, seq: int) -> None:
        """The text of an event: a change of a guild that is known, else its first state."""
        found = self._guilds.get(guild)
        if found is None:
            self._first(guild, Kind.EVENT, segment << _SEGMENT_SHIFT | place, size, seq)
            return
        found.places.append(segment << _SEGMENT_SHIFT | place)
        found.sizes.append(size)
        found.seqs.append(seq)
        self._need(segment, RECORD.size + size)

    def snapshot(self, guild: int, segment: int, place: int, size: int, as_of: int) -> None:
        """A whole guild: what is not newer than ``as_of`` is dead."""
        found = self._guilds.get(guild)
        self.gone(guild)
        self._first(guild, Kind.GUILD, segment << _SEGMENT_SHIFT | place, size, as_of)
        changes = zip(found.places, found.sizes, found.seqs, strict=True) if found else ()
        for where, length, seq in changes:
            if seq > as_of:
                at = where >> _SEGMENT_SHIFT
                self.event(guild, at, where & _PLACE_MASK, length, seq)

    def rest(self, guild: int, segment: int, place: int, size: int) -> Piece:
        """The text of an event that belongs beside a snapshot that was just taken."""
        found = self._guilds[guild]
        self.event(guild, segment, place, size, found.as_of)
        found.bytes += RECORD.size + size
        self.live_bytes += RECORD.size + size
        return Piece(guild, Kind.EVENT, segment, place, size, found.as_of)

    def gone(self, guild: int) -> None:
        """All of it is dead."""
        found = self._guilds.pop(guild, None)
        if found is not None:
            self.live_bytes -= found.bytes
            for where, size in zip(found.places, found.sizes, strict=True):
                self._need(where >> _SEGMENT_SHIFT, -RECORD.size - size)

    def needed(self, segment: int) -> int:
        """Bytes of a segment that are in no other."""
        return self._needed.get(segment, 0)

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

    def _first(self, guild: int, kind: int, where: int, size: int, as_of: int) -> None:
        self._guilds[guild] = _Guild(kind, where, size, as_of)
        self.live_bytes += RECORD.size + size
        self._need(where >> _SEGMENT_SHIFT, RECORD.size + size)

    def _need(self, segment: int, size: int) -> None:
        needed = self._needed.get(segment, 0) + size
        if needed:
            self._needed[segment] = needed
        else:
            del self._needed[segment]


def _pieces(guild: int, found: _Guild) -> Iterator[Piece]:
    kind = found.kind
    for where, size, seq in zip(found.places, found.sizes, found.seqs, strict=True):
        yield Piece(guild, kind, where >> _SEGMENT_SHIFT, where & _PLACE_MASK, size, seq)
        kind = Kind.EVENT
