"""Which questions were answered once, late, never or twice: exact counts, bounded memory.

Pure: every call takes ``now`` in monotonic seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

QUESTIONS_TRACKED_MAX: Final = 1 << 18
"""Questions remembered at once; past it the oldest is forgotten, and keeps its count."""


class Answer(enum.Enum):
    """What one answer is to the question that it names."""

    FIRST = "first"
    LATE = "late"
    AGAIN = "again"
    UNKNOWN = "unknown"


class _State(enum.Enum):
    OPEN = "open"
    ONCE = "once"
    LATE = "late"
    TWICE = "twice"


@dataclass(frozen=True)
class AnswerCounts:
    """``sent == once + late + never + twice + pending``, always."""

    sent: int
    once: int
    late: int
    never: int
    twice: int
    pending: int


@dataclass(slots=True)
class _Question:
    asked_at: float
    generation: int
    state: _State = _State.OPEN


class AnswerLedger:
    """Questions by key, each in exactly one of five classes.

    ``deadline_s``: an answer after it is late. ``keep_s``: how long a question is remembered,
    so that a second answer is still seen as one. ``late_is_refused``: a late answer did not
    count as an answer, so that a second late one is not "twice".

    >>> ledger = AnswerLedger(deadline_s=3.0, keep_s=900.0)
    >>> ledger.ask(7, now=0.0)
    >>> ledger.answer(7, now=1.0), ledger.answer(7, now=2.0)
    (<Answer.FIRST: 'first'>, <Answer.AGAIN: 'again'>)
    >>> ledger.counts(now=2.0).twice
    1
    """

    def __init__(
        self,
        *,
        deadline_s: float,
        keep_s: float,
        late_is_refused: bool = False,
        tracked_max: int = QUESTIONS_TRACKED_MAX,
    ) -> None:
        self.deadline_s = deadline_s
        self._keep_s = max(keep_s, deadline_s)
        self._late_is_refused = late_is_refused
        self._tracked_max = tracked_max
        self._questions: dict[int, _Question] = {}
        self._generation = 0
        self._sent = 0
        self._tally = dict.fromkeys(_State, 0)

    def __len__(self) -> int:
        return len(self._questions)

    def ask(self, key: int, now: float) -> None:
        """A question was put; ``key`` is new (a snowflake)."""
        self.forget_old(now)
        self._questions[key] = _Question(now, self._generation)
        self._sent += 1

    def answer(self, key: int, now: float) -> Answer:
        """Class of this answer; moves the question into the class it now belongs to."""
        question = self._questions.get(key)
        if question is None:
            return Answer.UNKNOWN
        if question.state is _State.OPEN:
            late = now - question.asked_at > self.deadline_s
            self._move(question, _State.LATE if late else _State.ONCE)
            return Answer.LATE if late else Answer.FIRST
        if question.state is _State.LATE and self._late_is_refused:
            return Answer.LATE
        self._move(question, _State.TWICE)
        return Answer.AGAIN

    def counts(self, now: float) -> AnswerCounts:
        """The classes as of ``now``; a late answer takes a question out of ``never`` again."""
        once, late, twice = (self._tally[s] for s in (_State.ONCE, _State.LATE, _State.TWICE))
        pending = self._pending(now)
        never = self._sent - once - late - twice - pending
        return AnswerCounts(self._sent, once, late, never, twice, pending)

    def unanswered(self, now: float, most: int) -> tuple[list[int], list[int]]:
        """Keys of what was never answered, and of what was answered late; ``most`` of each."""
        never, late = list[int](), list[int]()
        for key, question in self._questions.items():
            if question.generation != self._generation:
                continue
            if question.state is _State.LATE and len(late) < most:
                late.append(key)
            overdue = now - question.asked_at > self.deadline_s
            if question.state is _State.OPEN and overdue and len(never) < most:
                never.append(key)
        return never, late

    def reset(self) -> None:
        """Counts begin at zero; answers to what was asked before no longer change them."""
        self._generation += 1
        self._sent = 0
        self._tally = dict.fromkeys(_State, 0)

    def forget_old(self, now: float) -> None:
        """Drop what is older than ``keep_s`` or over the limit; counts stay as they are."""
        while self._questions:
            key, oldest = next(iter(self._questions.items()))
            young = now - oldest.asked_at <= self._keep_s
            if young and len(self._questions) < self._tracked_max:
                return
            del self._questions[key]

    def _move(self, question: _Question, state: _State) -> None:
        if question.generation == self._generation:
            if question.state is not _State.OPEN:
                self._tally[question.state] -= 1
            self._tally[state] += 1
        question.state = state

    def _pending(self, now: float) -> int:
        pending = 0
        for question in reversed(self._questions.values()):
            if now - question.asked_at > self.deadline_s:
                break
            if question.generation == self._generation and question.state is _State.OPEN:
                pending += 1
        return pending
