"""Short cooldowns: in memory, counted in one place for all shards, told at once.

They are lost with the broker but for the last checkpoint, which is kept every CHECKPOINT_S.
Longer ones are in the log.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import msgspec

from broker.core.effects import Effects, KeepNote, Refuse, Reply
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet
from broker.core.stateport import COOLDOWNS_NOTE
from broker.services.state import body_of
from shard_node.state.cooldowns import LOGGED_OVER_MS
from shard_node.state.errors import BadValue, StateError
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.limits import STATE_KEYS_MAX, STATE_TXS_MAX
from shard_node.wire.state import (
    CooldownAcquire,
    CooldownClear,
    CooldownCleared,
    CooldownShow,
    CooldownShown,
    CooldownStep,
    CooldownSteps,
    CooldownUse,
)
from store.records import Durable

CHECKPOINT_S: Final = 10.0
CHECKPOINT_KEYS_MAX: Final = 10_000
"""More windows than this are not kept: sorting and writing them would hold up the loop."""

_encode = msgspec.msgpack.Encoder().encode


class Cooldowns:
    """The buckets' keeper."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._shared = fleet.shared
        self._due: float | None = None
        self._saved = b""

    def on(self, event: Event, now: float) -> Effects:
        at_ms = self._shared.clock.at_ms(now)
        match event:
            case Asked(ref=ref, body=CooldownAcquire(uses=uses)):
                if len(uses) > STATE_TXS_MAX:
                    text = f"{len(uses)} uses; the limit is {STATE_TXS_MAX}"
                    return [Refuse(ref, ErrorBody("E_TOO_LARGE", text))]
                return [Reply(ref, CooldownSteps(tuple(self._use(use, at_ms) for use in uses)))]
            case Asked(ref=ref, body=CooldownShow() as body):
                return [Reply(ref, self._show(body, at_ms))]
            case Asked(ref=ref, body=CooldownClear(keys=keys)):
                cleared = sum(map(self._shared.buckets.clear, keys))
                return [Reply(ref, CooldownCleared(cleared))]
            case Asked():
                return []
        return self._checkpoint(now, at_ms)

    def next_deadline(self) -> float | None:
        """When the next checkpoint is looked at."""
        return self._due

    def _use(self, use: CooldownUse, at_ms: int) -> CooldownStep:
        try:
            if use.per_ms > LOGGED_OVER_MS:
                raise BadValue(f"cooldowns of more than {LOGGED_OVER_MS} ms are transactions")
            wait_ms, left = self._shared.buckets.acquire(use.key, use.rate, use.per_ms, at_ms)
        except StateError as error:
            return CooldownStep(error=body_of(error))
        return CooldownStep(wait_ms, left)

    def _show(self, body: CooldownShow, at_ms: int) -> CooldownShown:
        limit = min(max(body.limit, 1), STATE_KEYS_MAX)
        found = list(islice(self._shared.buckets.show(body.prefix, at_ms), limit + 1))
        return CooldownShown(tuple(found[:limit]), at_ms, len(found) > limit)

    def _checkpoint(self, now: float, at_ms: int) -> Effects:
        if self._due is not None and now < self._due:
            return []
        first, self._due = self._due is None, now + CHECKPOINT_S
        buckets = self._shared.buckets
        if first or len(buckets) > CHECKPOINT_KEYS_MAX:
            return []
        data = _encode(buckets.checkpoint(at_ms))
        if data == self._saved or (not self._saved and not len(buckets)):
            return []
        self._saved = data
        return [KeepNote(COOLDOWNS_NOTE, data)]
