"""What Discord counts at the gateway's door: IDENTIFYs, session starts, sends.

Sources: Discord's gateway documentation, "Rate Limiting" (120 sends in 60 seconds),
"Session Start Limit Object" and "Sharding: Max Concurrency".
"""

from __future__ import annotations

from collections import deque
from enum import Enum


class Verdict(Enum):
    """What becomes of one IDENTIFY."""

    ADMITTED = "admitted"
    TOO_FAST = "too fast"
    BUDGET_SPENT = "budget spent"


class Gate:
    """One IDENTIFY per rate-limit key and window, and the daily budget of session starts.

    The key is ``shard % max_concurrency``. A refused IDENTIFY does not start a new window,
    but it does cost one of the budget: the strict reading of a page that says neither.
    """

    def __init__(
        self,
        *,
        window_s: float,
        max_concurrency: int,
        total: int,
        reset_s: float,
        now: float,
        remaining: int | None = None,
    ) -> None:
        self.window_s = window_s
        self.max_concurrency = max_concurrency
        self.total = total
        self._reset_s = reset_s
        self._remaining = total if remaining is None else remaining
        self._resets_at = now + reset_s
        self._admitted_at: dict[int, float] = {}

    def identify(self, shard: int, now: float) -> Verdict:
        """Count an IDENTIFY received now and judge it."""
        if self.remaining(now) == 0:
            return Verdict.BUDGET_SPENT
        self._remaining -= 1
        key = shard % self.max_concurrency
        last = self._admitted_at.get(key)
        if last is not None and now - last < self.window_s:
            return Verdict.TOO_FAST
        self._admitted_at[key] = now
        return Verdict.ADMITTED

    def remaining(self, now: float) -> int:
        """Session starts left until the reset."""
        if now >= self._resets_at:
            periods = int((now - self._resets_at) // self._reset_s) + 1
            self._resets_at += periods * self._reset_s
            self._remaining = self.total
        return self._remaining

    def set_remaining(self, remaining: int) -> None:
        """Put the budget where a test wants it."""
        self._remaining = max(0, min(remaining, self.total))

    def limit(self, now: float) -> dict[str, int]:
        """Discord's session start limit object (``reset_after`` in milliseconds)."""
        remaining = self.remaining(now)
        return {
            "total": self.total,
            "remaining": remaining,
            "reset_after": max(0, round((self._resets_at - now) * 1000)),
            "max_concurrency": self.max_concurrency,
        }


class SendLimit:
    """Counts one connection's sends over a sliding window."""

    def __init__(self, sends_max: int, window_s: float) -> None:
        self._sends_max = sends_max
        self._window_s = window_s
        self._sent_at: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Count a send received now; False when it is one too many."""
        sent_at = self._sent_at
        while sent_at and now - sent_at[0] >= self._window_s:
            sent_at.popleft()
        if len(sent_at) >= self._sends_max:
            return False
        sent_at.append(now)
        return True
