"""What a scale comes to: which nodes start or end, and which shards move where. Or why not."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from broker.core.balance import Load, Move, balanced, emptied
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.loads import loads_of, serving, told
from broker.core.operation import Step
from broker.core.plan import node_name, ranges
from broker.services.moving import no_journal
from shard_node.wire.bodies import ErrorBody

MIB: Final = 1 << 20


class Change(NamedTuple):
    """What a scale comes to: nodes that start and end, in order of place, and who moves."""

    start: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    loads: tuple[Load, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As the reply has it."""
        moves = told(self.moves, self.loads)
        return {"start": list(self.start), "end": list(self.end), "moves": moves}

    def args(self, nodes: int) -> dict[str, Any]:
        """As the operation has it."""
        return {"nodes": nodes, "start": list(self.start), "end": list(self.end)}

    def steps(self) -> list[Step]:
        """In their order. Of nodes that end the last one is emptied first, and ends first."""
        steps = [Step(name, ()) for name in self.start]
        moves = [
            (move, Step(move.source, (move.shard,), target=move.target)) for move in self.moves
        ]
        steps += [step for move, step in moves if move.source not in self.end]
        for name in reversed(self.end):
            steps += [step for move, step in moves if move.source == name]
            steps.append(Step(name, ()))
        return steps


def change_to(fleet: Fleet, count: int) -> Change | ErrorBody:
    """What it takes to have so many nodes."""
    if fleet.state is FleetState.STOPPING:
        return ErrorBody("E_STOPPING", "the fleet is stopping")
    if not fleet.num_shards:
        return ErrorBody("E_NOT_READY", "the fleet has no plan yet", "retry", True)
    if not 1 <= count <= fleet.num_shards:
        text = f"{fleet.num_shards} shards cannot be spread over {count} nodes"
        hint = f"from 1 to {fleet.num_shards}: a node has one shard at least"
        return ErrorBody("E_BAD_REQUEST", text, hint)
    nodes = [node for node in fleet.nodes.values() if not node.retired]
    nodes.sort(key=lambda node: node.place)
    if count < len(nodes):
        return _fewer(fleet, nodes[:count], nodes[count:])
    if count > len(nodes):
        return _more(fleet, nodes, count - len(nodes))
    return Change()


def _more(fleet: Fleet, nodes: list[Node], count: int) -> Change | ErrorBody:
    problem = _too_large(fleet, nodes, count)
    if problem is not None:
        return problem
    first = max((node.place for node in nodes), default=-1) + 1
    new = tuple(node_name(place) for place in range(first, first + count))
    up = serving(fleet)
    loads = loads_of(up)
    names = [*(node.name for node in up), *new]
    moves: list[Move] = []
    # Where what was measured would leave a node without a shard, they count alike.
    for weighed in (loads, [Load(load.shard, load.node) for load in loads]):
        found = balanced(weighed, names, gain_min=0.0, step_min=0.0, moves_max=None)
        moves = [move for move in found if move.target in new]
        if {move.target for move in moves} == set(new):
            return Change(new, (), tuple(moves), tuple(loads))
    for node in nodes:
        problem = no_journal(node)
        if problem is not None:
            return problem
    ready = f"{len(loads)} of {fleet.num_shards} shards are ready"
    text = f"{ready}, too few for {count} more nodes"
    return ErrorBody("E_NOT_READY", text, "retry when all are", True)


def _fewer(fleet: Fleet, stay: list[Node], end: list[Node]) -> Change | ErrorBody:
    up = serving(fleet)
    loads = loads_of(up)
    targets = [node.name for node in up if node in stay]
    ready = {load.shard for load in loads}
    for node in end:
        problem = no_journal(node) if node.shards else None
        if problem is not None:
            return problem
        unready = tuple(shard for shard in node.shards if shard not in ready)
        if unready:
            conflict = fleet.conflict(unready[0])
            where = f"node {node.name}, which is {node.shown_state},"
            text = f"{some(unready)} of {where} {are(unready)} not ready"
            hint = f"retry, or: shardctl respawn --node {node.name}"
            return conflict or ErrorBody("E_NOT_READY", text, hint, True)
    if not targets:
        return ErrorBody("E_NOT_READY", "no node that stays is up", "retry", True)
    names = tuple(node.name for node in end)
    return Change((), names, tuple(emptied(loads, names, targets)), tuple(loads))


def _too_large(fleet: Fleet, nodes: list[Node], count: int) -> ErrorBody | None:
    """Why memory does not do for more nodes, with figures: one needs about what one of the
    fleet's has on average."""
    available = fleet.settings.memory()
    known = [node.rss_bytes for node in nodes if node.rss_bytes]
    if available is None or not known:
        return None
    each = sum(known) // len(known)
    spare = fleet.settings.lifecycle.spare_bytes
    needed = count * each + spare
    if needed <= available:
        return None
    fits = max(0, (available - spare) // each)
    text = (
        f"{count} more {'node needs' if count == 1 else 'nodes need'} about "
        f"{needed // MIB} MiB, {max(0, available) // MIB} MiB are free"
    )
    hint = f"there is room for {fits} more" if fits else "there is room for none"
    details = {"needed": needed, "available": available, "fits": fits}
    return ErrorBody("E_MEMORY", text, hint, details=details)


def some(shards: tuple[int, ...]) -> str:
    """Shards for people."""
    return f"shard{'s' * (len(shards) > 1)} {ranges(shards)}"


def are(shards: tuple[int, ...]) -> str:
    """The verb behind them."""
    return "is" if len(shards) == 1 else "are"
