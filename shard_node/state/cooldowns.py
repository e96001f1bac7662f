"""Cooldowns: ``rate`` uses in each window of ``per_ms``, counted as disnake counts them.

A window begins with the first use after the last one ended, and all its uses come back at
once when it ends (disnake.ext.commands.cooldowns.Cooldown). Refused uses cost nothing and
leave no record. A rollback gives no use back: that time has passed for others as well.
Cooldowns of up to LOGGED_OVER_MS belong into the broker's memory (``buckets``).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import msgspec

from shard_node.state.context import Context
from shard_node.state.errors import BadValue, NotThere, Throttled
from shard_node.state.keys import Table, key_of
from shard_node.state.rows import Row, read

LOGGED_OVER_MS: Final = 60_000
"""Longer ones are in the log, and so survive every crash."""
RATE_MAX: Final = 1_000_000
PER_MAX_MS: Final = 10 * 366 * 24 * 3600 * 1000
SWEEP_EVERY: Final = 64
"""About one acquisition in so many looks for windows that are over, in its own partition: so
of those no more stay than some 16,000, besides the ones that run."""
SWEPT: Final = 256
"""Neighbours that it looks at then."""


class Cooldown(Row, frozen=True):
    """A window: when it began and ends, by log time, and how many uses of it are gone."""

    start_ms: int = 0
    end_ms: int = 0
    used: int = 0


class AcquireCooldown(msgspec.Struct, array_like=True, frozen=True, tag="acquire_cooldown"):
    """Take one of ``rate`` uses in ``per_ms`` of the key."""

    key: str
    rate: int
    per_ms: int


class ClearCooldown(msgspec.Struct, array_like=True, frozen=True, tag="clear_cooldown"):
    """Forget a key's uses."""

    key: str


class Step(NamedTuple):
    """What an acquisition comes to: the window after it, and ms to wait where refused (0: not)."""

    start_ms: int
    used: int
    retry_after_ms: int


def acquire(start_ms: int, used: int, rate: int, per_ms: int, now_ms: int) -> Step:
    """One use of a window, pure. ``used`` 0: there is no window yet.

    After exactly ``retry_after_ms`` the next use is allowed.
    """
    if used == 0 or now_ms >= start_ms + per_ms:
        return Step(now_ms, 1, 0)
    if used < rate:
        return Step(start_ms, used + 1, 0)
    return Step(start_ms, used, start_ms + per_ms - now_ms)


def check(rate: int, per_ms: int) -> None:
    """Raises BadValue for a rate or a time that is none."""
    if type(rate) is not int or not 1 <= rate <= RATE_MAX:
        text = f"a rate is 1 to {RATE_MAX} uses, not {rate!r:.40}"
        raise BadValue(text, hint="acquire(key, rate, per_s): 1 use in 30 s is (key, 1, 30)")
    if type(per_ms) is not int or not 1 <= per_ms <= PER_MAX_MS:
        text = f"a cooldown is 1 to {PER_MAX_MS} ms, not {per_ms!r:.40}"
        raise BadValue(text, hint="acquire(key, rate, per_s) takes seconds")


def throttled(key: str, retry_after_ms: int) -> Throttled:
    """The refusal; ``retry_after_s`` is exact to the ms."""
    after_s = retry_after_ms / 1000
    text = f"{key} cools down for {after_s} s more"
    return Throttled(text, key=key, retry_after_s=after_s, retry_after_ms=retry_after_ms)


def apply_acquire(op: AcquireCooldown, context: Context) -> dict[str, Any]:
    """Uses that remain in this window. Raises BadName, BadValue, Throttled."""
    check(op.rate, op.per_ms)
    key = key_of(Table.COOLDOWN, op.key)
    row = context.get(Cooldown, key) or Cooldown()
    step = acquire(row.start_ms, row.used, op.rate, op.per_ms, context.at_ms)
    if step.retry_after_ms:
        raise throttled(op.key, step.retry_after_ms)
    end_ms = step.start_ms + op.per_ms
    lsn = context.lsn
    context.put_own(key, Cooldown(row.version + 1, lsn, lsn, step.start_ms, end_ms, step.used))
    if zlib.crc32(lsn.to_bytes(8, "big")) % SWEEP_EVERY == 0:  # alike everywhere
        for other in list(_over(key, context)):
            context.put_raw(other, None, own_way=True)
    return {"remaining": max(0, op.rate - step.used)}


def apply_clear(op: ClearCooldown, context: Context) -> dict[str, Any]:
    """Raises BadName, NotThere."""
    key = key_of(Table.COOLDOWN, op.key)
    row = context.get(Cooldown, key)
    if row is None or row.end_ms <= context.at_ms:
        raise NotThere(f"{op.key} does not cool down", key=op.key)
    context.put_raw(key, None, own_way=True)
    return {}


def _over(key: bytes, context: Context) -> Iterator[bytes]:
    """Of the next rows of the partition, first after last, those whose windows are over."""
    scan = context.view.scan
    around = chain(scan(key[:2], key), scan(key[:2]))
    for other, data in islice(around, SWEPT):
        row = read(Cooldown, data)
        if row is not None and row.end_ms <= context.at_ms and other != key:
            yield other
