"""Cooldowns that hold on all shards alike: ``node.cooldowns``.

    outcome = await node.cooldowns.acquire(f"daily:{user_id}", 1, 86_400)
    if not outcome:
        print(f"in {outcome.retry_after_s:.0f} s")

A window begins with the first use and its uses come back all at once when it ends, as
disnake's own cooldowns do. Windows of more than 60 s are in the log and survive every crash;
shorter ones are in the broker's memory with a checkpoint, so a crash may forget them. While no
broker answers, each process counts those by itself; a longer one that it knows to be used up
stays refused, and any other raises.

In a transaction, which takes only those of more than 60 s, nothing is decided before it is
committed: ``acquire`` gives an Undecided, and a cooldown that refuses ends the transaction with
Throttled.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Generator
from typing import Any, Final, NamedTuple

from shard_node.errors import BrokerUnavailable, QueueFull, RequestTimeout, ShardNodeError
from shard_node.shared.backend import Tx
from shard_node.shared.sinks import Collected, Sink
from shard_node.state import arguments, cooldowns
from shard_node.state.buckets import Buckets
from shard_node.state.errors import BadValue, Throttled
from shard_node.state.keys import Table, key_of
from shard_node.state.quick import ALONE_HINT, is_short
from shard_node.state.rows import read

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


class Undecided:
    """A use that a transaction takes: known once that is committed, and then as of Allowed. It
    raises BadValue where it is looked at before, or where nothing was committed."""

    __slots__ = ("_place", "_sink")

    def __init__(self, sink: Collected, place: int) -> None:
        self._sink, self._place = sink, place

    def __await__(self) -> Generator[Any, None, Undecided]:
        yield from ()
        return self

    def __bool__(self) -> bool:
        self._done()
        return True

    @property
    def remaining(self) -> int:
        """Uses that are left in this window."""
        return int(self._done().results[self._place]["remaining"])

    @property
    def lsn(self) -> int:
        """The transaction's place in the log."""
        return self._done().id

    @property
    def retry_after_s(self) -> float:
        """0: it was allowed."""
        self._done()
        return 0.0

    def _done(self) -> Tx:
        if self._sink.done is None:
            text = "a cooldown in a transaction is not decided before that is committed"
            raise BadValue(text, hint=_UNDECIDED_HINT)
        return self._sink.done


_UNDECIDED_HINT: Final = "let the block end: it raises Throttled where the cooldown refuses"


class Cooldowns:
    """Cooldowns by key: a string of 1 to 200 bytes, the same on all shards."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._local = Buckets(LOCAL_KEYS_MAX)

    def acquire(
        self,
        key: str,
        rate: int,
        per_s: float,
        *,
        timeout_s: float = ACQUIRE_TIMEOUT_S,
        broker_down: str | None = None,
    ) -> Awaitable[Allowed | RetryAfter | Undecided]:
        """Take one of ``rate`` uses in ``per_s`` seconds: at once, on one place for the fleet.

        Where no broker answers within ``timeout_s``: RetryAfter if this process knows the key
        to be used up; else ``broker_down="count"`` counts here alone, ``"raise"`` raises
        BrokerUnavailable or RequestTimeout in any case. Without it those of up to 60 s are
        counted and longer ones raise. In a transaction: Undecided, and BadValue for one of up
        to 60 s. Raises BadName, BadValue.
        """
        op = operation(key, rate, per_s)
        check_down(broker_down)
        arguments.timeout(timeout_s)
        if isinstance(self._sink, Collected):
            if is_short(op):
                raise BadValue(f"{key}: a short cooldown is in no transaction", hint=ALONE_HINT)
            self._sink.do(op)
            return Undecided(self._sink, len(self._sink.ops) - 1)
        return self._acquire(op, timeout_s, broker_down)

    async def _acquire(
        self, op: cooldowns.AcquireCooldown, timeout_s: float, broker_down: str | None
    ) -> Allowed | RetryAfter:
        quick = is_short(op)
        counts = quick if broker_down is None else broker_down == "count"
        if not self._sink.backend.up and broker_down != "raise":
            known = self._refused(op)
            if known is not None:
                return known
            if counts:
                return self._here(op)
        try:
            done = await self._sink.do(op, timeout_s=timeout_s, quick=quick)
        except Throttled as error:
            return RetryAfter(error.details.get("retry_after_s", op.per_ms / 1000))
        except (BrokerUnavailable, RequestTimeout, QueueFull):
            known = None if broker_down == "raise" else self._refused(op)
            if known is None and not counts:
                raise
            return self._here(op) if known is None else known
        result = done.results[0] if done.results else {}
        return Allowed(int(result.get("remaining", 0)), done.id)

    def clear(self, key: str) -> Awaitable[Tx]:
        """Give a key all its uses back. Raises BadName, NotThere."""
        return self._sink.do(cooldowns.ClearCooldown(arguments.name_of(key, "key")))

    def _refused(self, op: cooldowns.AcquireCooldown) -> RetryAfter | None:
        """What the log's last word that is known here refuses; None where it does not."""
        if is_short(op):
            return None
        backend = self._sink.backend
        try:
            row = read(cooldowns.Cooldown, backend.get(key_of(Table.COOLDOWN, op.key)))
        except ShardNodeError:  # nothing is known here
            return None
        if row is None:
            return None
        now_ms = backend.clock.at_ms()
        step = cooldowns.acquire(row.start_ms, row.used, op.rate, op.per_ms, now_ms)
        return RetryAfter(step.retry_after_ms / 1000) if step.retry_after_ms else None

    def _here(self, op: cooldowns.AcquireCooldown) -> Allowed | RetryAfter:
        now_ms = self._sink.backend.clock.at_ms()
        after_ms, left = self._local.acquire(op.key, op.rate, op.per_ms, now_ms)
        return RetryAfter(after_ms / 1000) if after_ms else Allowed(left)


def operation(key: str, rate: int, per_s: float) -> cooldowns.AcquireCooldown:
    """The operation. Raises BadName, BadValue."""
    good = isinstance(per_s, int | float) and not isinstance(per_s, bool)
    if not good or not -math.inf < per_s < math.inf:
        text = f"per_s={arguments.shown(per_s)} is no time in seconds"
        raise BadValue(text, hint="a finite number of seconds, such as 86_400")
    per_ms = round(max(0, min(per_s, cooldowns.PER_MAX_MS)) * 1000)
    cooldowns.check(rate, per_ms)
    return cooldowns.AcquireCooldown(arguments.name_of(key, "key"), rate, per_ms)


def check_down(broker_down: str | None) -> None:
    """Raises BadValue for what ``broker_down`` cannot be."""
    if broker_down is not None and broker_down not in DOWN:
        hint = f"it is one of {', '.join(DOWN)}"
        raise BadValue(f"broker_down={arguments.shown(broker_down)}", hint=hint)
