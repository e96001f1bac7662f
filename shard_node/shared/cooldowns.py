"""Cooldowns that hold on all shards alike: ``node.cooldowns``.

    outcome = await node.cooldowns.acquire(f"daily:{user_id}", 1, 86_400)
    if not outcome:
        print(f"in {outcome.retry_after_s:.0f} s")

A window begins with the first use and its uses come back all at once when it ends, as
disnake's own cooldowns do. Windows of more than 60 s are in the log and survive every crash;
shorter ones are in the broker's memory with a checkpoint, so a crash may forget them. While no
broker answers, each process counts by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, NamedTuple

from shard_node.errors import BrokerUnavailable, QueueFull, RequestTimeout
from shard_node.shared.backend import Tx
from shard_node.shared.sinks import Sink
from shard_node.state import cooldowns
from shard_node.state.buckets import Buckets
from shard_node.state.errors import BadValue, Throttled
from shard_node.state.keys import Table, key_of

ACQUIRE_TIMEOUT_S: Final = 2.0
"""How long a check waits for the broker before this process decides by itself."""
LOCAL_KEYS_MAX: Final = 20_000
DOWN: Final = ("count", "raise")


class Allowed(NamedTuple):
    """It may be done. ``remaining`` uses are left in this window; ``lsn`` is its place in the
    log, 0 for a short cooldown. Always true."""

    remaining: int
    lsn: int = 0
    retry_after_s: float = 0.0

    def __bool__(self) -> bool:
        return True


class RetryAfter(float):
    """Not yet: so many seconds are left. Always false."""

    __slots__ = ()

    @property
    def retry_after_s(self) -> float:
        """The seconds."""
        return float(self)

    def __bool__(self) -> bool:
        return False


class Cooldowns:
    """Cooldowns by key: a string of 1 to 200 bytes, the same on all shards."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._local = Buckets(LOCAL_KEYS_MAX)

    async def acquire(
        self,
        key: str,
        rate: int,
        per_s: float,
        *,
        timeout_s: float = ACQUIRE_TIMEOUT_S,
        broker_down: str = "count",
    ) -> Allowed | RetryAfter:
        """Take one of ``rate`` uses in ``per_s`` seconds: at once, on one place for the fleet.

        ``broker_down``: where none answers within ``timeout_s``, ``"count"`` here alone, or
        ``"raise"`` BrokerUnavailable or RequestTimeout. Raises BadName, BadValue.
        """
        if broker_down not in DOWN:
            raise BadValue(f"broker_down={broker_down!r}; it is one of {', '.join(DOWN)}")
        op = _operation(key, rate, per_s)
        backend = self._sink.backend
        quick = op.per_ms <= cooldowns.LOGGED_OVER_MS
        if not backend.up and broker_down == "count":
            return self._here(op)
        try:
            done = await self._sink.do(op, timeout_s=timeout_s, quick=quick)
        except Throttled as error:
            return RetryAfter(error.details.get("retry_after_s", per_s))
        except (BrokerUnavailable, RequestTimeout, QueueFull):
            if broker_down != "count":
                raise
            return self._here(op)
        result = done.results[0] if done.results else {}
        return Allowed(int(result.get("remaining", 0)), done.id)

    def clear(self, key: str) -> Awaitable[Tx]:
        """Give a key all its uses back. Raises NotThere."""
        return self._sink.do(cooldowns.ClearCooldown(key))

    def _here(self, op: cooldowns.AcquireCooldown) -> Allowed | RetryAfter:
        now_ms = self._sink.backend.clock.at_ms()
        after_ms, left = self._local.acquire(op.key, op.rate, op.per_ms, now_ms)
        return RetryAfter(after_ms / 1000) if after_ms else Allowed(left)


def _operation(key: str, rate: int, per_s: float) -> cooldowns.AcquireCooldown:
    if isinstance(per_s, bool) or not isinstance(per_s, int | float) or per_s != per_s:
        raise BadValue(f"per_s={per_s!r} is no time in seconds")
    per_ms = round(min(per_s, cooldowns.PER_MAX_MS) * 1000)
    cooldowns.check(rate, per_ms)
    key_of(Table.COOLDOWN, key)
    return cooldowns.AcquireCooldown(key, rate, per_ms)
