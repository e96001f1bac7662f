"""Frames that go nowhere: dropped and counted, or back to their sender and listed."""

from __future__ import annotations

from typing import Any, Final

from broker.core.batches import Destination
from broker.core.fleet import Fleet
from broker.core.frames import Batch
from broker.core.senders import Senders
from shard_node.wire.batch import Flag
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.lanes import Lane

RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 5.0
TEXT_MAX_CHARS: Final = 512
_ANSWERS: Final = int(Flag.ANSWERS)
_TELLS: Final = frozenset({"E_UNREACHABLE", "E_NO_HANDLER", "E_EXPIRED", "E_QUEUE_FULL"})
"""Ends that make a dead letter; the others are the sender's own fault."""


class Ends:
    """Shares the fleet's counts and letters, and the senders who hear of an end."""

    def __init__(self, fleet: Fleet, senders: Senders) -> None:
        self._counts = fleet.counts
        self._letters = fleet.letters
        self._senders = senders

    def full(self, batch: Batch, destination: Destination | None, now: float) -> None:
        """It has no room where it should go."""
        rate = destination.rate if destination is not None else 0.0
        waits = destination.lanes[batch.queue_lane].messages if destination is not None else 0
        retry_s = min(max(waits / rate if rate > 0 else 1.0, RETRY_MIN_S), RETRY_MAX_S)
        details = {"retry_after_s": round(retry_s, 3)}
        self.fail(batch, "E_QUEUE_FULL", "the receiver's queue is full", now, details)

    def fail(
        self,
        batch: Batch,
        code: str,
        text: str,
        now: float,
        details: dict[str, Any] | None = None,
    ) -> None:
        """It goes nowhere: events are dropped, a kept frame comes back and is a dead letter."""
        batch.gone = True
        if not batch.kept:
            self.drop(batch, "unrouted" if code in ("E_UNREACHABLE", "E_NO_HANDLER") else "")
            return
        if batch.fan is not None:
            details = {**(details or {}), "partial": True}
        retryable = code in ("E_QUEUE_FULL", "E_UNREACHABLE", "E_EXPIRED")
        self._senders.bounce(
            batch, ErrorBody(code, text[:TEXT_MAX_CHARS], "", retryable, details or {})
        )
        self._senders.release(batch, "")
        if code in _TELLS and not batch.flags & _ANSWERS:
            self._letters.add(batch, code, text[:TEXT_MAX_CHARS], now)
            self._counts["dead_letters_total"] += 1

    def drop(self, batch: Batch, reason: str = "") -> None:
        """Events that nobody gets: counted by message."""
        batch.gone = True
        reason = reason or f"dropped_{Lane(batch.queue_lane).name.lower()}"
        self._counts[reason] += batch.count
        self._senders.release(batch, "")
        batch.body = b""
