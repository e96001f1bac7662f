"""What the records of a shard's journal amount to, taken one after the other."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from shard_node.journal.frames import Damaged
from shard_node.journal.index import Index
from shard_node.journal.records import (
    HOME,
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
    guild_of,
)


class _Ids(msgspec.Struct):
    id: str | int | None = None
    guild_id: str | int | None = None
    unavailable: bool | None = None


class _Told(msgspec.Struct):
    """What of an event's text says where it belongs."""

    t: str
    d: _Ids


_told: Final = msgspec.json.Decoder(_Told)
_head: Final = msgspec.msgpack.Decoder(Head)
_session: Final = msgspec.msgpack.Decoder(Session)
_started: Final = msgspec.msgpack.Decoder(list[Started])
_done: Final = msgspec.msgpack.Decoder(list[int])
_away: Final = msgspec.msgpack.Decoder(Away)
_released: Final = msgspec.msgpack.Decoder(Released)


def leaves(raw: bytes | str) -> bool:
    """Whether a GUILD_DELETE says that the guild is gone, not just out of reach."""
    return not _told.decode(raw).d.unavailable


class Story:
    """A shard's journal so far. ``ShardJournal`` keeps one up to date by itself; readers
    ``take`` records in the order of the files."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.session: Session | None = None
        self.handled_seq = 0
        """The handlers of events up to here have started; their ids are in ``running`` until
        they have ended."""
        self.cache_seq = 0
        """The last event that changed caches."""
        self.running = dict[int, Started]()
        self.interrupted: tuple[Started, ...] = ()
        """What ran in the process before the one that writes now, when that one began."""
        self.out = dict[int, int]()
        """Events that are another process's to handle and not acknowledged: their guilds."""
        self.acked = dict[int, int]()
        """Of guilds that are away: up to where their events are handled, in this session."""
        self.away = dict[int, Away]()
        """Guilds whose events are not handled here; of no session."""
        self.guilds = Index()
        self.user: Piece | None = None
        self.lasts = dict[int, int]()
        """Newest message by channel; a channel's own ``last_message_id`` may be newer."""
        self.waits = b""
        self.pulse = b""
        self.released: Released | None = None
        self.ended = False
        self.end = (0, 0)
        """The segment read or written last, and how much of it."""

    def take(self, segment: int, place: int, record: Record) -> Piece | None:
        """One record whose payload is at ``place``; what caches are fed with because of it, or
        None. Raises Damaged."""
        try:
            return self._take(segment, place, record)
        except (msgspec.MsgspecError, ValueError, KeyError, struct.error) as error:
            text = f"a record of kind {record.kind} at byte {place} of segment {segment}: {error}"
            raise Damaged(text) from None

    def begin(self, session: Session, seq: int) -> None:
        """A new session: everything older is dead."""
        kept = {"head": self.head, "end": self.end, "pulse": self.pulse, "away": self.away}
        vars(self).update(vars(Story()), **kept, session=session, handled_seq=seq)

    def forget(self) -> Story:
        """Nothing is known any more but who writes, and which guilds are away."""
        kept = {"head": self.head, "pulse": self.pulse, "away": self.away}
        vars(self).update(vars(Story()), **kept)
        return self

    @property
    def resume_from(self) -> int:
        """From where a RESUME brings all that nobody is known to have handled."""
        return min(self.handled_seq, min(self.out, default=self.handled_seq + 1) - 1)

    def unhandled(self, guild: int) -> list[int]:
        """The events of a guild that are in ``out``, in their order."""
        return sorted(seq for seq, one in self.out.items() if one == guild)

    def acknowledged(self, guild: int, seq: int) -> None:
        """The guild's events up to here are handled."""
        self.acked[guild] = max(self.acked.get(guild, 0), seq)
        for one in self.unhandled(guild):
            if one <= seq:
                del self.out[one]

    def went(self, away: Away) -> None:
        """A guild's events go elsewhere, or are handled here again."""
        if away.state != HOME:
            self.away[away.guild] = away
            return
        self.away.pop(away.guild, None)
        self.acked.pop(away.guild, None)
        for one in self.unhandled(away.guild):
            del self.out[one]

    def needs(self, segment: int) -> bool:
        """Whether something in a segment is in no later one."""
        user = self.user
        return self.guilds.needed(segment) > 0 or (user is not None and user.segment == segment)

    def lasts_plain(self) -> bytes:
        """``lasts`` as a record has them."""
        return b"".join(PAIR.pack(*last) for last in self.lasts.items())

    def carried(self, seq: int) -> None:
        """The session goes on in another segment: what is handled is in caches too."""
        self.handled_seq = max(self.handled_seq, seq)
        self.cache_seq = max(self.cache_seq, self.handled_seq)

    def headed(self, head: Head) -> None:
        """A segment begins; what ran in another process before was interrupted."""
        last, self.head = self.head, head
        if last is not None and (last.node, last.epoch, last.pid) != (
            head.node,
            head.epoch,
            head.pid,
        ):
            self.interrupted, self.running = tuple(self.running.values()), {}
        self.released = None

    def changed(self, piece: Piece, event: str, raw: bytes | str) -> None:
        """An event that changes caches, whose text is at this piece; newer than any before."""
        seq = piece.seq
        self.cache_seq = max(self.cache_seq, seq)
        self.handled_seq = max(self.handled_seq, seq)
        guild = piece.guild
        if not guild:
            if event == "USER_UPDATE" and (self.user is None or seq >= self.user.seq):
                self.user = piece
        elif event == "GUILD_DELETE" and leaves(raw):
            self.guilds.gone(guild)
            self._left(guild)
        elif event == "GUILD_CREATE" or guild in self.guilds:  # else the library drops it too
            self.guilds.event(guild, piece.segment, piece.place, piece.length, seq)

    def pieces(self) -> Iterator[Piece]:
        """What caches are fed with, in this order: the bot's own user, guilds, changes. Then
        ``lasts``."""
        if self.user is not None:
            yield self.user
        yield from self.guilds.pieces()

    def kept_session(self) -> Session | None:
        """The session with the guilds that it has now, for the beginning of a segment."""
        if self.session is None:
            return None
        guilds = list(dict.fromkeys((*self.session.guilds, *self.guilds)))
        return msgspec.structs.replace(self.session, guilds=guilds, carried=True)

    def _left(self, guild: int) -> None:
        if self.session is not None and guild in self.session.guilds:
            guilds = [one for one in self.session.guilds if one != guild]
            self.session = msgspec.structs.replace(self.session, guilds=guilds)

    def _take(self, segment: int, place: int, record: Record) -> Piece | None:
        kind, seq, payload = record
        match kind:
            case Kind.EVENT:
                told = _told.decode(payload)
                if seq <= self.cache_seq and told.t != "USER_UPDATE":
                    return None
                ids = {"id": told.d.id, "guild_id": told.d.guild_id}
                guild = guild_of(told.t, ids) or 0
                piece = Piece(guild, kind, segment, place, len(payload), seq)
                self.changed(piece, told.t, payload)
                return piece if guild or piece is self.user else None
            case Kind.SEEN:
                self.handled_seq = max(self.handled_seq, seq)
            case Kind.LAST:
                channel, message = PAIR.unpack(payload)
                self.lasts[channel] = max(self.lasts.get(channel, 0), message)
                self.handled_seq = max(self.handled_seq, seq)
            case Kind.GUILD:
                (as_of,) = SEQ.unpack_from(payload)
                self.guilds.snapshot(seq, segment, place, len(payload), as_of)
                return Piece(seq, kind, segment, place, len(payload), as_of)
            case Kind.REST:
                return self.guilds.rest(seq, segment, place, len(payload))
            case Kind.START:
                self.running.update((one.seq, one) for one in _started.decode(payload))
            case Kind.DONE:
                for one in _done.decode(payload):
                    self.running.pop(one, None)
            case Kind.SESSION:
                session = _session.decode(payload)
                if not session.carried or (self.session and self.session.id != session.id):
                    self.begin(session, seq)
                    return Piece(0, kind, segment, place, len(payload), seq)
                self.session = session
                self.carried(seq)
            case _:
                self._take_rare(kind, seq, payload)
        return None

    def _take_rare(self, kind: int, seq: int, payload: bytes) -> None:
        match kind:
            case Kind.OUT:
                (self.out[seq],) = SEQ.unpack(payload)
            case Kind.ACK:
                (guild,) = SEQ.unpack(payload)
                self.acknowledged(guild, seq)
            case Kind.HEAD:
                self.headed(_head.decode(payload))
            case Kind.LASTS:
                for channel, message in PAIR.iter_unpack(payload):
                    self.lasts[channel] = max(self.lasts.get(channel, 0), message)
            case Kind.WAITS:
                self.waits = payload
            case Kind.PULSE:
                self.pulse = payload
            case Kind.AWAY:
                self.went(_away.decode(payload))
            case Kind.RELEASED:
                self.released = _released.decode(payload)
            case Kind.ENDED:
                self.ended, self.session = True, None
            case _:
                text = f"kind {kind} is not known"
                raise Damaged(text)
