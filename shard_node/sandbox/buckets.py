"""Discord's rate limits: route buckets, the global limit, the invalid requests rule.

Pure: every call takes ``now`` in monotonic seconds. Windows are fixed, as Discord's are: one
opens with the first request and everything is counted until it ends. Source: Discord
documentation, "Rate Limits"; Discord does not publish the buckets' sizes and windows, so
those of ``RULES`` are ours, in the order of magnitude that bots see.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GLOBAL_PER_S: Final = 50
GLOBAL_WINDOW_S: Final = 1.0
INVALID_MAX: Final = 10_000
INVALID_WINDOW_S: Final = 600.0
BAN_S: Final = 60.0
"""How long all is refused after too many invalid requests. Ours; Discord says "temporarily"."""
BUCKETS_SWEPT_AT: Final = 4096
"""With so many buckets open, ended windows are dropped (an ended window holds nothing)."""
_INVALID_SLOTS: Final = 600
_HASH_CHARS: Final = 32


@dataclass(frozen=True)
class Rule:
    """``limit`` requests in ``window_s`` for each top-level id. Equal names share a bucket."""

    name: str
    limit: int
    window_s: float

    @property
    def hash(self) -> str:
        """The value of X-RateLimit-Bucket: opaque, the same for all that share the rule."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:_HASH_CHARS]


RULES: Final[Mapping[str, Rule]] = {
    "GET /gateway/bot": Rule("gateway-bot", 5, 5.0),
    "PUT /applications/{application}/commands": Rule("commands-put", 5, 20.0),
    "PUT /applications/{application}/guilds/{guild}/commands": Rule("guild-put", 5, 20.0),
    "POST /applications/{application}/commands": Rule("commands-post", 5, 20.0),
    "POST /users/@me/channels": Rule("dm-open", 10, 10.0),
    "PATCH /users/@me": Rule("self-edit", 2, 60.0),
    "POST /channels/{channel}/messages": Rule("message-post", 5, 5.0),
    "PATCH /channels/{channel}/messages/{message}": Rule("message-patch", 5, 5.0),
    "DELETE /channels/{channel}/messages/{message}": Rule("message-delete", 5, 1.0),
    "GET /channels/{channel}/messages": Rule("message-list", 5, 1.0),
    "POST /channels/{channel}/typing": Rule("typing", 5, 5.0),
    "PUT /channels/{channel}/messages/{message}/reactions/{emoji}/@me": Rule("reaction", 1, 0.25),
    "DELETE /channels/{channel}/messages/{message}/reactions/{emoji}/@me": Rule(
        "reaction", 1, 0.25
    ),
    "PATCH /channels/{channel}": Rule("channel-patch", 2, 600.0),
    "POST /guilds/{guild}/channels": Rule("channel-post", 10, 10.0),
    "PATCH /guilds/{guild}/members/{user}": Rule("member-patch", 10, 10.0),
    "DELETE /guilds/{guild}/members/{user}": Rule("member-kick", 5, 5.0),
    "PUT /guilds/{guild}/bans/{user}": Rule("ban", 5, 5.0),
    "DELETE /guilds/{guild}/bans/{user}": Rule("ban", 5, 5.0),
    "GET /guilds/{guild}/members": Rule("member-list", 10, 10.0),
    "GET /guilds/{guild}/members/search": Rule("member-search", 10, 10.0),
    "POST /guilds/{guild}/roles": Rule("role-post", 10, 10.0),
    "PUT /guilds/{guild}/members/{user}/roles/{role}": Rule("member-role", 10, 10.0),
    "DELETE /guilds/{guild}/members/{user}/roles/{role}": Rule("member-role", 10, 10.0),
    "POST /webhooks/{application}/{token}": Rule("webhook", 5, 2.0),
    "PATCH /webhooks/{application}/{token}/messages/@original": Rule("webhook", 5, 2.0),
    "DELETE /webhooks/{application}/{token}/messages/@original": Rule("webhook", 5, 2.0),
    "PATCH /webhooks/{application}/{token}/messages/{message}": Rule("webhook", 5, 2.0),
    "DELETE /webhooks/{application}/{token}/messages/{message}": Rule("webhook", 5, 2.0),
}
"""The stated windows, by method and route."""

DEFAULT_LIMIT: Final = 10
DEFAULT_WINDOW_S: Final = 1.0
"""Of every route that ``RULES`` does not name: a bucket of its own."""


class Scope(enum.Enum):
    """X-RateLimit-Scope: whom a limit is for."""

    USER = "user"
    GLOBAL = "global"
    SHARED = "shared"


@dataclass(frozen=True)
class Standing:
    """Where a bucket stands after a request; all that the X-RateLimit headers say."""

    rule: Rule
    remaining: int
    reset_after_s: float

    def headers(self, wall_s: float) -> dict[str, str]:
        """The headers, with Reset in Unix seconds counted from ``wall_s``."""
        return {
            "X-RateLimit-Bucket": self.rule.hash,
            "X-RateLimit-Limit": str(self.rule.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": f"{wall_s + self.reset_after_s:.3f}",
            "X-RateLimit-Reset-After": f"{self.reset_after_s:.3f}",
        }


@dataclass(frozen=True)
class Refusal:
    """A request over a limit. ``standing`` is None where no bucket took part."""

    scope: Scope
    retry_after_s: float
    standing: Standing | None = None

    def headers(self, wall_s: float) -> dict[str, str]:
        """All headers of the 429. A 429 without ``Via`` is one of Cloudflare's ban."""
        headers = self.standing.headers(wall_s) if self.standing else {}
        headers |= {"Via": "1.1 sandbox", "X-RateLimit-Scope": self.scope.value}
        headers["Retry-After"] = str(math.ceil(self.retry_after_s))
        if self.scope is Scope.GLOBAL:
            headers["X-RateLimit-Global"] = "true"
        return headers

    def body(self) -> dict[str, object]:
        """Discord's rate limit response structure; ``retry_after`` in seconds."""
        return {
            "message": "You are being rate limited.",
            "retry_after": math.ceil(self.retry_after_s * 1000) / 1000,
            "global": self.scope is Scope.GLOBAL,
        }


@dataclass(slots=True)
class _Window:
    ends_at: float
    used: int = 0


class RouteBuckets:
    """One fixed window for each (bucket's hash, top-level id)."""

    def __init__(self, rules: Mapping[str, Rule] = RULES) -> None:
        self._rules = dict(rules)
        self._windows: dict[tuple[str, str], _Window] = {}
        self._swept_at = BUCKETS_SWEPT_AT

    def __len__(self) -> int:
        return len(self._windows)

    def rule(self, route: str) -> Rule:
        """The rule of ``"METHOD /template"``."""
        found = self._rules.get(route)
        if found is None:
            found = self._rules[route] = Rule(route, DEFAULT_LIMIT, DEFAULT_WINDOW_S)
        return found

    def take(self, route: str, major: str, now: float) -> Standing | Refusal:
        """Count one request on ``route`` under top-level id ``major``, or refuse it."""
        rule = self.rule(route)
        key = (rule.name, major)
        window = self._windows.get(key)
        if window is None or now >= window.ends_at:
            window = self._open(key, rule, now)
        if window.used >= rule.limit:
            left_s = window.ends_at - now
            return Refusal(Scope.USER, left_s, Standing(rule, 0, left_s))
        window.used += 1
        return Standing(rule, rule.limit - window.used, window.ends_at - now)

    def _open(self, key: tuple[str, str], rule: Rule, now: float) -> _Window:
        if len(self._windows) >= self._swept_at:
            self._windows = {k: w for k, w in self._windows.items() if now < w.ends_at}
            self._swept_at = max(BUCKETS_SWEPT_AT, 2 * len(self._windows))
        window = self._windows[key] = _Window(now + rule.window_s)
        return window


class GlobalLimit:
    """So many requests a second over all routes that are not exempt."""

    def __init__(self, per_s: int = GLOBAL_PER_S) -> None:
        self._per_s = per_s
        self._window = _Window(-math.inf)

    def take(self, now: float) -> Refusal | None:
        """Count one request, or refuse it."""
        if now >= self._window.ends_at:
            self._window = _Window(now + GLOBAL_WINDOW_S)
        if self._window.used >= self._per_s:
            return Refusal(Scope.GLOBAL, self._window.ends_at - now)
        self._window.used += 1
        return None


class InvalidRequests:
    """10,000 answers of 401, 403 or 429 in 10 minutes get the address banned for a while.

    The window slides in slots of a six-hundredth, so memory is bounded; a ban clears it.
    """

    def __init__(
        self,
        *,
        max_count: int = INVALID_MAX,
        window_s: float = INVALID_WINDOW_S,
        ban_s: float = BAN_S,
    ) -> None:
        self._max = max_count
        self._window_s = window_s
        self._ban_s = ban_s
        self._slots: deque[tuple[int, int]] = deque()
        self._count = 0
        self._banned_until = -math.inf

    @staticmethod
    def counts(status: int, scope: Scope | None) -> bool:
        """Whether such an answer is an invalid request: a ``shared`` 429 is not."""
        return status in (401, 403) or (status == 429 and scope is not Scope.SHARED)

    def banned_for_s(self, now: float) -> float:
        """Seconds until the ban ends; 0 when there is none."""
        return max(0.0, self._banned_until - now)

    def count(self, now: float) -> int:
        """Invalid requests in the window that ends ``now``."""
        oldest = self._slot(now) - _INVALID_SLOTS
        while self._slots and self._slots[0][0] <= oldest:
            self._count -= self._slots.popleft()[1]
        return self._count

    def add(self, now: float) -> bool:
        """Count one; True when it was the one that brought the ban."""
        slot = self._slot(now)
        last = self._slots.pop() if self._slots and self._slots[-1][0] == slot else (slot, 0)
        self._slots.append((slot, last[1] + 1))
        self._count += 1
        if self.count(now) < self._max:
            return False
        self._banned_until = now + self._ban_s
        self._slots.clear()
        self._count = 0
        return True

    def _slot(self, now: float) -> int:
        return math.floor(now * _INVALID_SLOTS / self._window_s)
