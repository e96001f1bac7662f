"""Whether a shard still hears: judged by its own rate, and asked before it is cured. Pure.

A deaf connection acknowledges heartbeats, but its events stopped. A silence that is too long for
the shard's own rate is no proof, users sleep; so the gateway is asked, twice, for something that
it answers at any hour (the bot's own member). No answer: the shard is deaf, and RESUMEs; asked
again, and still none: it IDENTIFYs, once an hour at most.

Deafness for one type of event has no such question: see ``shard_node.missing``.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Final

import msgspec

from shard_node.means import Day, Rate
from shard_node.missing import MEAN_S as ALL_MEAN_S
from shard_node.missing import Cure, Finding, KeptType, Missing

MEAN_S: Final = 600.0
"""Over which the rate is a mean; what an earlier process left counts if it is no older."""
SILENCE_MIN_S: Final = 8.0
SILENCE_MAX_S: Final = 600.0
"""A shard whose rate says nothing, or hardly anything, is asked that often."""
EVENTS_MISSED: Final = 25.0
"""So many that should have come are asked about: by chance alone e**-25 of the silences."""
PATIENT_S: Final = 600.0
"""After a silence that meant nothing twice as many must be missing, for so long."""
PATIENCE_MAX: Final = 3
"""Doubled so often at most, while such silences go on."""
PROBES: Final = 2
AGAIN_S: Final = 3.0
"""A question without an answer may have been lost, and is asked once more."""
ANSWER_S: Final = 4.0
"""For the last one; a deaf shard at 10 events/s is then cured in 30 s, IDENTIFY included."""
STALL_S: Final = 5.0
"""Nobody looked for longer: what came meanwhile may not have been read yet."""
RELAPSE_S: Final = 600.0
"""Deaf again so soon after a RESUME: the session itself is."""
IDENTIFY_EVERY_S: Final = 3600.0
SCHEMA: Final = 1
PROBE: Final = Finding("", Cure.PROBE)


class Kept(msgspec.Struct, array_like=True):
    """What the next process of the shard should know; ``at`` and ``identified_at`` (0: never) are
    seconds since the epoch, those of missing types last."""

    schema: int
    at: float
    per_s: float
    all_per_s: float
    hours: list[float | None]
    identified_at: float
    types_identified_at: float
    types: dict[str, KeptType]


_decoder: Final = msgspec.msgpack.Decoder(Kept)


class _State(enum.Enum):
    LISTENING = enum.auto()
    PROBING = enum.auto()
    """Asked after a silence."""
    CURING = enum.auto()
    """Told to connect again; the connection is not there yet."""
    AWAY = enum.auto()
    """Its connection ended by itself."""
    CHECKING = enum.auto()
    """Asked after a RESUME."""
    DEAF = enum.auto()
    """Nothing is left to try for now."""


class Pulse:
    """One shard's hearing. ``now`` is monotonic, ``wall`` since the epoch, ``hour`` of the day.
    ``kept`` is what ``keep`` gave an earlier process."""

    def __init__(self, now: float, wall: float = 0.0, kept: bytes = b"") -> None:
        old = _read(kept)
        fresh = old is not None and 0 <= wall - old.at <= MEAN_S
        self._looked_at = self._heard_at = now
        self._state, self._until, self._probes = _State.LISTENING, math.inf, 0
        self._rate = Rate(MEAN_S, old.per_s if old is not None and fresh else None)
        self._all = Rate(ALL_MEAN_S, old.all_per_s if old is not None and fresh else None)
        self._day = Day(old.hours if old is not None else None)
        self._patience = 0
        self._patient_until = self._resumed_at = self._identified_at = -math.inf
        types, types_at = None, 0.0
        if old is not None:
            self._identified_at = _then(old.identified_at, now, wall)
            types_at = _then(old.types_identified_at, now, wall)
            types = old.types if fresh else None
        self._missing = Missing(now, types, types_at)

    def keep(self, now: float, wall: float) -> bytes:
        """For the next process of the shard."""
        return msgspec.msgpack.encode(
            Kept(
                SCHEMA,
                wall,
                self._rate.per_s,
                self._all.per_s,
                self._day.hours,
                _at(self._identified_at, now, wall),
                _at(self._missing.identified_at, now, wall),
                self._missing.kept(),
            )
        )

    @property
    def events_per_s(self) -> float:
        """Of the last minutes."""
        return self._rate.per_s

    def ages(self, now: float, max_s: float) -> dict[str, float]:
        """How long ago each type of event came last, where that is at most ``max_s``."""
        return self._missing.ages(now, max_s)

    def look(self, now: float, hour: int, heard: Mapping[str, int]) -> list[Finding]:
        """What came since the last look, and what that means."""
        count = sum(heard.values())
        seconds, self._looked_at = now - self._looked_at, now
        if self._state in (_State.LISTENING, _State.PROBING):
            # What a RESUME brings at once is no rate, and a deaf shard's is none of its own.
            self._rate.add(count, seconds)
            self._all.add(count, seconds)
            self._day.add(hour, count, seconds)
        if seconds > STALL_S:
            self._heard_at += seconds
            self._until += seconds
            self._missing.forgive(seconds)
        found = self._judge(now, hour, count)
        if self._state in (_State.LISTENING, _State.PROBING):
            found += self._act(self._missing.look(now, seconds, heard, self._all.per_s))
        return found

    def answered(self, now: float, event: str, *, others: bool) -> list[Finding]:
        """Whether other shards get the type of event that ``Cure.ASK`` asked about."""
        if self._state not in (_State.LISTENING, _State.PROBING):
            return []
        return self._act(self._missing.answered(now, event, others=others))

    def connected(self, now: float, *, resumed: bool) -> list[Finding]:
        """RESUMED or READY came over another connection."""
        curing = self._state is _State.CURING
        self._state, self._until = _State.LISTENING, math.inf
        self._looked_at = self._heard_at = now
        self._missing.reconnected(now)
        if not (curing and resumed):
            return []
        return self._ask(now, _State.CHECKING)

    def connecting(self) -> None:
        """The connection ended: no silence counts before the next is there."""
        if self._state is not _State.CURING:
            self._state, self._until = _State.AWAY, math.inf

    def silence_max_s(self, now: float, hour: int) -> float:
        """How long it may be silent before it is asked."""
        usual = self._day.hours[hour]
        rate = self._rate.per_s
        expected = rate if usual is None else min(rate, max(usual, rate / 4))
        missed = EVENTS_MISSED * (2**self._patience if now < self._patient_until else 1)
        if expected * SILENCE_MAX_S <= missed:
            return SILENCE_MAX_S
        return max(SILENCE_MIN_S, missed / expected)

    def _act(self, found: list[Finding]) -> list[Finding]:
        """The connection ends where a type is cured."""
        if any(finding.cure in (Cure.RESUME, Cure.IDENTIFY) for finding in found):
            self._state, self._until = _State.CURING, math.inf
        return found

    def _ask(self, now: float, state: _State) -> list[Finding]:
        again = self._state is state
        self._probes = self._probes + 1 if again else 1
        self._state = state
        self._until = now + (ANSWER_S if self._probes >= PROBES else AGAIN_S)
        return [PROBE]

    def _judge(self, now: float, hour: int, count: int) -> list[Finding]:
        if count:
            return self._heard(now)
        silence_s = now - self._heard_at
        if self._state is _State.LISTENING:
            over = silence_s >= self.silence_max_s(now, hour)
            return self._ask(now, _State.PROBING) if over else []
        if now < self._until:
            return []
        if self._state is _State.DEAF:
            return [self._cure(now, f"no event for {silence_s:.0f} s")]
        if self._probes < PROBES:
            return self._ask(now, self._state)
        if self._state is _State.PROBING:
            return [self._cure(now, f"no event for {silence_s:.0f} s, nor an answer")]
        return [self._cure(now, "no event after its RESUME, nor an answer")]

    def _heard(self, now: float) -> list[Finding]:
        self._heard_at = now
        state, self._state, self._until = self._state, _State.LISTENING, math.inf
        match state:
            case _State.PROBING:
                patience = self._patience if now < self._patient_until else 0
                self._patience = min(patience + 1, PATIENCE_MAX)
                self._patient_until = now + PATIENT_S
            case _State.CURING | _State.AWAY:
                self._state = state  # the last words of the old connection
            case _State.DEAF:
                return [Finding("heard", Cure.NONE)]
        return []

    def _cure(self, now: float, detail: str) -> Finding:
        relapsed = self._state in (_State.CHECKING, _State.DEAF)
        if not relapsed and now - self._resumed_at >= RELAPSE_S:
            self._resumed_at, self._state, self._until = now, _State.CURING, math.inf
            return Finding("deaf", Cure.RESUME, detail)
        if now - self._identified_at >= IDENTIFY_EVERY_S:
            self._identified_at, self._state, self._until = now, _State.CURING, math.inf
            return Finding("deaf", Cure.IDENTIFY, detail)
        self._state, self._until = _State.DEAF, self._identified_at + IDENTIFY_EVERY_S
        return Finding("deaf", Cure.NONE, f"{detail}; it IDENTIFYd for that within the hour")


def _read(kept: bytes) -> Kept | None:
    """Rates are a help, not a need: what cannot be read is learned anew."""
    try:
        old = _decoder.decode(kept) if kept else None
    except msgspec.MsgspecError:
        return None
    return old if old is not None and old.schema == SCHEMA else None


def _at(then: float, now: float, wall: float) -> float:
    return 0.0 if then == -math.inf else wall - (now - then)


def _then(at: float, now: float, wall: float) -> float:
    return now - max(0.0, wall - at) if at else -math.inf
