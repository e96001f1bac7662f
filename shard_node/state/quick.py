"""Transactions that are no transactions: short cooldowns, which are in memory alone."""

from __future__ import annotations

from typing import Any, Final

from shard_node.state.buckets import Buckets
from shard_node.state.cooldowns import LOGGED_OVER_MS, AcquireCooldown, ClearCooldown, throttled
from shard_node.state.errors import BadValue
from shard_node.state.tx import Tx

ALONE_HINT: Final = (
    f"acquire it before the transaction, or let it last more than {LOGGED_OVER_MS // 1000} s"
)


def is_short(op: object) -> bool:
    """Whether it is a cooldown of those that are in memory alone."""
    return isinstance(op, AcquireCooldown) and op.per_ms <= LOGGED_OVER_MS


def quick(buckets: Buckets, tx: Tx, at_ms: int) -> dict[str, Any] | None:
    """The result of a transaction that is a short cooldown; None for any other.

    Raises BadName, BadValue, Throttled; BadValue as well for a short cooldown among other
    operations: it would be counted in the log, apart from those in memory.
    """
    if len(tx.ops) > 1 and any(is_short(op) for op in tx.ops):
        raise BadValue("a short cooldown is no part of a transaction", hint=ALONE_HINT)
    op = tx.ops[0] if len(tx.ops) == 1 else None
    if isinstance(op, AcquireCooldown) and is_short(op):
        wait_ms, left = buckets.acquire(op.key, op.rate, op.per_ms, at_ms)
        if wait_ms:
            raise throttled(op.key, wait_ms)
        return {"remaining": left}
    if isinstance(op, ClearCooldown) and buckets.clear(op.key):
        return {}
    return None
