"""Discord's entitlements as premium: one change at a time, in the order of the events.

A tier has one source. An entitlement shortens and ends only what came from it; what somebody
granted, or another entitlement gave, it can only make longer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from shard_node.errors import ShardNodeError
from shard_node.shared.feeds import Entitled, entitled
from shard_node.shared.primitives import Primitives
from shard_node.state.errors import NotThere

_log = logging.getLogger(__name__)

SKU_TIER: Final = "sku:"
WAITING_MAX: Final = 10_000
"""Entitlements that wait to be told; beyond, the oldest are dropped and counted."""
SAME_S: Final = 1.0
"""Ends that are no further apart are the same: they come back by two clocks."""
TRIES: Final = 3
"""Somebody may revoke what is about to be revoked."""


class Entitlements:
    """Tells ``node.premium`` of entitlements."""

    def __init__(self, node: Primitives) -> None:
        self._node = node
        self.dropped = 0
        self._waiting: dict[int, tuple[Entitled, bool]] = {}
        self._worker: asyncio.Task[None] | None = None

    def put(self, data: Any, *, gone: bool) -> None:
        """An event. The last of one entitlement is the one that counts."""
        found = entitled(data, time.time())
        if found is None:
            return
        self._waiting.pop(found.id, None)
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._waiting[found.id] = (found, gone or found.over)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            found, over = self._waiting.pop(next(iter(self._waiting)))
            try:
                await self._tell(found, over)
            except ShardNodeError as error:
                _log.warning("entitlement %d is not in the state: %s", found.id, error)
            except Exception:
                _log.exception("entitlement %d could not be told", found.id)

    async def _tell(self, found: Entitled, over: bool) -> None:
        for _ in range(TRIES):
            try:
                await (self._end(found) if over else self._give(found))
            except NotThere:
                continue
            return

    async def _end(self, found: Entitled) -> None:
        tier, source = self._tier(found), _source(found)
        if self._node.premium.source(found.subject, tier) == source:
            await self._node.premium.revoke(found.subject, tier, reason=source)

    async def _give(self, found: Entitled) -> None:
        premium, tier, source = self._node.premium, self._tier(found), _source(found)
        known = premium.source(found.subject, tier)
        until = premium.tiers(found.subject).get(tier)
        longer = _later(found.until, until)
        if known is not None and not longer and (known != source or not _later(until, found.until)):
            return
        async with self._node.transaction(reason=source) as tx:
            if known is not None and not longer:  # a grant alone would only lengthen it
                tx.premium.revoke(found.subject, tier)
            tx.premium.grant(found.subject, tier, found.until, source=source)

    def _tier(self, found: Entitled) -> str:
        return self._node.premium.tier_of_sku.get(found.sku, f"{SKU_TIER}{found.sku}")


def _source(found: Entitled) -> str:
    return f"entitlement:{found.id}"


def _later(one: float | None, other: float | None) -> bool:
    """Whether one end is later than another; None is never."""
    if one is None or other is None:
        return one is None and other is not None
    return one > other + SAME_S
