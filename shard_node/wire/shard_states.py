"""The states of a shard: every transition, in one literal table.

A node moves its own shards by the events in OF_NODE, and reports the states once a second; the
broker moves them by the others. A pair that is missing changes nothing in a node (the echo of
a connection that is gone already), is a bug in the broker, and a report that no path leads to
is refused. ARCHITECTURE.md shows the table to people.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from shard_node.wire.bodies import ShardState


class ShardEvent(enum.StrEnum):
    """What happens to a shard."""

    PERMITTED = "permitted"
    """Holds a permit, and connects to IDENTIFY."""
    READY = "ready"
    RESUMED = "resumed"
    DISCONNECTED = "disconnected"
    """Its connection ended, and its session with it."""
    INTERRUPTED = "interrupted"
    """Its connection ended; its session can be RESUMEd."""
    ZOMBIE = "zombie"
    """The gateway did not acknowledge a heartbeat."""
    DEAF = "deaf"
    """Heartbeats are acknowledged, but no event comes, not even one that was asked for."""
    PARTLY_DEAF = "partly-deaf"
    """No event of one type comes, while others do."""
    HEARD = "heard"
    """An event came after all."""
    RELEASE = "release"
    """Its process gives it up, so that another one may have it."""
    TAKEN = "taken"
    """Another process has it now, with its session."""
    RETAKEN = "retaken"
    """No other process took it: it goes back to the one that gave it up."""
    CLOSED = "closed"
    """The bot's author disconnected it."""
    DRAIN = "drain"
    """Its node stops."""
    ENDED = "ended"
    """Its process ended, as it was asked to."""
    DIED = "died"
    """Its process ended."""
    HUNG = "hung"
    """Its process is given up: it is being killed."""
    SPAWNED = "spawned"
    """There is a new process."""
    FAILED = "failed"
    """Its node stays down: a crash loop."""


_S, _E = ShardState, ShardEvent

TRANSITIONS: Final[Mapping[tuple[ShardState, ShardEvent], ShardState]] = {
    (_S.QUEUED, _E.PERMITTED): _S.IDENTIFYING,
    (_S.QUEUED, _E.DISCONNECTED): _S.QUEUED,
    (_S.QUEUED, _E.INTERRUPTED): _S.RESUMING,
    (_S.QUEUED, _E.RELEASE): _S.RELEASING,
    (_S.QUEUED, _E.CLOSED): _S.LOST,
    (_S.QUEUED, _E.DRAIN): _S.DRAINING,
    (_S.QUEUED, _E.ENDED): _S.GONE,
    (_S.QUEUED, _E.DIED): _S.DEAD,
    (_S.QUEUED, _E.HUNG): _S.HUNG,
    (_S.IDENTIFYING, _E.READY): _S.READY,
    (_S.IDENTIFYING, _E.DISCONNECTED): _S.QUEUED,
    (_S.IDENTIFYING, _E.INTERRUPTED): _S.RESUMING,
    (_S.IDENTIFYING, _E.RELEASE): _S.RELEASING,
    (_S.IDENTIFYING, _E.CLOSED): _S.LOST,
    (_S.IDENTIFYING, _E.DRAIN): _S.DRAINING,
    (_S.IDENTIFYING, _E.ENDED): _S.GONE,
    (_S.IDENTIFYING, _E.DIED): _S.DEAD,
    (_S.IDENTIFYING, _E.HUNG): _S.HUNG,
    (_S.RESUMING, _E.PERMITTED): _S.IDENTIFYING,
    (_S.RESUMING, _E.RESUMED): _S.READY,
    (_S.RESUMING, _E.DISCONNECTED): _S.QUEUED,
    (_S.RESUMING, _E.INTERRUPTED): _S.RESUMING,
    (_S.RESUMING, _E.RELEASE): _S.RELEASING,
    (_S.RESUMING, _E.CLOSED): _S.LOST,
    (_S.RESUMING, _E.DRAIN): _S.DRAINING,
    (_S.RESUMING, _E.ENDED): _S.GONE,
    (_S.RESUMING, _E.DIED): _S.DEAD,
    (_S.RESUMING, _E.HUNG): _S.HUNG,
    (_S.READY, _E.DISCONNECTED): _S.QUEUED,
    (_S.READY, _E.INTERRUPTED): _S.RESUMING,
    (_S.READY, _E.ZOMBIE): _S.ZOMBIE,
    (_S.READY, _E.DEAF): _S.DEAF,
    (_S.READY, _E.PARTLY_DEAF): _S.PARTLY_DEAF,
    (_S.READY, _E.RELEASE): _S.RELEASING,
    (_S.READY, _E.CLOSED): _S.LOST,
    (_S.READY, _E.DRAIN): _S.DRAINING,
    (_S.READY, _E.ENDED): _S.GONE,
    (_S.READY, _E.DIED): _S.DEAD,
    (_S.READY, _E.HUNG): _S.HUNG,
    (_S.ZOMBIE, _E.DISCONNECTED): _S.QUEUED,
    (_S.ZOMBIE, _E.INTERRUPTED): _S.RESUMING,
    (_S.ZOMBIE, _E.RELEASE): _S.RELEASING,
    (_S.ZOMBIE, _E.CLOSED): _S.LOST,
    (_S.ZOMBIE, _E.DRAIN): _S.DRAINING,
    (_S.ZOMBIE, _E.ENDED): _S.GONE,
    (_S.ZOMBIE, _E.DIED): _S.DEAD,
    (_S.ZOMBIE, _E.HUNG): _S.HUNG,
    (_S.DEAF, _E.DISCONNECTED): _S.QUEUED,
    (_S.DEAF, _E.INTERRUPTED): _S.RESUMING,
    (_S.DEAF, _E.ZOMBIE): _S.ZOMBIE,
    (_S.DEAF, _E.HEARD): _S.READY,
    (_S.DEAF, _E.RELEASE): _S.RELEASING,
    (_S.DEAF, _E.CLOSED): _S.LOST,
    (_S.DEAF, _E.DRAIN): _S.DRAINING,
    (_S.DEAF, _E.ENDED): _S.GONE,
    (_S.DEAF, _E.DIED): _S.DEAD,
    (_S.DEAF, _E.HUNG): _S.HUNG,
    (_S.PARTLY_DEAF, _E.DISCONNECTED): _S.QUEUED,
    (_S.PARTLY_DEAF, _E.INTERRUPTED): _S.RESUMING,
    (_S.PARTLY_DEAF, _E.ZOMBIE): _S.ZOMBIE,
    (_S.PARTLY_DEAF, _E.DEAF): _S.DEAF,
    (_S.PARTLY_DEAF, _E.HEARD): _S.READY,
    (_S.PARTLY_DEAF, _E.RELEASE): _S.RELEASING,
    (_S.PARTLY_DEAF, _E.CLOSED): _S.LOST,
    (_S.PARTLY_DEAF, _E.DRAIN): _S.DRAINING,
    (_S.PARTLY_DEAF, _E.ENDED): _S.GONE,
    (_S.PARTLY_DEAF, _E.DIED): _S.DEAD,
    (_S.PARTLY_DEAF, _E.HUNG): _S.HUNG,
    (_S.RELEASING, _E.TAKEN): _S.RESUMING,
    (_S.RELEASING, _E.RETAKEN): _S.RESUMING,
    (_S.RELEASING, _E.DRAIN): _S.DRAINING,
    (_S.RELEASING, _E.ENDED): _S.GONE,
    (_S.RELEASING, _E.DIED): _S.DEAD,
    (_S.RELEASING, _E.HUNG): _S.HUNG,
    (_S.DRAINING, _E.ENDED): _S.GONE,
    (_S.DRAINING, _E.DIED): _S.DEAD,
    (_S.DRAINING, _E.HUNG): _S.HUNG,
    (_S.LOST, _E.DISCONNECTED): _S.QUEUED,
    (_S.LOST, _E.INTERRUPTED): _S.RESUMING,
    (_S.LOST, _E.RELEASE): _S.RELEASING,
    (_S.LOST, _E.DRAIN): _S.DRAINING,
    (_S.LOST, _E.ENDED): _S.GONE,
    (_S.LOST, _E.DIED): _S.DEAD,
    (_S.LOST, _E.HUNG): _S.HUNG,
    (_S.LOST, _E.SPAWNED): _S.QUEUED,
    (_S.HUNG, _E.DIED): _S.DEAD,
    (_S.DEAD, _E.TAKEN): _S.RESUMING,
    (_S.DEAD, _E.SPAWNED): _S.QUEUED,
    (_S.DEAD, _E.FAILED): _S.LOST,
    (_S.GONE, _E.SPAWNED): _S.QUEUED,
}

OF_NODE: Final = frozenset(
    {
        _E.PERMITTED,
        _E.READY,
        _E.RESUMED,
        _E.DISCONNECTED,
        _E.INTERRUPTED,
        _E.ZOMBIE,
        _E.DEAF,
        _E.PARTLY_DEAF,
        _E.HEARD,
        _E.RELEASE,
        _E.RETAKEN,
        _E.CLOSED,
        _E.DRAIN,
    }
)
"""What a living process does to its shards itself."""

CONNECTED: Final = frozenset({_S.READY, _S.ZOMBIE, _S.DEAF, _S.PARTLY_DEAF})
"""States of a shard that has a session and has not said that its connection ended."""

SERVING: Final = frozenset({_S.READY, _S.PARTLY_DEAF})
"""States of a shard whose bot works: events come, if not of every type."""


def after(state: ShardState, event: ShardEvent) -> ShardState | None:
    """The state after ``event``; None where the table has no such pair."""
    return TRANSITIONS.get((state, event))


def _reachable(start: ShardState) -> frozenset[ShardState]:
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for event in OF_NODE:
            new = after(state, event)
            if new is not None and new not in seen:
                seen.add(new)
                waiting.append(new)
    return frozenset(seen)


REPORTABLE: Final[Mapping[ShardState, frozenset[ShardState]]] = {
    state: _reachable(state) for state in ShardState
}
"""What a living process may report after it was last seen in a state: it reports once a second,
so it may skip states."""
