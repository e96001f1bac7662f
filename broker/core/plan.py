"""Who shall hold which shards: contiguous ranges, names stable over restarts."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

SHARDS_PER_NODE: Final = 8
SANDBOX_NODES: Final = 2
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"


class NodePlan(NamedTuple):
    """A node's name, its place (from 0) and its shards."""

    name: str
    place: int
    shards: tuple[int, ...]


def node_name(place: int) -> str:
    """a, b, ..., z, aa, ab, ...

    >>> node_name(0), node_name(25), node_name(26), node_name(702)
    ('a', 'z', 'aa', 'aaa')
    """
    name = ""
    place += 1
    while place:
        place, letter = divmod(place - 1, len(_ALPHABET))
        name = _ALPHABET[letter] + name
    return name


def node_count(shards: int, *, asked: int | None, nodes_max: int, sandbox: bool) -> int:
    """How many nodes hold ``shards``; ``asked`` None stands for auto, at most ``nodes_max``.

    `start --dry-run` foretells it (shardctl/cli/plan.py).
    """
    if asked is None:
        wanted = math.ceil(shards / SHARDS_PER_NODE)
        asked = SANDBOX_NODES if sandbox else min(wanted, nodes_max)
    return max(1, min(asked, shards))


def plan(shards: int, nodes: int) -> tuple[NodePlan, ...]:
    """Spreads ``shards`` over ``nodes`` in contiguous ranges that differ by at most one.

    Raises ValueError where a node would have no shard.
    """
    if not 1 <= nodes <= shards:
        msg = f"{shards} shards cannot be spread over {nodes} nodes"
        raise ValueError(msg)
    size, more = divmod(shards, nodes)
    plans = []
    start = 0
    for place in range(nodes):
        end = start + size + (place < more)
        plans.append(NodePlan(node_name(place), place, tuple(range(start, end))))
        start = end
    return tuple(plans)
