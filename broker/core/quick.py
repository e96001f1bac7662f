"""Transactions that are no transactions: short cooldowns, which are in memory alone."""

from __future__ import annotations

from typing import Any

from shard_node.state.buckets import Buckets
from shard_node.state.cooldowns import LOGGED_OVER_MS, AcquireCooldown, ClearCooldown, throttled
from shard_node.state.tx import Tx


def quick(buckets: Buckets, tx: Tx, at_ms: int) -> dict[str, Any] | None:
    """The result of a transaction that is a short cooldown; None for any other.

    Raises BadName, BadValue, Throttled.
    """
    op = tx.ops[0] if len(tx.ops) == 1 else None
    if isinstance(op, AcquireCooldown) and op.per_ms <= LOGGED_OVER_MS:
        wait_ms, left = buckets.acquire(op.key, op.rate, op.per_ms, at_ms)
        if wait_ms:
            raise throttled(op.key, wait_ms)
        return {"remaining": left}
    if isinstance(op, ClearCooldown) and buckets.clear(op.key):
        return {}
    return None
