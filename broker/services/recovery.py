"""What nodes tell of the health of their shards: zombies, deafness, and their end."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Log
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from shard_node.wire.health import ShardHealth
from shard_node.wire.shard_states import ShardEvent, after
from store.records import Durable

DETAIL_MAX_CHARS: Final = 200
COUNTED: Final = {
    "zombie": "shard_zombie",
    "deaf": "shard_deaf",
    "partly-deaf": "shard_partly_deaf",
}
"""Each kind of trouble with its counter in ``status --json``."""
_EVENTS: Final = {
    "zombie": ShardEvent.ZOMBIE,
    "deaf": ShardEvent.DEAF,
    "heard": ShardEvent.HEARD,
}


class Recovery:
    """Keeps, counts and tells what ails a shard. Its node cures it."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet

    def on(self, event: Event, _now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=ShardHealth() as body):
                return self._health(ref, body)
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    def _health(self, ref: Ref, body: ShardHealth) -> Effects:
        node = self._fleet.nodes[ref.peer.name]
        row = node.rows.get(body.shard)
        if row is None or body.what not in (*COUNTED, *_EVENTS):
            self._fleet.reject("shard")
            return []
        if body.what in COUNTED:
            self._fleet.counts[COUNTED[body.what]] += 1
        event = _EVENTS.get(body.what)
        if event is not None:
            if after(row.state, event) is not None:  # a heartbeat may have told of it already
                row.on(event)
            row.trouble = f"{body.what}: {body.detail[:DETAIL_MAX_CHARS]}"
        text = f"shard {body.shard} of node {node.name} is {body.what}"
        if body.what == "heard":
            row.trouble, text = "", f"shard {body.shard} of node {node.name} is heard again"
        fields = {"detail": body.detail[:DETAIL_MAX_CHARS]}
        return [Log("INFO" if body.what == "heard" else "WARNING", text, fields)]
