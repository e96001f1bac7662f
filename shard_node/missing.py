"""Types of events that a shard no longer gets, while others come. Pure.

Nobody can be asked whether a type should come; a silence is judged by the type's own rate and
by its own longest silence so far. Then it is said; and only where other shards get that type is
anything done: one RESUME, later one IDENTIFY.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from shard_node.means import Rate

MEAN_S: Final = 3600.0
KNOWN_S: Final = 3600.0
"""A type is judged after so long."""
RATE_MIN: Final = 0.2
SEEN_MIN: Final = 600
MISSED: Final = 60.0
"""So many that should have come."""
SILENCE_MIN_S: Final = 120.0
LONGEST: Final = 4.0
"""So much longer than any silence of the last day."""
DAY_S: Final = 86_400.0
REST_SHARE: Final = 0.5
"""So much of its mean the rest of the shard must have had meanwhile."""
PROMPT: Final = 10.0
"""Events that should have come since a cure: what took longer did not come by it."""
ASK_EVERY_S: Final = 60.0
FORGET_S: Final = 3600.0
"""A type that is missed for so long is no longer expected."""
RELAPSE_S: Final = 3600.0
IDENTIFY_EVERY_S: Final = 6 * 3600.0
TYPES_MAX: Final = 256


class Cure(enum.Enum):
    """What is to be done with the connection."""

    NONE = "none"
    PROBE = "probe"
    ASK = "ask"
    """Ask whether other shards get the type."""
    RESUME = "resume"
    IDENTIFY = "identify"


class Finding(NamedTuple):
    """``what`` is of ``ShardHealth``; empty where there is nothing to tell of. ``event`` and
    ``within_s`` belong to ``Cure.ASK``."""

    what: str
    cure: Cure
    detail: str = ""
    event: str = ""
    within_s: float = 0.0


class KeptType(msgspec.Struct, array_like=True):
    """What the next process should know of a type."""

    per_s: float
    seen: int
    known_s: float
    longest_s: float


class _Type:
    __slots__ = (
        "asked_at", "came_at", "cured_at", "cures", "heard_at", "known_s", "left", "longest_s",
        "missed_at", "rate", "rest", "seen",
    )  # fmt: skip

    def __init__(self, now: float, kept: KeptType | None = None) -> None:
        self.rate = Rate(MEAN_S, kept.per_s if kept else None)
        self.seen = kept.seen if kept else 0
        self.known_s = kept.known_s if kept else 0.0
        self.longest_s = kept.longest_s if kept else 0.0
        self.heard_at = now
        """Since when it is missing: the last one, or the last connection."""
        self.came_at = -math.inf
        self.rest = 0
        """Events of other types since this one came."""
        self.left = False
        """A guild left right after this came last: it may have been that guild's."""
        self.missed_at: float | None = None
        self.asked_at = -math.inf
        self.cures = 0
        self.cured_at = -math.inf


class Missing:
    """The types of one shard. ``rest_per_s`` is a mean over MEAN_S of all that comes."""

    def __init__(
        self, now: float, kept: Mapping[str, KeptType] | None = None, identified_at: float = 0.0
    ) -> None:
        self._types = {event: _Type(now, one) for event, one in (kept or {}).items()}
        self.identified_at = identified_at or -math.inf

    def kept(self) -> dict[str, KeptType]:
        """For the next process."""
        return {
            event: KeptType(kind.rate.per_s, kind.seen, kind.known_s, kind.longest_s)
            for event, kind in self._types.items()
        }

    def ages(self, now: float, max_s: float) -> dict[str, float]:
        """How long ago each type came last, where that is at most ``max_s``."""
        return {
            event: now - kind.came_at
            for event, kind in self._types.items()
            if now - kind.came_at <= max_s
        }

    def reconnected(self, now: float) -> None:
        """Another connection: each type has its whole time again."""
        for kind in self._types.values():
            kind.heard_at, kind.rest, kind.missed_at = now, 0, None

    def forgive(self, seconds: float) -> None:
        """Nobody looked for so long."""
        for kind in self._types.values():
            kind.heard_at += seconds

    def look(
        self, now: float, seconds: float, heard: Mapping[str, int], all_per_s: float
    ) -> list[Finding]:
        """What came in the last ``seconds``, and which types are missing."""
        count, found = sum(heard.values()), list[Finding]()
        missed = self._any_missed()
        for event in heard:
            if event not in self._types and len(self._types) < TYPES_MAX:
                self._types[event] = _Type(now)
        left = "GUILD_DELETE" in heard
        for event, kind in self._types.items():
            kind.known_s += seconds
            kind.longest_s *= max(0.0, 1 - seconds / DAY_S)
            came = heard.get(event, 0)
            if came:
                _came(kind, now, seconds, came)
                continue
            kind.rest += count
            if left and (now - kind.came_at) * kind.rate.per_s <= PROMPT:
                kind.left = True
            found += self._absent(now, seconds, event, kind, all_per_s)
        if missed and not self._any_missed():
            found.append(Finding("heard", Cure.NONE))
        return found

    def answered(self, now: float, event: str, *, others: bool) -> list[Finding]:
        """Whether other shards get the type that was asked about."""
        kind = self._types.get(event)
        if kind is None or kind.missed_at is None or not others:
            return []
        if now - kind.cured_at > RELAPSE_S:
            kind.cures = 0
        if not kind.cures:
            kind.cures, kind.cured_at = 1, now
            return [Finding("", Cure.RESUME, f"other shards get {event}")]
        if now - self.identified_at < IDENTIFY_EVERY_S:
            return []
        kind.cures, kind.cured_at, self.identified_at = 2, now, now
        text = f"other shards get {event}, and it RESUMEd for that before"
        return [Finding("", Cure.IDENTIFY, text)]

    def _any_missed(self) -> bool:
        return any(kind.missed_at is not None for kind in self._types.values())

    def _absent(
        self, now: float, seconds: float, event: str, kind: _Type, all_per_s: float
    ) -> list[Finding]:
        silence_s = now - kind.heard_at
        if kind.missed_at is None:
            if not _is_missing(kind, silence_s, all_per_s):
                kind.rate.add(0, seconds)
                return []
            if kind.left:
                self._types[event] = _Type(now)
                return []
            kind.missed_at, kind.asked_at = now, now
            text = f"no {event} for {silence_s:.0f} s, while other events came"
            ask = Finding("", Cure.ASK, "", event, silence_s / 2)
            return [Finding("partly-deaf", Cure.NONE, text), ask]
        if now - kind.missed_at >= FORGET_S:
            self._types[event] = _Type(now)
        elif now - kind.asked_at >= ASK_EVERY_S:
            kind.asked_at = now
            # Where it ended for all at once, the others' last one is as old as ours.
            return [Finding("", Cure.ASK, "", event, min(silence_s / 2, FORGET_S))]
        return []


def _came(kind: _Type, now: float, seconds: float, count: int) -> None:
    cured = kind.came_at < kind.cured_at
    promptly_s = PROMPT / max(kind.rate.per_s, 1e-9)
    if not cured:
        kind.longest_s = max(kind.longest_s, now - kind.heard_at)
    elif now - kind.heard_at > promptly_s:  # it came by itself, and was silent before by itself
        kind.longest_s = max(kind.longest_s, now - max(kind.came_at, kind.cured_at - DAY_S))
        kind.cures = 0
    kind.rate.add(count, seconds)
    kind.seen += count
    kind.came_at = kind.heard_at = now
    kind.rest, kind.left, kind.missed_at = 0, False, None


def _is_missing(kind: _Type, silence_s: float, all_per_s: float) -> bool:
    rate = kind.rate.per_s
    if kind.seen < SEEN_MIN or rate < RATE_MIN or kind.known_s < KNOWN_S:
        return False
    if silence_s < SILENCE_MIN_S or silence_s < LONGEST * kind.longest_s:
        return False
    rest = max(0.0, all_per_s - rate)
    flows = kind.rest > 0 and kind.rest >= REST_SHARE * rest * silence_s
    return rate * silence_s >= MISSED and flows
