"""Which shards should move, so that the nodes have about the same load.

A load is events, CPU and memory, each as a share of the fleet's. The node with the most gives
up a shard to the one with the least as long as that makes the larger of the two smaller;
a plan that relieves no node by GAIN_MIN of the mean is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

EVERY_MIN_S: Final = 60.0
GAIN_MIN: Final = 0.15
"""A node has to be relieved by so much of the mean load, or nothing moves: loads vary."""
STEP_MIN: Final = 0.02
"""A move that makes a pair's peak smaller by less of the mean is not worth its hand-over; half a
shard's mean load is, where that is less."""
MOVES_MAX: Final = 8
"""In one go: what they did is seen before more move."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """The operator's ``[balance]``: whether shards move unasked, and how often at most."""

    auto: bool = False
    every_s: float = 600.0


class Load(NamedTuple):
    """What a shard costs its node: ``cpu`` is a share of a core."""

    shard: int
    node: str
    events_per_s: float = 0.0
    cpu: float = 0.0
    rss_bytes: float = 0.0


class Move(NamedTuple):
    """``gain``: by how much of the mean load the busier of the two nodes has less then."""

    shard: int
    source: str
    target: str
    gain: float = 0.0


class _Share(NamedTuple):
    shard: int
    node: str
    weight: float


def shares(loads: Iterable[Load]) -> dict[int, float]:
    """Each shard's part of all that the fleet does: the mean of its parts of events, CPU and
    memory. What nobody has any of says nothing; where that is all, shards are alike."""
    loads = list(loads)
    kinds = [
        [max(0.0, load.events_per_s) for load in loads],
        [max(0.0, load.cpu) for load in loads],
        [max(0.0, load.rss_bytes) for load in loads],
    ]
    known = [kind for kind in kinds if sum(kind) > 0] or [[1.0] * len(loads)]
    totals = [sum(kind) for kind in known]
    return {
        load.shard: sum(kind[at] / all_ for kind, all_ in zip(known, totals, strict=True))
        / len(known)
        for at, load in enumerate(loads)
    }


def imbalance(loads: Sequence[Load], nodes: Iterable[str]) -> float:
    """The load of the busiest node, as a multiple of the mean; 1 is even."""
    of_nodes = _of_nodes(_weighed(loads), nodes)
    total = sum(of_nodes.values())
    return max(of_nodes.values()) * len(of_nodes) / total if total > 0 else 1.0


def balanced(
    loads: Sequence[Load],
    nodes: Iterable[str],
    *,
    gain_min: float = GAIN_MIN,
    step_min: float = STEP_MIN,
    moves_max: int | None = MOVES_MAX,
) -> list[Move]:
    """The moves that even out the load of ``nodes``, one of each shard at most; none where no
    node would be relieved by ``gain_min`` of the mean. Of many the first ``moves_max``."""
    held = _weighed(loads)
    of_nodes = _of_nodes(held, nodes)
    before = dict(of_nodes)
    mean = sum(of_nodes.values()) / len(of_nodes) if of_nodes else 0.0
    moves: list[Move] = []
    step = min(mean * step_min, 0.5 / len(held)) if held else 0.0
    while mean > 0:
        found = _best(held, of_nodes, step)
        if found is None:
            break
        share, target, gain = found
        held.remove(share)
        of_nodes[share.node] -= share.weight
        of_nodes[target] += share.weight
        moves.append(Move(share.shard, share.node, target, gain / mean))
    relief = max((before[node] - of_nodes[node] for node in before), default=0.0)
    return moves[:moves_max] if relief >= gain_min * mean else []


def emptied(loads: Sequence[Load], ending: Iterable[str], staying: Iterable[str]) -> list[Move]:
    """Where the shards of nodes that end go: each to the node that has least, the largest
    first. ``staying`` is not empty."""
    held, leaving = _weighed(loads), set(ending)
    of_nodes = _of_nodes(held, staying)
    moves = []
    for share in sorted(held, key=lambda share: (-share.weight, share.shard)):
        if share.node in leaving:
            target = min(of_nodes, key=lambda node: of_nodes[node])
            of_nodes[target] += share.weight
            moves.append(Move(share.shard, share.node, target))
    return sorted(moves)


def _best(
    held: list[_Share], of_nodes: dict[str, float], step_min: float
) -> tuple[_Share, str, float] | None:
    """The move that relieves the busiest node most which can be relieved at all."""
    target = min(of_nodes, key=lambda node: of_nodes[node])
    for source in sorted(of_nodes, key=lambda node: -of_nodes[node]):
        if source == target:
            continue
        gap = of_nodes[source] - of_nodes[target]
        # The peak of the two falls by the share, or by what the share leaves of the gap.
        options = [(min(s.weight, gap - s.weight), s) for s in held if s.node == source]
        gain, share = max(options, key=lambda option: option[0], default=(0.0, None))
        if share is not None and gain > 0 and gain >= step_min:
            return share, target, gain
    return None


def _weighed(loads: Sequence[Load]) -> list[_Share]:
    weights = shares(loads)
    return [_Share(load.shard, load.node, weights[load.shard]) for load in loads]


def _of_nodes(held: Iterable[_Share], nodes: Iterable[str]) -> dict[str, float]:
    of_nodes = dict.fromkeys(nodes, 0.0)
    for share in held:
        if share.node in of_nodes:
            of_nodes[share.node] += share.weight
    return of_nodes
