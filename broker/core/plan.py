"""Who shall hold which shards: contiguous ranges, names stable over restarts."""

from __future__ import annotations

from typing import Final, NamedTuple

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


def ranges(shards: tuple[int, ...]) -> str:
    """Shards for people.

    >>> ranges((0, 1, 2, 5, 7, 8)), ranges((3,)), ranges(())
    ('0-2, 5, 7-8', '3', '')
    """
    found: list[list[int]] = []
    for shard in sorted(shards):
        if found and found[-1][-1] == shard - 1:
            found[-1].append(shard)
        else:
            found.append([shard])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)
