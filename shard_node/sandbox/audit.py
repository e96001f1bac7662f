"""The instrument that judges a bot: every question and event in exactly one class.

Pure: whatever depends on time takes ``now``, monotonic seconds. Memory is bounded, counts are
exact (the modules `answers` and `ledger` say how).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from shard_node.sandbox.answers import AnswerCounts, AnswerLedger
from shard_node.sandbox.handovers import Handovers, Sources
from shard_node.sandbox.interactions import (
    ACKNOWLEDGE_WITHIN_S,
    TOKEN_VALID_S,
    InteractionBook,
)
from shard_node.sandbox.ledger import EventLedger, parse_nonce

MESSAGE_ANSWER_WITHIN_S: Final = 5.0
"""Ours: Discord sets no deadline for an answer to a message. One window of its bucket."""
MESSAGE_KEEP_S: Final = 900.0
EVENT_GRACE_S: Final = 5.0
"""An event without a handler start is pending for so long, and then never."""
JOINS_TOLD_MAX: Final = 1024
"""Joins among which one that is told again is recognised: more than one batch of a witness."""
NAMED_MAX: Final = 1000
"""So many of what went wrong are named."""
MEMBERSHIP: Final = {"guild_join": "guild_joins_seen", "guild_remove": "guild_removes_seen"}
"""What a bot is told of its guilds, with its counter."""

COUNTERS: Final = (
    "identifies",
    "identifies_rejected",
    "resumes",
    "resumes_failed",
    "invalid_requests",
    "rest_requests",
    "rest_429",
    "rest_global_429",
    "rest_banned",
    "command_syncs",
    "guild_joins_seen",
    "guild_removes_seen",
    "events_unwanted",
    "messages_unasked",
    "witness_reports",
    "witness_unknown",
    "witness_dropped",
    "witness_retold",
)
"""Plain counters, always present in the report."""


class Audit:
    """All counters of one sandbox. ``counters[name] += 1`` is the interface for plain ones."""

    def __init__(
        self,
        *,
        acknowledge_within_s: float = ACKNOWLEDGE_WITHIN_S,
        token_valid_s: float = TOKEN_VALID_S,
        message_answer_within_s: float = MESSAGE_ANSWER_WITHIN_S,
        event_grace_s: float = EVENT_GRACE_S,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.interactions = InteractionBook(
            acknowledge_within_s=acknowledge_within_s, token_valid_s=token_valid_s
        )
        self.messages = AnswerLedger(deadline_s=message_answer_within_s, keep_s=MESSAGE_KEEP_S)
        self.events = EventLedger(grace_s=event_grace_s)
        self.handovers = Handovers()
        self.sources = Sources()
        self.shard_of: Callable[[int], int] = lambda _guild_id: 0
        self._joins_told: deque[tuple[str, str, float]] = deque(maxlen=JOINS_TOLD_MAX)

    def new_nonce(self, guild_id: int | None) -> str:
        """Nonce for the next event of a guild; None (direct messages) is guild 0."""
        return self.events.new_nonce(guild_id or 0)

    def event_sent(self, nonce: str, now: float) -> None:
        """The event carrying ``nonce`` was dispatched."""
        self.events.sent(nonce, now)

    def event_started(self, nonce: str, at: float, node: str = "") -> None:
        """A witness of ``node`` saw a handler start at monotonic ``at`` seconds."""
        tracked = self.events.started(nonce, at, node)
        self._witnessed(tracked, nonce)
        parsed = parse_nonce(nonce) if tracked and node else None
        if parsed is not None:
            self.handovers.started(self.shard_of(parsed[0]), node, at)

    def event_ended(self, nonce: str) -> None:
        """A witness saw a handler end."""
        self._witnessed(self.events.ended(nonce), nonce)

    def membership_seen(self, kind: str, told: tuple[str, float] | None = None) -> None:
        """A witness saw the bot being told that it joined or left a guild.

        ``told``: by which node at which moment; the same again is the same news.
        """
        self.counters["witness_reports"] += 1
        if told is not None and (kind, *told) in self._joins_told:
            return
        if told is not None:
            self._joins_told.append((kind, *told))
        self.counters[MEMBERSHIP[kind]] += 1

    def report(self, now: float) -> dict[str, int]:
        """Flat counts as of ``now``; see the classes for what adds up to what."""
        report = {"schema": 1}
        report |= _interaction_keys(self.interactions.counts(now))
        report["interactions_deferred_open"] = self.interactions.deferred_open()
        report |= _message_keys(self.messages.counts(now))
        report |= self._event_keys(now)
        report |= self._handover_keys()
        report |= {name: self.counters[name] for name in COUNTERS}
        report |= dict(sorted(self.counters.items()))
        return report

    def named(self, now: float) -> dict[str, Any]:
        """What went wrong by name, NAMED_MAX of each; and each handover of a shard."""
        interactions = self.interactions.unanswered(now, NAMED_MAX)
        return {
            "events_never": self.events.never(now, NAMED_MAX),
            "interactions_never": [str(one) for one in interactions[0]],
            "interactions_late": [str(one) for one in interactions[1]],
            "runs": {
                str(shard): [[run.who, run.first, run.last] for run in runs]
                for shard, runs in sorted(self.handovers.runs().items())
            },
        }

    def reset(self) -> None:
        """All counts begin at zero; what was asked or sent before no longer counts."""
        self.counters.clear()
        self.interactions.reset()
        self.messages.reset()
        self.events.reset()
        self.handovers.reset()

    def _witnessed(self, tracked: bool, nonce: str) -> None:
        self.counters["witness_reports"] += 1
        if not tracked and not self.events.known(nonce):
            self.counters["witness_unknown"] += 1

    def _handover_keys(self) -> dict[str, int]:
        counts = self.handovers.counts()
        return {
            "handovers": counts.count,
            "handover_median_ms": round(counts.median_ms),
            "handover_max_ms": round(counts.max_ms),
        }

    def _event_keys(self, now: float) -> dict[str, int]:
        counts = self.events.counts(now)
        return {
            "events_sent": counts.sent,
            "events_handled_once": counts.once,
            "events_handled_never": counts.never,
            "events_handled_twice": counts.twice,
            "events_out_of_order": counts.out_of_order,
            "events_handled_out_of_order": counts.out_of_order,
            "events_pending": counts.pending,
            "events_unfinished": counts.unfinished,
        }


def _interaction_keys(counts: AnswerCounts) -> dict[str, int]:
    return {
        "interactions_sent": counts.sent,
        "answered_once": counts.once,
        "answered_late": counts.late,
        "answered_never": counts.never,
        "answered_twice": counts.twice,
        "interactions_pending": counts.pending,
    }


def _message_keys(counts: AnswerCounts) -> dict[str, int]:
    return {
        "messages_sent": counts.sent,
        "messages_answered_once": counts.once,
        "messages_answered_late": counts.late,
        "messages_answered_never": counts.never,
        "messages_answered_twice": counts.twice,
        "messages_pending": counts.pending,
    }
