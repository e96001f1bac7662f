"""Which shards should move, so that the nodes have about the same load.

A load is events, CPU and memory, each as a share of the fleet's. The node with the most gives
up a shard to the one with the least as long as that makes the larger of the two smaller;
a plan that relieves no node by GAIN_MIN of the mean is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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
LOOKS: Final = 3
RESTS: Final = 6
BACK_S: Final = 24 * 3600.0


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
    barred: Collection[tuple[int, str]] = (),
) -> list[Move]:
    """The moves that even out the load of ``nodes``, one of each shard at most; none where no
    node would be relieved by ``gain_min`` of the mean. Of many the first ``moves_max``. No
    shard goes to a node with which it is ``barred``."""
    held = _weighed(loads)
    of_nodes = _of_nodes(held, nodes)
    before = dict(of_nodes)
    mean = sum(of_nodes.values()) / len(of_nodes) if of_nodes else 0.0
    moves: list[Move] = []
    step = min(mean * step_min, 0.5 / len(loads)) if loads else 0.0
    while mean > 0:
        found = _best(held, of_nodes, step, barred)
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
    held: list[_Share],
    of_nodes: dict[str, float],
    step_min: float,
    barred: Collection[tuple[int, str]],
) -> tuple[_Share, str, float] | None:
    """The move that relieves the busiest node most which can be relieved at all."""
    target = min(of_nodes, key=lambda node: of_nodes[node])
    for source in sorted(of_nodes, key=lambda node: -of_nodes[node]):
        if source == target:
            continue
        gap = of_nodes[source] - of_nodes[target]
        # The peak of the two falls by the share, or by what the share leaves of the gap.
        free = [s for s in held if s.node == source and (s.shard, target) not in barred]
        options = [(min(s.weight, gap - s.weight), s) for s in free]
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


def mean_of(looks: Sequence[Sequence[Load]]) -> list[Load]:
    """The means of several looks at the same shards, in the places of the last one."""
    by_shard = [{load.shard: load for load in look} for look in looks]
    found = []
    for load in looks[-1]:
        seen = [look[load.shard] for look in by_shard if load.shard in look]
        events = sum(one.events_per_s for one in seen) / len(seen)
        cpu = sum(one.cpu for one in seen) / len(seen)
        rss_bytes = sum(one.rss_bytes for one in seen) / len(seen)
        found.append(Load(load.shard, load.node, events, cpu, rss_bytes))
    return found


class Unasked:
    """Moves that nobody asked for. So that nothing goes to and fro, LOOKS looks in a row, over
    ``every_s``, have to find the same node too busy, in a fleet in which nothing changed;
    what counts is their mean; and a shard that has moved stays for RESTS times ``every_s``, and
    does not go back for BACK_S."""

    def __init__(self, every_s: float, now: float) -> None:
        self._every_s = every_s
        self._looks: list[list[Load]] = []
        self._busiest = ""
        self._rests: dict[int, float] = {}
        self._left: dict[tuple[int, str], float] = {}
        self.due_at = now + every_s / LOOKS

    def look(self, loads: Sequence[Load], nodes: Sequence[str], now: float) -> list[Move]:
        """What should move now; none most of the time. Without loads it begins anew."""
        self.due_at = now + self._every_s / LOOKS
        self._rests = {shard: at for shard, at in self._rests.items() if at > now}
        self._left = {pair: at for pair, at in self._left.items() if at > now}
        found = balanced(loads, nodes)
        if not found or not self._is_like(loads, found[0].source):
            self._looks.clear()
        if not found:
            return []
        self._busiest = found[0].source
        self._looks.append(list(loads))
        if len(self._looks) < LOOKS:
            return []
        mean = mean_of(self._looks)
        self._looks.clear()
        resting = {(shard, node) for shard in self._rests for node in nodes}
        moves = balanced(mean, nodes, barred=resting | self._left.keys())
        self._rests |= {move.shard: now + self._every_s * RESTS for move in moves}
        self._left |= {(move.shard, move.source): now + BACK_S for move in moves}
        return moves

    def _is_like(self, loads: Sequence[Load], busiest: str) -> bool:
        if not self._looks or busiest != self._busiest:
            return False
        places = [{load.shard: load.node for load in look} for look in (self._looks[-1], loads)]
        return places[0] == places[1]
