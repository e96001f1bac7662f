"""States of a node's process, and every transition as a literal table.

A transition outside it is a bug of ours and raises. Shards have a table of their own, that
their nodes use too: ``shard_node.wire.shard_states``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


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
    # To UP where a process beside it becomes the current one.
    _N.STOPPING: frozenset({_N.UP, _N.STORING, _N.BACKOFF, _N.FAILED, _N.GONE}),
    _N.BACKOFF: frozenset({_N.UP, _N.STORING, _N.FAILED, _N.GONE}),
    _N.FAILED: frozenset({_N.STORING, _N.GONE}),
    _N.GONE: frozenset(),
}

ALIVE: Final = frozenset({_N.SPAWNING, _N.STARTING, _N.UP, _N.STOPPING})
"""States in which there is, or may be, a process."""

DOWN: Final = frozenset({_N.FAILED, _N.GONE})
"""States in which there will be none, unless somebody asks for it."""


def step(old: NodeState, new: NodeState, what: str) -> NodeState:
    """``new``, where the table leads there from ``old``. Raises StateError otherwise."""
    if new is not old and new not in NODE_TRANSITIONS[old]:
        msg = f"{what}: no transition {old.value} -> {new.value}"
        raise StateError(msg)
    return new
