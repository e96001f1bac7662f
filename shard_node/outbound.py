"""A guild's events on their way from its shard's holder to the process that has the guild. Pure.

One queue, in order, from the moment in which the guild is held: as long as it is HELD nothing
leaves; ROUTED, batches leave, one at a time, and each is said again until it is acknowledged;
PARSING, the guild is at home again and what waits is handled here. An event leaves the queue when
it was acknowledged or handled here, never sooner.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import NamedTuple

from shard_node.wire.migration import GuildAt


class Way(enum.Enum):
    """What becomes of what waits."""

    HELD = "held"
    ROUTED = "routed"
    PARSING = "parsing"


class HoldLimits(NamedTuple):
    """Of one guild."""

    events: int = 10_000
    bytes: int = 16 << 20
    batch_events: int = 64
    batch_bytes: int = 256 << 10


class Entry(NamedTuple):
    """One event; ``raw`` is the whole text of its frame."""

    session: str
    seq: int
    event: str
    raw: bytes


class Batch(NamedTuple):
    """What is sent at once; ``after`` is the event before it in its session, 0: none."""

    session: str
    after: int
    entries: tuple[Entry, ...]


class Outbound:
    """One guild's. ``at``: up to where its events are handled, by whoever it is."""

    def __init__(self, guild: int, at: GuildAt, limits: HoldLimits | None = None) -> None:
        self.guild, self.at = guild, at
        self.state = Way.HELD
        self.owner = ""
        self.bytes = 0
        self.shed = False
        """The texts were let go of: what waits has to come from the gateway again."""
        self._limits = limits or HoldLimits()
        self._entries = deque[Entry]()
        self._flying = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def flying(self) -> bool:
        """Whether a batch is on its way and not answered."""
        return self._flying > 0

    @property
    def full(self) -> bool:
        """Whether more waits than may."""
        return len(self._entries) > self._limits.events or self.bytes > self._limits.bytes

    @property
    def hopeless(self) -> bool:
        """Whether twice as much waits as may."""
        limits = self._limits
        return len(self._entries) > 2 * limits.events or self.bytes > 2 * limits.bytes

    def put(self, entry: Entry) -> bool:
        """An event came, or came again. False: it waits here already, or was handled."""
        if self.shed or self._has(entry):
            return False
        self._entries.append(entry)
        self.bytes += len(entry.raw)
        return True

    def batch(self) -> Batch | None:
        """What is to be sent now; None: nothing, or a batch is on its way."""
        if self.state is not Way.ROUTED or self._flying or not self._entries:
            return None
        session, found, size = self._entries[0].session, list[Entry](), 0
        for entry in self._entries:
            size += len(entry.raw)
            if entry.session != session or (found and size > self._limits.batch_bytes):
                break
            found.append(entry)
            if len(found) == self._limits.batch_events:
                break
        self._flying = len(found)
        after = self.at.seq if self.at.session == session else 0
        return Batch(session, after, tuple(found))

    def handled(self, at: GuildAt) -> int:
        """The batch was answered: the owner has handled all up to ``at``. How many of what
        waited that are."""
        self._flying = 0
        return self._leave(at)

    def lost(self) -> None:
        """The batch may not have come: it is said again."""
        self._flying = 0

    def hold(self) -> None:
        """Nothing more leaves. A batch that is on its way is still to be answered, or lost."""
        self.state = Way.HELD

    def route(self, owner: str) -> None:
        """It goes to ``owner``."""
        self.state, self.owner, self._flying = Way.ROUTED, owner, 0

    def home(self, at: GuildAt) -> int:
        """It is handled here, but what was handled elsewhere up to ``at``."""
        self.state, self.owner, self._flying = Way.PARSING, "", 0
        return self._leave(at)

    def pop(self) -> Entry | None:
        """The next one to be handled here; it counts as handled. None: nothing waits."""
        if self.state is not Way.PARSING or not self._entries:
            return None
        entry = self._entries.popleft()
        self.bytes -= len(entry.raw)
        self.at = GuildAt(entry.session, entry.seq)
        return entry

    def let_go(self) -> None:
        """Keep no text any more: there is nobody to send it to, and too much of it. Whatever comes
        is let go of as well, until ``again``."""
        self._entries.clear()
        self.bytes, self._flying, self.shed = 0, 0, True

    def again(self) -> None:
        """The gateway says everything again that is not handled."""
        self.shed = False

    def waits(self, session: str, seq: int) -> bool:
        """Whether an event is here."""
        return any((one.session, one.seq) == (session, seq) for one in self._entries)

    def _has(self, entry: Entry) -> bool:
        """They come in order, within a session."""
        last = self._entries[-1] if self._entries else self.at
        return entry.session == last.session and entry.seq <= last.seq

    def _leave(self, at: GuildAt) -> int:
        entries, count = self._entries, 0
        known = at.session == self.at.session or any(one.session == at.session for one in entries)
        if not at.session or not known:
            return 0
        older = at.session != self.at.session  # what is of another session is of one before
        while entries:
            first = entries[0]
            if first.session == at.session:
                older = False
                if first.seq > at.seq:
                    break
            elif not older:
                break
            self.bytes -= len(entries.popleft().raw)
            count += 1
        if at.session != self.at.session or at.seq > self.at.seq:
            self.at = at
        return count
