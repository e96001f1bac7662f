"""What waits in the broker for each peer, and how much of its credit is in use, for `status`."""

from __future__ import annotations

from typing import Any, Final

from broker.core.batches import Lanes
from broker.core.dataplane import DataPlane
from broker.core.queues import Outbox
from shard_node.wire.lanes import Lane

_NAMES: Final = tuple(lane.name.lower() for lane in Lane)


class Depths:
    """Reads the data plane and the outbox of control frames; changes nothing."""

    def __init__(self, plane: DataPlane, outbox: Outbox) -> None:
        self._plane = plane
        self._outbox = outbox

    def __call__(self, name: str, routing_id: bytes) -> dict[str, Any]:
        """Of one process: messages that wait lane by lane, frames of the broker's own, credit.

        ``parked_messages`` wait until a process of that name registers.
        """
        destination = self._plane.destination(routing_id)
        shown: dict[str, Any] = {
            "waiting_messages": _by_lane(destination),
            "parked_messages": sum(_by_lane(self._plane.parking.lanes(name)).values()),
            "control_frames": self._outbox.depth(routing_id),
        }
        if destination is not None:
            shown["credit"] = {
                "used_messages": destination.sent_messages - destination.handled_messages,
                "window_messages": destination.window_messages,
                "used_bytes": destination.sent_bytes - destination.handled_bytes,
                "window_bytes": destination.window_bytes,
                "stuck": destination.stuck,
            }
        return shown


def _by_lane(lanes: Lanes | None) -> dict[str, int]:
    if lanes is None:
        return {}
    counts = zip(_NAMES, lanes.lanes, strict=True)
    return {name: lane.messages for name, lane in counts if lane.messages}
