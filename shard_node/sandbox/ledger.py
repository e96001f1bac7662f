"""Which events the bot's handlers saw once, never, twice or out of order.

Pure. An event is named by its nonce ``"<guild_id>:<n>"`` with n counting up by one in a guild
(guild 0 stands for direct messages). One byte is kept for an event, starts in its low half and
ends in its high half, so an hour of 1,000 events a second costs under 4 MB.
"""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

EVENTS_TRACKED_MAX: Final = 32 << 20
"""Events remembered over all guilds; past it the oldest of a guild keep their count only."""
RECENT_EVENTS_MAX: Final = 1 << 19
"""Events that may be within their grace at once; past it the oldest counts as out of it."""
ORDER_WINDOW_MAX: Final = 256
"""Handler starts of a guild among which a report that comes late can find its place."""
ORDER_STARTS_MAX: Final = 1 << 16
"""Such starts over all guilds; past it the guild that was quiet longest keeps none."""
RETOLD_STARTS_MAX: Final = 1 << 15
"""Reports of starts among which one that is told again is recognised: many witness batches."""

_UNSENT: Final = 0xFF
_STARTS_MASK: Final = 0x0F
_HALF_BYTE_BITS: Final = 4
_HALF_BYTE_MAX: Final = 14


@dataclass(frozen=True)
class EventCounts:
    """``sent == once + never + twice + pending``; out_of_order and unfinished overlap them."""

    sent: int
    once: int
    never: int
    twice: int
    pending: int
    out_of_order: int
    unfinished: int


_Report = tuple[int, int, float, str]
"""Guild, n, moment and witness of one handler's start."""


@dataclass(slots=True)
class _Start:
    at: float
    n: int
    flagged: bool


@dataclass(slots=True)
class _Guild:
    base: int = 0
    slots: bytearray = field(default_factory=bytearray)
    highest_started: int = -1
    latest_at: float = -math.inf
    order: list[_Start] = field(default_factory=list)

    def index_of(self, n: int) -> int | None:
        index = n - self.base
        return index if 0 <= index < len(self.slots) else None


def parse_nonce(nonce: str) -> tuple[int, int] | None:
    """Guild id and n of ``"<guild_id>:<n>"``; None when it is not one."""
    guild, separator, n = nonce.partition(":")
    if not separator or not guild.isdecimal() or not n.isdecimal() or len(nonce) > 64:
        return None
    return int(guild), int(n)


def _places(slots: bytearray, slot: int, most: int) -> Iterator[int]:
    at = slots.find(slot)
    while at >= 0 and most > 0:
        yield at
        most -= 1
        at = slots.find(slot, at + 1)


class EventLedger:
    """Counts handler starts and ends against the events that were sent.

    Handled means started: side effects begin there. An event with a start and no end is in
    ``once`` and in ``unfinished``. An event is out of order when an event of its guild with a
    larger n had started before it by the reporters' common monotonic clock.
    """

    def __init__(
        self,
        *,
        grace_s: float,
        tracked_max: int = EVENTS_TRACKED_MAX,
        recent_max: int = RECENT_EVENTS_MAX,
    ) -> None:
        self._grace_s = grace_s
        self._tracked_max = tracked_max
        self._recent_max = recent_max
        self._guilds: OrderedDict[int, _Guild] = OrderedDict()
        self._tracked = 0
        self._recent: deque[tuple[float, int, int]] = deque()
        self._in_order: OrderedDict[int, _Guild] = OrderedDict()
        self._in_order_starts = 0
        self._told: set[_Report] = set()
        self._told_order: deque[_Report] = deque()
        self._zero()

    def _zero(self) -> None:
        self._sent = self._once = self._twice = 0
        self._out_of_order = self._unfinished = 0

    def new_nonce(self, guild_id: int) -> str:
        """The next nonce of the guild; it counts as sent only from `sent` on."""
        if self._tracked >= self._tracked_max:
            self._forget_oldest()
        guild = self._guilds.setdefault(guild_id, _Guild())
        n = guild.base + len(guild.slots)
        guild.slots.append(_UNSENT)
        self._tracked += 1
        return f"{guild_id}:{n}"

    def sent(self, nonce: str, now: float) -> None:
        """The event of this nonce went into at least one session's stream."""
        place = self._place(nonce)
        if place is None:
            return
        guild_id, n, guild, index = place
        guild.slots[index] = 0
        self._sent += 1
        self._recent.append((now, guild_id, n))
        while self._recent and (
            now - self._recent[0][0] > self._grace_s or len(self._recent) > self._recent_max
        ):
            self._recent.popleft()

    def started(self, nonce: str, at: float, node: str = "") -> bool:
        """A handler began at monotonic ``at``; False when the nonce is none of the tracked.

        A second report by the same node of the very same moment is the same start, told
        again by a witness whose connection broke.
        """
        place = self._place(nonce)
        if place is None:
            return False
        guild_id, n, guild, index = place
        slot = guild.slots[index]
        if slot == _UNSENT:
            return False
        if self._is_retold((guild_id, n, at, node)):
            return True
        starts = slot & _STARTS_MASK
        if starts == 0:
            self._first_start(guild_id, n, at, ended=slot != 0)
        elif starts == 1:
            self._once -= 1
            self._twice += 1
        if starts < _HALF_BYTE_MAX:
            guild.slots[index] = slot + 1
        return True

    def ended(self, nonce: str) -> bool:
        """A handler returned or raised; False when the nonce is none of the tracked."""
        place = self._place(nonce)
        if place is None or place[2].slots[place[3]] == _UNSENT:
            return False
        guild, index = place[2], place[3]
        slot = guild.slots[index]
        ends = slot >> _HALF_BYTE_BITS
        if ends == 0 and slot & _STARTS_MASK:
            self._unfinished -= 1
        if ends < _HALF_BYTE_MAX:
            guild.slots[index] = slot + (1 << _HALF_BYTE_BITS)
        return True

    def counts(self, now: float) -> EventCounts:
        """The classes as of ``now``; a start that comes late takes an event out of never."""
        pending = self._pending(now)
        never = self._sent - self._once - self._twice - pending
        return EventCounts(
            self._sent,
            self._once,
            never,
            self._twice,
            pending,
            self._out_of_order,
            self._unfinished,
        )

    def never(self, now: float, most: int) -> list[str]:
        """Nonces of events that nobody handled in their grace, at most so many."""
        young = {(g, n) for sent_at, g, n in self._recent if now - sent_at <= self._grace_s}
        found = list[str]()
        for guild_id, guild in self._guilds.items():
            for index in _places(guild.slots, 0, most - len(found)):
                n = guild.base + index
                if (guild_id, n) not in young:
                    found.append(f"{guild_id}:{n}")
        return found

    def starts_in_order(self) -> int:
        """Starts kept to place late reports, over all guilds: at most `ORDER_STARTS_MAX`."""
        return sum(len(guild.order) for guild in self._guilds.values())

    def reset(self) -> None:
        """Counts begin at zero; n goes on, and reports of earlier events change nothing."""
        for guild in self._guilds.values():
            guild.base += len(guild.slots)
            guild.slots = bytearray()
            guild.highest_started = -1
            guild.latest_at = -math.inf
            guild.order.clear()
        self._in_order.clear()
        self._in_order_starts = 0
        self._told.clear()
        self._told_order.clear()
        self._tracked = 0
        self._recent.clear()
        self._zero()

    def known(self, nonce: str) -> bool:
        """Whether this nonce was ever given out, even when it is no longer tracked."""
        parsed = parse_nonce(nonce)
        guild = self._guilds.get(parsed[0]) if parsed else None
        return (
            guild is not None and parsed is not None and parsed[1] < guild.base + len(guild.slots)
        )

    def _place(self, nonce: str) -> tuple[int, int, _Guild, int] | None:
        parsed = parse_nonce(nonce)
        guild = self._guilds.get(parsed[0]) if parsed else None
        index = guild.index_of(parsed[1]) if guild and parsed else None
        if parsed is None or guild is None or index is None:
            return None
        return parsed[0], parsed[1], guild, index

    def _is_retold(self, report: _Report) -> bool:
        """Whether this start was told before; it is from now on."""
        if report in self._told:
            return True
        self._told.add(report)
        self._told_order.append(report)
        if len(self._told_order) > RETOLD_STARTS_MAX:
            self._told.discard(self._told_order.popleft())
        return False

    def _first_start(self, guild_id: int, n: int, at: float, *, ended: bool) -> None:
        guild = self._guilds[guild_id]
        self._once += 1
        if not ended:
            self._unfinished += 1
        if at >= guild.latest_at:
            early = n < guild.highest_started
            self._out_of_order += early
            guild.order.append(_Start(at, n, early))
            guild.latest_at = at
        else:
            self._insert(guild, n, at)
        guild.highest_started = max(guild.highest_started, n)
        self._bound_order(guild_id, guild)

    def _bound_order(self, guild_id: int, guild: _Guild) -> None:
        """Keep a guild's latest starts, and of the guilds those that were busy last."""
        self._in_order[guild_id] = guild
        self._in_order.move_to_end(guild_id)
        self._in_order_starts += 1
        if len(guild.order) > ORDER_WINDOW_MAX:
            del guild.order[0]
            self._in_order_starts -= 1
        while self._in_order_starts > ORDER_STARTS_MAX and len(self._in_order) > 1:
            _, quiet = self._in_order.popitem(last=False)
            self._in_order_starts -= len(quiet.order)
            quiet.order = []

    def _insert(self, guild: _Guild, n: int, at: float) -> None:
        """A report that overtook others: it may be early itself and may show others to be."""
        place = bisect.bisect_right(guild.order, at, key=lambda start: start.at)
        flagged = any(start.n > n for start in guild.order[:place])
        self._out_of_order += flagged
        for start in guild.order[place:]:
            if start.n < n and not start.flagged:
                start.flagged = True
                self._out_of_order += 1
        guild.order.insert(place, _Start(at, n, flagged))

    def _pending(self, now: float) -> int:
        pending = 0
        for sent_at, guild_id, n in reversed(self._recent):
            if now - sent_at > self._grace_s:
                break
            guild = self._guilds[guild_id]
            index = guild.index_of(n)
            if index is not None and guild.slots[index] & _STARTS_MASK == 0:
                pending += 1
        return pending

    def _forget_oldest(self) -> None:
        """Half of what one guild has, guilds taking turns; what is dropped keeps its class."""
        guild_id, guild = next(iter(self._guilds.items()))
        self._guilds.move_to_end(guild_id)
        count = (len(guild.slots) + 1) // 2
        del guild.slots[:count]
        guild.base += count
        self._tracked -= count
