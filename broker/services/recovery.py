"""What nodes tell of the health of their shards: zombies, deafness, and their end."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Log, Reply
from broker.core.events import Asked, Event, Exited
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.shardrow import ShardRow
from shard_node.wire.bodies import Heartbeat
from shard_node.wire.health import OthersReply, OthersRequest, ShardHealth
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
    "partly-deaf": ShardEvent.PARTLY_DEAF,
    "heard": ShardEvent.HEARD,
}
TYPES_MAX: Final = 64
"""Of events, that a node tells of."""
TYPE_MAX_CHARS: Final = 64
NOBODY: Final = "; no other shard got one either"


def listen(fleet: Fleet, key: tuple[str, int], body: Heartbeat, now: float) -> None:
    """Keep which types of events a process gets, as it says itself."""
    fleet.heard[key] = {
        event: now - max(0.0, age_s)
        for event, age_s in list(body.heard.items())[:TYPES_MAX]
        if len(event) <= TYPE_MAX_CHARS
    }


class Recovery:
    """Keeps, counts and tells what ails a shard. Its node cures it."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=OthersRequest() as asked):
                return self._others(ref, asked, now)
            case Exited(name=name, epoch=epoch):
                self._fleet.heard.pop((name, epoch), None)
            case Asked(ref=ref, body=ShardHealth() as body):
                return self._health(ref, body)
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    def _others(self, ref: Ref, body: OthersRequest, now: float) -> Effects:
        node = self._fleet.nodes.get(ref.peer.name)
        row = node.rows.get(body.shard) if node is not None else None
        since = now - body.within_s
        others = [heard for (name, _), heard in self._fleet.heard.items() if name != ref.peer.name]
        got = sum(heard.get(body.event, since) > since for heard in others)
        if not got and row is not None and body.event in row.trouble and NOBODY not in row.trouble:
            row.trouble += NOBODY
        return [Reply(ref, OthersReply(got, len(others)))]

    def _health(self, ref: Ref, body: ShardHealth) -> Effects:
        key = ref.peer.name, ref.peer.epoch
        current = self._fleet.current(*key)
        row = current.rows.get(body.shard) if current is not None else None
        if row is None and self._fleet.concerns(*key, body.shard):
            row = ShardRow(body.shard)  # of a process that has it, but not by the plan yet
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
        text = f"shard {body.shard} of node {ref.peer.name} is {body.what}"
        if body.what == "heard":
            row.trouble, text = "", f"shard {body.shard} of node {ref.peer.name} is heard again"
        fields = {"detail": body.detail[:DETAIL_MAX_CHARS]}
        return [Log("INFO" if body.what == "heard" else "WARNING", text, fields)]
