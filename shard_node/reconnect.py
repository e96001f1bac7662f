"""How a shard comes back: RESUME, then RESUME at the main URL, then IDENTIFY. Pure.

Discord's documentation, Gateway, "Resuming": a RESUME goes to the session's own URL and is
free; a dead one happens in the field, so after a few failures the main URL is tried, and
only then is a session start spent.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

RESUME_TRIES_MAX: Final = 3
RESUME_MAIN_TRIES_MAX: Final = 3
BACKOFF_BASE_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0
BACKOFF_DOUBLINGS_MAX: Final = 7
STEADY_S: Final = 5.0
"""A connection that lasted so long was a good one."""

IDENTIFY_AFTER: Final = frozenset({4007, 4009})
"""Close codes after which the session is gone: invalid sequence, session timed out."""

FATAL: Final[dict[int, tuple[str, str]]] = {
    4004: (
        "Discord refuses the token",
        "put the current token (developer portal, Bot, Reset Token) into DISCORD_TOKEN",
    ),
    4010: ("Discord refuses this shard of this shard count", "start again with --shards auto"),
    4011: ("Discord asks for more shards", "start again with --shards auto"),
    4012: ("Discord refuses the gateway version", "install a disnake that speaks API v10"),
    4013: ("the bot asks for intents that do not exist", "mend the Intents of the bot's file"),
    4014: (
        "the bot asks for privileged intents that are not enabled",
        "enable them in the developer portal (Bot, Privileged Gateway Intents), "
        "or take them out of the bot's Intents",
    ),
}
"""Close codes that no reconnecting mends: what each says, and what to do."""


class Way(enum.Enum):
    """How the next connection begins."""

    RESUME = "resume"
    RESUME_MAIN = "resume at the main URL"
    IDENTIFY = "identify"


class Attempt(NamedTuple):
    """The next try of a shard, after waiting ``delay_s``."""

    way: Way
    delay_s: float


class ReconnectPlan:
    """The tries of one shard since it was last ready or resumed."""

    def __init__(self) -> None:
        self._failures = 0
        self._hurried = 0
        self._settled_at: float | None = None

    def next(self, *, has_session: bool, spread: float = 0.5) -> Attempt:
        """What to try now. ``spread`` (0..1) sets the jitter of the wait."""
        delay_s = self._delay_s() * (0.5 + spread)
        if not has_session:
            return Attempt(Way.IDENTIFY, delay_s)
        if self._failures < RESUME_TRIES_MAX:
            return Attempt(Way.RESUME, delay_s)
        if self._failures < RESUME_TRIES_MAX + RESUME_MAIN_TRIES_MAX:
            return Attempt(Way.RESUME_MAIN, delay_s)
        return Attempt(Way.IDENTIFY, delay_s)

    def failed(self) -> None:
        """A connection ended, or never came to be, before it was ready or resumed."""
        self._failures += 1

    def succeeded(self, now: float) -> None:
        """READY or RESUMED came."""
        self._failures = 0
        self._settled_at = now

    def connection_ended(self, now: float) -> None:
        """A connection was lost. One that was never ready or resumed counts as failed; one
        that did not last makes the next wait longer, so that nothing spins."""
        settled_at, self._settled_at = self._settled_at, None
        if settled_at is None:
            self.failed()
        elif now - settled_at < STEADY_S:
            self._hurried += 1
        else:
            self._hurried = 0

    def _delay_s(self) -> float:
        tries = max(self._failures, self._hurried)
        if not tries:
            return 0.0
        doublings = min(tries - 1, BACKOFF_DOUBLINGS_MAX)
        return min(BACKOFF_BASE_S * float(2**doublings), BACKOFF_MAX_S)
