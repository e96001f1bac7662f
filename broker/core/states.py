"""States of shards and nodes, and every transition as a literal table.

A transition of ours outside a table is a bug of ours and raises. What a node *reports* is a
sample of its shard's state (once a second), so a report may skip states; it is accepted where
the path of its own transitions leads there, and is the peer's fault otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeVar

from shard_node.wire.bodies import ShardState


class StateError(Exception):
    """A transition outside the table: a bug of ours."""


class NodeState(enum.StrEnum):
    """States of a node's process, in the words that `status --json` prints."""

    PLANNED = "planned"
    """In the plan, no process asked for."""
    STORING = "storing"
    """Its epoch is being made durable."""
    SPAWNING = "spawning"
    """The supervisor has been asked for its process."""
    STARTING = "starting"
    """The process runs and has not registered with this broker."""
    UP = "up"
    STOPPING = "stopping"
    """Asked to end, or killed; its exit has not been reported."""
    BACKOFF = "backoff"
    """Waits before it is started again."""
    FAILED = "failed"
    """A crash loop: stays down until somebody asks for it."""
    GONE = "gone"
    """Ended because the fleet stops."""


_N = NodeState

NODE_TRANSITIONS: Final[Mapping[NodeState, frozenset[NodeState]]] = {
    _N.PLANNED: frozenset({_N.STORING, _N.STARTING, _N.BACKOFF, _N.GONE}),
    _N.STORING: frozenset({_N.SPAWNING, _N.BACKOFF, _N.GONE}),
    _N.SPAWNING: frozenset({_N.STARTING, _N.UP, _N.STOPPING, _N.BACKOFF, _N.FAILED, _N.GONE}),
    _N.STARTING: frozenset({_N.UP, _N.STOPPING, _N.STORING, _N.BACKOFF, _N.FAILED, _N.GONE}),
    _N.UP: frozenset({_N.STOPPING, _N.STORING, _N.BACKOFF, _N.FAILED, _N.GONE}),
    _N.STOPPING: frozenset({_N.STORING, _N.BACKOFF, _N.FAILED, _N.GONE}),
    _N.BACKOFF: frozenset({_N.STORING, _N.FAILED, _N.GONE}),
    _N.FAILED: frozenset({_N.STORING, _N.GONE}),
    _N.GONE: frozenset(),
}

ALIVE: Final = frozenset({_N.SPAWNING, _N.STARTING, _N.UP, _N.STOPPING})
"""States in which there is, or may be, a process."""

_S = ShardState

SHARD_TRANSITIONS: Final[Mapping[ShardState, frozenset[ShardState]]] = {
    _S.QUEUED: frozenset({_S.IDENTIFYING, _S.RESUMING, _S.DRAINING, _S.LOST, _S.GONE}),
    _S.IDENTIFYING: frozenset({_S.READY, _S.QUEUED, _S.RESUMING, _S.DRAINING, _S.LOST, _S.GONE}),
    _S.RESUMING: frozenset({_S.READY, _S.QUEUED, _S.IDENTIFYING, _S.DRAINING, _S.LOST, _S.GONE}),
    _S.READY: frozenset({_S.QUEUED, _S.RESUMING, _S.IDENTIFYING, _S.DRAINING, _S.LOST, _S.GONE}),
    _S.DRAINING: frozenset({_S.LOST, _S.GONE}),
    _S.LOST: frozenset({_S.QUEUED, _S.GONE}),
    _S.GONE: frozenset({_S.QUEUED}),
}

NEW_PROCESS: Final = frozenset({(_S.LOST, _S.QUEUED), (_S.GONE, _S.QUEUED)})
"""Transitions that take a new process: no report of a living one makes them."""

_State = TypeVar("_State", NodeState, ShardState)


def step(table: Mapping[_State, frozenset[_State]], old: _State, new: _State, what: str) -> _State:
    """``new``, where the table leads there from ``old``. Raises StateError otherwise."""
    if new is not old and new not in table[old]:
        msg = f"{what}: no transition {old.value} -> {new.value}"
        raise StateError(msg)
    return new


def _reachable(start: ShardState) -> frozenset[ShardState]:
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for new in SHARD_TRANSITIONS[state] - seen:
            if (state, new) not in NEW_PROCESS:
                seen.add(new)
                waiting.append(new)
    return frozenset(seen)


REPORTABLE: Final[Mapping[ShardState, frozenset[ShardState]]] = {
    state: _reachable(state) for state in ShardState
}
"""What a living process may report after it was last seen in a state."""
