"""The broker as one pure machine: an event and a time in, effects for the shell out.

Frames for peers go into ``outbox``, from which the shell sends while the sockets take them.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import Final

from broker.core.dataplane import DataPlane
from broker.core.depths import Depths
from broker.core.effects import (
    Ask,
    Commit,
    Effect,
    Effects,
    Emit,
    Keep,
    Log,
    Publish,
    Refuse,
    Reply,
    RetryLetters,
    Share,
    Tell,
)
from broker.core.events import (
    Asked,
    ClientGone,
    ClientJoined,
    Committed,
    Event,
    FrameReceived,
    Given,
    NodeGone,
    NodeRegistered,
    Outcome,
    PeerUnreachable,
    Promoted,
    StateCommitted,
    StateSettled,
    Tick,
    WrongParts,
)
from broker.core.fleet import Fleet
from broker.core.queues import Outbox
from broker.core.router import CLIENT, Router
from broker.core.settings import Settings
from broker.core.stateport import SharedState
from broker.services.registry import SERVED, SERVED_TO_CLIENTS, SERVICES, Service
from broker.services.stopping import given_up
from shard_node.wire import bodies
from shard_node.wire.identity import heartbeat_id, node_id
from shard_node.wire.topics import (
    COOLDOWN_ACQUIRE,
    GUILD_SYNC,
    HEARTBEAT,
    NODE_GONE,
    STATE_DO,
    STATE_GUILD,
    STATE_LOG,
    STATE_MARK,
    STATE_READ,
    STATE_SCAN,
    STATE_UPDATE,
)
from store.records import Durable

NOTHING: Final[Effects] = []
"""Of a frame that only passes through; nobody appends to it."""
OWN_DEADLINE: Final = frozenset(
    {
        HEARTBEAT,
        COOLDOWN_ACQUIRE,
        STATE_DO,
        STATE_UPDATE,
        GUILD_SYNC,
        STATE_READ,
        STATE_SCAN,
        STATE_GUILD,
        STATE_LOG,
        STATE_MARK,
    }
)
"""There are many of them, and each moves the deadline of its own service only."""
STATE_SERVICES: Final = ("state", "statereads", "forgetting", "retention")
"""Who has to do with the state's commits, of which there are many."""
REJECTS_LOGGED_S: Final = 1.0
"""Garbage is logged at most once in this; the line carries the counts."""


class Broker:
    """Router and services over one fleet. Not thread-safe: one loop drives it."""

    def __init__(
        self, settings: Settings, durable: Durable, now: float, shared: SharedState | None = None
    ) -> None:
        self.fleet = Fleet(settings, now, shared=shared or SharedState())
        self.outbox = Outbox(self.fleet.counts)
        served = {topic: entry[1] for topic, entry in SERVED.items()}
        self.plane = DataPlane(self.fleet, self.outbox)
        self.fleet.depths = Depths(self.plane, self.outbox)
        self.router = Router(self.fleet, self.outbox, self.plane, served)
        self._services: dict[str, Service] = {
            name: service(self.fleet, durable) for name, service in SERVICES.items()
        }
        self._outcomes: dict[int, Outcome | None] = {}
        self._next_token = 1
        self._rejects = Rejects()
        self._deadline: float | None = now
        self._deadlines: dict[str, float | None] = dict.fromkeys(self._services)

    def on(self, event: Event, now: float) -> Effects:
        """Takes an event in; returns what the shell has to do, in order."""
        effects: Effects = []
        self.router.touched = True
        match event:
            case FrameReceived(routing_id=routing_id, header=header, body=body):
                return self.frame(routing_id, header, body, now)
            case WrongParts():
                self.router.reject("parts")
            case PeerUnreachable(routing_id=routing_id):
                self.router.lose(routing_id)
                self.plane.unreachable(routing_id, now)
            case Committed():
                effects = self._committed(event, now)
            case Tick():
                self.router.expire(now)
                effects = self._work(event, now)
            case _:
                effects = self._work(event, now)
        return effects + self._rejects.look(self.fleet, now)

    def frame(self, routing_id: bytes, header: bytes, body: bytes, now: float) -> Effects:
        """Takes a frame of two parts in: the short way for what is not for the broker."""
        asked = self.router.receive(routing_id, header, body, now)
        if asked is not None:
            return self._work(asked, now) + self._rejects.look(self.fleet, now)
        if self.fleet.rejected_total != self._rejects.logged_total:
            self.router.touched = True
            return self._rejects.look(self.fleet, now)
        return NOTHING

    def next_deadline(self) -> float | None:
        """When the next Tick is due at the latest; the data plane has turns of its own."""
        times = (self._deadline, self.router.in_flight.next_deadline(), self._rejects.due_at)
        return min((time for time in times if time is not None), default=None)

    def _work(self, first: Event, now: float) -> Effects:
        """Hands an event, and all that follow from it, to the services."""
        out: Effects = []
        events = deque([first])
        several = False
        while events:
            event = events.popleft()
            for effect in self._dispatch(event, now):
                self._carry_out(effect, events, out, now)
            match event:
                case NodeRegistered(name=name, epoch=epoch):
                    self.plane.joined(name, node_id(name, epoch), now)
                case NodeGone():
                    self._gone(event, now)
                case Promoted(name=name, old_epoch=old, epoch=epoch):
                    self.plane.moved(name, node_id(name, old), node_id(name, epoch), now)
                case Given(source=source):
                    owner = self.fleet.table.node(source)
                    self.plane.moved(source, owner.routing_id if owner else b"", b"", now)
                case ClientJoined(name=name):
                    self.plane.joined(name, name.encode(), now)
                case ClientGone(name=name):
                    self._lose(name, name.encode(), 0, now)
            several = several or bool(events)
        if self.plane.parking.size_bytes:
            self.plane.fleet_changed(now)
        self._look_at_deadlines(first, several=several)
        return out

    def _look_at_deadlines(self, first: Event, *, several: bool) -> None:
        name = _alone(first) if not several else ""
        if name:
            due = self._deadlines[name]
            self._deadlines[name] = new = self._services[name].next_deadline()
            if due == new:
                return
        else:
            for name, service in self._services.items():
                self._deadlines[name] = service.next_deadline()
        times = [time for time in self._deadlines.values() if time is not None]
        self._deadline = min(times, default=None)

    def _gone(self, event: NodeGone, now: float) -> None:
        self.router.lose(heartbeat_id(event.name, event.epoch))
        self.fleet.shared.told.pop(f"{event.name}#{event.epoch}", None)
        self._lose(event.name, node_id(event.name, event.epoch), event.epoch, now)

    def _lose(self, name: str, routing_id: bytes, epoch: int, now: float) -> None:
        """A peer is dead. Senders learn which frames it got before they learn of its end."""
        self.router.lose(routing_id)
        self.plane.senders.flush()
        self.router.tell_all(NODE_GONE, bodies.NodeGone(name, epoch))
        self.plane.gone(name, routing_id, now)

    def _dispatch(self, event: Event, now: float) -> Effects:
        if isinstance(event, Asked):
            return self._services[_service_of(event)].on(event, now)
        effects: Effects = []
        for name in (
            STATE_SERVICES if isinstance(event, StateCommitted | StateSettled) else self._services
        ):
            effects += self._services[name].on(event, now)
        return effects

    def _carry_out(self, effect: Effect, events: deque[Event], out: Effects, now: float) -> None:
        match effect:
            case Reply(ref=ref, body=body):
                self.router.reply(ref, body)
            case Refuse(ref=ref, error=error):
                self.router.refuse(ref, error)
            case Ask(ref=ref, name=name, epoch=epoch, topic=topic, body=body):
                self.router.ask(ref, node_id(name, epoch), name, topic, body)
            case Tell(name=name, epoch=epoch, topic=topic, body=body):
                self.router.tell(node_id(name, epoch), name, topic, body)
            case Publish(topic=topic, body=body, sender=sender):
                self.router.publish(topic, body, sender)
            case Share(topic=topic, body=body, owners=owners, numbers=numbers):
                self.router.share(topic, body, owners, numbers)
            case RetryLetters(ref=ref, numbers=numbers):
                self.router.reply(ref, bodies.LettersDone(*self.plane.retry(numbers, now)))
            case Emit(event=event):
                events.append(event)
            case Keep():
                out.append(self._commit(effect))
            case _:
                out.append(effect)

    def _commit(self, keep: Keep) -> Commit:
        token = self._next_token
        self._next_token += 1
        self._outcomes[token] = keep.then
        return Commit(token, keep.changes)

    def _committed(self, event: Committed, now: float) -> Effects:
        outcome = self._outcomes.pop(event.token, None)
        self.fleet.warn("store", f"the store keeps nothing: {event.error}" if event.error else None)
        effects: Effects = []
        if event.error:
            self.fleet.counts["commits_failed"] += 1
            effects.append(Log("ERROR", f"a commit failed: {event.error}"))
            effects += given_up(event)
        if outcome is not None:
            effects += self._work(replace(outcome, error=event.error), now)
        return effects


def _alone(event: Event) -> str:
    """The service whose deadline alone an event can move; "" where it may be any."""
    if isinstance(event, Asked) and event.topic in OWN_DEADLINE:
        return _service_of(event)
    if isinstance(event, StateCommitted | StateSettled) and event.token > 0:
        return STATE_SERVICES[0]
    return ""


def _service_of(event: Asked) -> str:
    served = SERVED_TO_CLIENTS if event.ref.peer.role == CLIENT else SERVED
    return served.get(event.topic, SERVED[event.topic])[0]


class Rejects:
    """Turns counts of rejected frames into at most one line a second."""

    def __init__(self) -> None:
        self._logged: Counter[str] = Counter()
        self.logged_total = 0
        self._logged_at: float | None = None
        self.due_at: float | None = None

    def look(self, fleet: Fleet, now: float) -> Effects:
        """The line that is due, if one is."""
        if fleet.rejected_total == self.logged_total:
            return []
        if self._logged_at is not None and now < self._logged_at + REJECTS_LOGGED_S:
            self.due_at = self._logged_at + REJECTS_LOGGED_S
            return []
        text = f"{fleet.rejected_total - self.logged_total} frames rejected"
        fresh = dict(fleet.rejected - self._logged)
        self._logged, self.logged_total = fleet.rejected.copy(), fleet.rejected_total
        self._logged_at, self.due_at = now, None
        return [Log("WARNING", text, {"by_reason": fresh})]
