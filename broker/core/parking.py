"""Frames that wait for an owner who is away, by the name that it comes back under."""

from __future__ import annotations

from broker.core.batches import Lanes, Parked
from broker.core.fleet import Fleet, FleetState
from broker.core.frames import Batch
from broker.core.states import DOWN
from shard_node.wire.limits import PARKED_MAX_BYTES


class Parking:
    """Lanes by name, and a limit for all of them together."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._lanes: dict[str, Parked] = {}

    def lanes(self, name: str) -> Parked | None:
        """What waits for a process of this name."""
        return self._lanes.get(name)

    def given_up(self, fleet: Fleet) -> list[str]:
        """Names that nobody will come back under: their nodes stay down, or the fleet stops."""
        stopping = fleet.state is FleetState.STOPPING
        nodes = {name: fleet.nodes.get(name.partition("#")[0]) for name in self._lanes}
        return [
            name
            for name, node in nodes.items()
            if node is not None and (node.state in DOWN or stopping)
        ]

    def put(self, batch: Batch, name: str) -> tuple[bool, list[Batch]]:
        """Parks a frame; says whether it has room, and which events it pushed out."""
        if self.size_bytes + batch.size_bytes > PARKED_MAX_BYTES:
            return False, []
        lanes = self._lanes.get(name)
        if lanes is None:
            lanes = self._lanes[name] = Parked(name)
        taken, pushed_out = lanes.put(batch)
        self.size_bytes -= sum(old.size_bytes for old in pushed_out)
        if taken:
            self.size_bytes += batch.size_bytes
        self._forget_empty(lanes)
        return taken, pushed_out

    def take(self, name: str) -> list[Batch]:
        """Takes out all that waits for a name, lane by lane, oldest first."""
        lanes = self._lanes.pop(name, None)
        waiting = lanes.take_all() if lanes is not None else []
        self.size_bytes -= sum(batch.size_bytes for batch in waiting)
        return waiting

    def removed(self, lanes: Lanes, batch: Batch) -> None:
        """A frame was taken out of its lanes; nothing happens where they are no parked ones."""
        if isinstance(lanes, Parked):
            self.size_bytes -= batch.size_bytes
            self._forget_empty(lanes)

    def _forget_empty(self, lanes: Parked) -> None:
        if not lanes.frames and self._lanes.get(lanes.name) is lanes:
            del self._lanes[lanes.name]
