"""What costs no session start: shards whose journal can be resumed, and how that went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.core.effects import Effects, Log
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet, Node
from broker.core.inflight import Ref
from shard_node.wire.handover import NO_JOURNAL
from shard_node.wire.lifecycle import INTERRUPTED_MAX, Recovered
from store.records import Durable

WHY_MAX_CHARS: Final = 300


class Resuming:
    """Notes what processes found in the journals of their shards."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet

    def on(self, event: Event, _now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=Recovered() as body):
                return self._recovered(ref, body)
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    def _recovered(self, ref: Ref, body: Recovered) -> Effects:
        name, epoch = ref.peer.name, ref.peer.epoch
        node = self._fleet.nodes[name]
        if not self._fleet.concerns(name, epoch, body.shard):
            self._fleet.reject("shard")
            return []
        how = "resumed_cold" if body.resumed else "identified_again"
        self._fleet.counts[f"shard_{how}"] += 1
        effects: Effects = []
        if body.why and not body.resumed:
            text = f"shard {body.shard} had to IDENTIFY: {body.why[:WHY_MAX_CHARS]}"
            effects.append(self._noted(node, epoch, text))
        count = len(body.interrupted) + max(0, body.more)
        if not count:
            return effects
        self._fleet.counts["handlers_interrupted"] += count
        said = "; ".join(one.words() for one in body.interrupted[:INTERRUPTED_MAX])
        more = f" and {body.more} more" if body.more > 0 else ""
        text = f"shard {body.shard}: not handled to the end, and not again: {said}{more}"
        return [*effects, self._noted(node, epoch, text)]

    def _noted(self, node: Node, epoch: int, text: str) -> Log:
        """Why something was lost stands beside the node, and in the log."""
        node.reason = f"{node.reason}; {text}" if node.reason else text
        return Log("WARNING", f"node {node.name}#{epoch}, {text}")


def starts_needed(fleet: Fleet, shards: Iterable[int], now: float) -> int:
    """How many of these shards cannot RESUME, so that a start of theirs is an IDENTIFY."""
    return sum(not _resumes(fleet, shard, now) for shard in shards)


def _resumes(fleet: Fleet, shard: int, now: float) -> bool:
    node = fleet.holder(shard)
    if node is not None and (node.troubles.get(NO_JOURNAL) or _flaw(node, shard)):
        return False
    heard = node is None or now - node.heard_at <= fleet.settings.lifecycle.resume_max_s
    return heard and shard in fleet.resumable


def _flaw(node: Node, shard: int) -> str:
    row = node.rows.get(shard)
    return row.flaw if row is not None else ""
