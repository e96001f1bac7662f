"""Leases: one node of the fleet holds a name for a while.

A lease is durable before it is granted and ends with its time or its holder's process. Its
time counts from the request, so a holder that renews in time never loses it to a slow broker.
"""

from __future__ import annotations

from typing import Final

from broker.core.effects import Effects, Keep, Refuse, Reply
from broker.core.events import Asked, Event, LeaseStored, NodeGone, Promoted
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.procs import Role
from shard_node.wire.bodies import ErrorBody, LeaseRelease, LeaseReply, LeaseRequest
from store.records import Durable, Forget, LeaseRecord

LEASES_MAX: Final = 1024
NAME_MAX_BYTES: Final = 256
TTL_MAX_S: Final = 24 * 3600.0


class Leases:
    """The table of leases, and its copy in the store."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._boot_id = fleet.settings.boot_id
        self._leases = {
            name: lease for name, lease in durable.leases.items() if lease.boot_id == self._boot_id
        }

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=LeaseRequest() as body):
                return self._request(ref, body, now)
            case Asked(ref=ref, body=LeaseRelease() as body):
                return self._release(body.name, ref)
            case LeaseStored():
                return self._stored(event)
            case NodeGone(name=name, epoch=epoch) | Promoted(name=name, old_epoch=epoch):
                return self._gone(name, epoch)
        return []

    def next_deadline(self) -> float | None:
        """None: a lease that has ended is noticed when somebody asks for it."""
        return None

    def _request(self, ref: Ref, body: LeaseRequest, now: float) -> Effects:
        if not 0 < body.ttl_s <= TTL_MAX_S or not 0 < len(body.name.encode()) <= NAME_MAX_BYTES:
            text = f"a lease needs a name of 1-{NAME_MAX_BYTES} bytes and 0 < ttl_s <= {TTL_MAX_S}"
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", text))]
        holder = self._holder(body.name, now)
        asker = ref.peer.name, ref.peer.epoch
        if holder is not None and holder != asker:
            return [Reply(ref, LeaseReply(False, holder[0]))]
        if not self._may_hold(*asker):  # what lingers gives up, and takes nothing
            return [Reply(ref, LeaseReply(False, ""))]
        forgotten = self._make_room(body.name, now)
        if forgotten is None:
            text = f"the fleet holds {LEASES_MAX} leases already"
            return [Refuse(ref, ErrorBody("E_BUSY", text, retryable=True))]
        lease = LeaseRecord(
            body.name, ref.peer.name, ref.peer.epoch, now + body.ttl_s, self._boot_id
        )
        self._leases[body.name] = lease
        return [Keep((lease, *forgotten), LeaseStored(ref, body.name))]

    def _holder(self, name: str, now: float) -> tuple[str, int] | None:
        """Who holds a lease now. A process that is gone, or lingers, holds nothing."""
        lease = self._leases.get(name)
        if lease is None or lease.expires_at_s <= now:
            return None
        return (lease.node, lease.epoch) if self._may_hold(lease.node, lease.epoch) else None

    def _may_hold(self, name: str, epoch: int) -> bool:
        proc = self._fleet.procs.get((name, epoch))
        if proc is not None:
            return proc.role is Role.SUCCESSOR
        return self._fleet.current(name, epoch) is not None

    def _make_room(self, name: str, now: float) -> tuple[Forget, ...] | None:
        """The ended leases that go so that a new one may come; None where none has ended."""
        if name in self._leases or len(self._leases) < LEASES_MAX:
            return ()
        ended = [other for other in self._leases if self._holder(other, now) is None]
        return self._forget(ended) or None

    def _release(self, name: str, ref: Ref) -> Effects:
        lease = self._leases.get(name)
        if lease is None or (lease.node, lease.epoch) != (ref.peer.name, ref.peer.epoch):
            return []
        return [Keep(self._forget([name]))]

    def _gone(self, node: str, epoch: int) -> Effects:
        held = [
            name
            for name, lease in self._leases.items()
            if (lease.node, lease.epoch) == (node, epoch)
        ]
        return [Keep(self._forget(held))] if held else []

    def _forget(self, names: list[str]) -> tuple[Forget, ...]:
        for name in names:
            del self._leases[name]
        return tuple(Forget(LeaseRecord, name) for name in names)

    def _stored(self, event: LeaseStored) -> Effects:
        node = event.ref.peer.name
        if not event.error:
            return [Reply(event.ref, LeaseReply(True, node))]
        self._leases.pop(event.name, None)
        return [Refuse(event.ref, ErrorBody("E_STORE", event.error, "retry", retryable=True))]
