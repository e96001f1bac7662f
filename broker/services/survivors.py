"""Shards of a node that died go to one that lives, by RESUME, while its process starts again; they
come back when it has lived for a while.

``[lifecycle] survivors``: "auto" (where the next process is not there soon, since it takes long
to start, or has to wait after several failures), "always" or "never".
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from broker.core.effects import Effects, Emit, Log
from broker.core.events import Event, NodeRegistered, Tick
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.loads import serving
from broker.core.operation import Operation, OpState, Step
from broker.core.opevents import AdoptionWanted, OperationEnded, OperationWanted
from broker.core.plan import ranges
from broker.core.processes import end_rest
from broker.core.states import NodeState
from broker.services.oprecords import restored
from shard_node.wire.bodies import ShardState
from shard_node.wire.handover import NO_JOURNAL
from store.records import Durable

ADOPT: Final = "adopt"
RETURN: Final = "return"
SPREADS: Final = frozenset({"move", "balance", "scale"})
"""Who has had shards spread anew has said where they belong."""
SOON_S: Final = 2.0
"""A process that is there again by then needs nobody to take its shards."""
ROOM: Final = 2.0
"""A node takes so many times its part of the shards at most."""
RETURN_S: Final = 10.0
"""A node has lived for so long when its shards come back; twice as long after each failure."""
RETURN_MAX_S: Final = 300.0
RETRY_S: Final = 10.0


class Survivors:
    """Decides who takes shards over, and when they come back; operations do it."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._mode = fleet.settings.lifecycle.survivors
        self._starts: dict[str, float] = {}
        """How long the last start of a node took, in seconds."""
        self._back_at: dict[str, float] = {}
        self._homes = _homes(durable)
        fleet.adopts = self._adopts

    def on(self, event: Event, now: float) -> Effects:
        if self._fleet.state is FleetState.STOPPING:
            return []
        match event:
            case NodeRegistered(name=name, epoch=epoch, again=False):
                self._registered(name, epoch, now)
            case AdoptionWanted(name=name):
                return self._adopt(name)
            case OperationEnded():
                return self._ended(event, now)
            case Tick():
                return self._return(now)
        return []

    def next_deadline(self) -> float | None:
        """When shards go back."""
        stopping = self._fleet.state is FleetState.STOPPING
        return None if stopping else min(self._back_at.values(), default=None)

    # --- away

    def _adopts(self, node: Node, at: float, now: float) -> bool:
        """Whether the shards of a node whose next process starts at ``at`` go elsewhere."""
        fleet = self._fleet
        if self._mode == "never" or fleet.state is not FleetState.RUNNING or not node.shards:
            return False
        wait_s = max(0.0, at - now) + self._starts.get(node.name, 0.0)
        if self._mode == "auto" and wait_s <= SOON_S:
            return False
        if node.troubles.get(NO_JOURNAL) or any(map(fleet.conflict, node.shards)):
            return False
        return self._survivor(node) is not None

    def _survivor(self, dead: Node) -> Node | None:
        """The node with the fewest shards that has room for those of a dead one."""
        fleet = self._fleet
        nodes = [node for node in fleet.nodes.values() if not node.retired]
        most = ROOM * fleet.num_shards / max(1, len(nodes))
        free = [
            node
            for node in serving(fleet)
            if node.name != dead.name
            and node.name not in fleet.deciding
            and not node.troubles.get(NO_JOURNAL)
            and len(node.shards) + len(dead.shards) <= max(most, 2)
        ]
        return min(free, key=lambda node: (len(node.shards), node.place), default=None)

    def _adopt(self, name: str) -> Effects:
        node = self._fleet.nodes.get(name)
        survivor = None if node is None else self._survivor(node)
        if node is None or node.epoch or node.rests_until is None:
            return []
        if survivor is None:
            self._rest(name)
            return []
        text = f"node {survivor.name} takes shards {ranges(node.shards)} of node {name}"
        args = {"home": name, "shards": list(node.shards)}
        step = Step(name, node.shards, target=survivor.name)
        return [Log("INFO", text), Emit(OperationWanted(ADOPT, (step,), args))]

    def _rest(self, name: str) -> None:
        """Nobody takes its shards: its process is started when its time has come."""
        node = self._fleet.nodes.get(name)
        if node is not None and node.state is NodeState.BACKOFF and node.due_at is None:
            end_rest(node)

    def _ended(self, event: OperationEnded, now: float) -> Effects:
        done = event.state == OpState.DONE
        if event.kind in SPREADS and done:
            self._homes.clear()
        if event.kind not in (ADOPT, RETURN):
            return []
        name = str(event.args.get("home", ""))
        if event.kind == ADOPT:
            if done:
                for shard in event.args["shards"]:
                    self._homes.setdefault(shard, name)
                self._fleet.counts["shard_adopted"] += len(event.args["shards"])
            elif not event.op:
                self._rest(name)
        elif done:
            self._forget(event.args["shards"])
        else:
            self._back_at[name] = now + RETRY_S
        return []

    def _forget(self, shards: list[int]) -> None:
        for shard in shards:
            self._homes.pop(shard, None)

    # --- and back

    def _registered(self, name: str, epoch: int, now: float) -> None:
        node = self._fleet.current(name, epoch)
        if node is None:
            return
        if node.spawned_at:
            self._starts[name] = now - node.spawned_at
        if name in self._homes.values():
            failures = max(0, len(node.failures) - 1)
            wait_s = min(RETURN_MAX_S, RETURN_S * (1 << min(failures, 8)))
            self._back_at[name] = now + wait_s

    def _return(self, now: float) -> Effects:
        effects: Effects = []
        for name, at in list(self._back_at.items()):
            if now >= at:
                del self._back_at[name]
                effects += self._return_to(name, now)
        return effects

    def _return_to(self, name: str, now: float) -> Effects:
        fleet = self._fleet
        node = fleet.nodes.get(name)
        shards = [shard for shard, home in self._homes.items() if home == name]
        if node is None or node.retired:
            self._forget(shards)
            return []
        if not node.epoch:
            return []  # it registers again, or never
        away: dict[str, list[int]] = {}
        for shard in sorted(shards):
            holder = fleet.holder(shard)
            if holder is None or holder is node:
                self._forget([shard])
                continue
            away.setdefault(holder.name, []).append(shard)
        ready = all(
            fleet.nodes[holder].rows[shard].state is ShardState.READY
            for holder, held in away.items()
            for shard in held
        )
        if not away:
            return []
        if node not in serving(fleet) or not ready:
            self._back_at[name] = now + RETRY_S
            return []
        steps = tuple(Step(holder, tuple(held), target=name) for holder, held in away.items())
        args: dict[str, Any] = {"home": name, "shards": sorted(chain.from_iterable(away.values()))}
        return [Emit(OperationWanted(RETURN, steps, args))]


def _homes(durable: Durable) -> dict[int, str]:
    """Which shards are away from which nodes, by what is known of operations."""
    homes: dict[int, str] = {}
    for operation in sorted(map(restored, durable.operations.values()), key=_number):
        for step in operation.steps:
            if not step.flipped:
                continue
            if operation.kind == ADOPT:
                for shard in step.shards:
                    homes.setdefault(shard, step.node)
            elif operation.kind in SPREADS | {RETURN}:
                for shard in step.shards:
                    homes.pop(shard, None)
    return homes


def _number(operation: Operation) -> int:
    return operation.number
