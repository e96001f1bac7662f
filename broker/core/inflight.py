"""Requests that wait for their end: a reply, an error, or their deadline. Bounded.

A correlation number is its requester's own, so a request that is forwarded gets a number of
the broker, and the answer is mapped back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from shard_node.wire.identity import Peer
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import REQUESTS_IN_FLIGHT_MAX

RESERVED: Final = 8192
"""Places for what is asked of the broker itself: a flood of other requests must neither make
heartbeats look silent nor keep an operator from a stop. More than the writer's queue holds."""
REQUEST_DEFAULT_S: Final = 30.0
"""For a request that names no deadline: none may wait for ever."""
_SLACK: Final = 1024
"""Answered entries that may lie in the heap before it is built anew."""


class Ref(NamedTuple):
    """A request in flight. ``id`` is the broker's number (0: an event, nobody waits).

    ``owner`` is the routing id that must answer; b"" stands for the broker itself.
    """

    id: int
    routing_id: bytes
    peer: Peer
    topic: str
    lane: Lane
    correlation: int
    deadline: float
    owner: bytes = b""


class InFlight:
    """The table of requests in flight."""

    def __init__(self, limit: int = REQUESTS_IN_FLIGHT_MAX, reserved: int = RESERVED) -> None:
        self._limit = limit
        self._reserved = reserved
        self._refs: dict[int, Ref] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._refs)

    @property
    def full(self) -> bool:
        """Whether no more requests may be taken."""
        return len(self._refs) >= self._limit

    @property
    def crowded(self) -> bool:
        """Whether only the reserved places are left."""
        return len(self._refs) >= self._limit - self._reserved

    def add(self, ref: Ref) -> Ref:
        """Takes a request in, under a number of ours. Check ``full`` first."""
        ref = ref._replace(id=self._next_id)
        self._next_id += 1
        self._refs[ref.id] = ref
        heapq.heappush(self._deadlines, (ref.deadline, ref.id))
        if len(self._deadlines) > 2 * len(self._refs) + _SLACK:
            self._rebuild()
        return ref

    def get(self, number: int) -> Ref | None:
        """The request under a number of ours, if it still waits."""
        return self._refs.get(number)

    def end(self, number: int) -> Ref | None:
        """Takes a request out; None where it has ended before."""
        return self._refs.pop(number, None)

    def expired(self, now: float) -> Iterator[Ref]:
        """Takes out the requests whose deadline has passed."""
        while self._deadlines and self._deadlines[0][0] <= now:
            ref = self._refs.pop(heapq.heappop(self._deadlines)[1], None)
            if ref is not None:
                yield ref

    def of_owner(self, routing_id: bytes) -> list[Ref]:
        """Takes out the requests that a peer had to answer."""
        return self._take([ref for ref in self._refs.values() if ref.owner == routing_id])

    def of_requester(self, routing_id: bytes) -> list[Ref]:
        """Takes out the requests that a peer had made."""
        return self._take([ref for ref in self._refs.values() if ref.routing_id == routing_id])

    def next_deadline(self) -> float | None:
        """When the next request expires."""
        while self._deadlines and self._deadlines[0][1] not in self._refs:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _take(self, refs: list[Ref]) -> list[Ref]:
        for ref in refs:
            del self._refs[ref.id]
        return refs

    def _rebuild(self) -> None:
        self._deadlines = [(ref.deadline, ref.id) for ref in self._refs.values()]
        heapq.heapify(self._deadlines)
