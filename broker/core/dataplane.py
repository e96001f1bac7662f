"""What peers say to each other, as the broker sees it: BATCH frames, credit, bounces.

A kept frame is never dropped in silence: it goes on, waits within limits, or comes back as a
BOUNCE, and then it is a dead letter too. A sender has its window back when its frame left,
or when its receiver is stuck: it holds messages and has given no credit for STUCK_S. A slow
receiver slows its senders; a stuck one does not stop them, and its queue's limit rules.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.core.batches import Destination, Stock
from broker.core.checks import fault, is_ours, is_sound
from broker.core.ends import Ends
from broker.core.fleet import Fleet
from broker.core.frames import Batch, Fan
from broker.core.letters import again
from broker.core.parking import Parking
from broker.core.queues import Outbox
from broker.core.resolve import Resolver, Route
from broker.core.senders import Senders
from broker.core.waiting import Deadlines
from shard_node.wire import identity
from shard_node.wire.batch import Flag
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import WireError, decode_body
from shard_node.wire.credit import Handled
from shard_node.wire.header import Header
from shard_node.wire.limits import PARKED_MAX_S, STUCK_S
from shard_node.wire.targets import Broker, Node

UNREACHABLE_RETRY_S: Final = 0.25
"""How soon the socket is tried again for a registered process that was not connected."""
RETRY_TTL_MS: Final = 30_000
"""What a dead letter gets for its second try."""
_FLAGS: Final = int(Flag.KEPT | Flag.RESENT | Flag.ANSWERS)
_REROUTED: Final = int(Flag.REROUTED)


class DataPlane:
    """All BATCH frames in the broker. Shares the fleet and the outbox of control frames."""

    def __init__(self, fleet: Fleet, outbox: Outbox) -> None:
        self._fleet = fleet
        self._outbox = outbox
        self._counts = fleet.counts
        self._resolver = Resolver(fleet)
        self._destinations: dict[bytes, Destination] = {}
        self.parking = Parking()
        self._stock = Stock()
        self._ready: dict[bytes, Destination] = {}
        self._paused: dict[bytes, Destination] = {}
        self._fresh: deque[Batch] = deque()
        self._starved: dict[bytes, Destination] = {}
        self._deadlines = Deadlines()
        self.senders = Senders(fleet.counts, outbox)
        self._ends = Ends(fleet, self.senders)
        self.express: list[tuple[Destination, Batch]] = []
        """Frames that may go at once; the shell sends them, or says ``delayed``, before it
        gives the next frame."""
        self.letters = fleet.letters

    # --- from the socket

    def receive(
        self, routing_id: bytes, peer: identity.Peer, head: Header, body: bytes, now: float
    ) -> None:
        """Takes a BATCH in. Raises WireError for one that cannot be."""
        self.senders.now = now
        batch = Batch(routing_id.decode(), head, body, now)
        if not is_ours(self._fleet, peer):
            self._refuse(batch, *fault(peer))
            return
        if head.handled is not None:
            self._handled(routing_id, head.handled, now)
        if not is_sound(head, len(body)):
            self._refuse(batch, "batch", "E_REFUSED", "its header cannot be true")
        elif type(head.target) is Node and identity.is_letter(head.target.name):
            self._counts["letters_answered"] += 1
            self.senders.release(batch, "")
        else:
            batch.flags &= _FLAGS
            self._forward(batch, peer.name, now)

    def credit(
        self, routing_id: bytes, peer: identity.Peer, head: Header, body: bytes, now: float
    ) -> None:
        """A receiver gives room. Raises WireError for what is no Handled."""
        if type(head.target) is not Broker:
            raise WireError("target")
        if not is_ours(self._fleet, peer):
            raise WireError("old_epoch")
        self._handled(routing_id, decode_body(body, Handled), now)

    def _handled(self, routing_id: bytes, handled: Handled, now: float) -> None:
        destination = self._destinations.get(routing_id)
        if destination is None:
            raise WireError("old_epoch")
        if not destination.credit(handled.messages, handled.size_bytes, now):
            self._fleet.reject("credit")
        destination.size_window(handled.window_messages, handled.window_bytes)
        destination.heard_at, destination.stuck = now, False
        if self._starved:
            self._starved.pop(routing_id, None)
        if destination.frames or destination.paused_until:
            self._wake(destination)

    def _refuse(self, batch: Batch, reason: str, code: str, text: str) -> None:
        self._fleet.reject(reason)
        if batch.kept:
            self.senders.bounce(batch, ErrorBody(code, text))
        self.senders.release(batch, "")

    # --- to a destination, to wait, or back

    def _forward(self, batch: Batch, sender_name: str, now: float) -> None:
        head = batch.head
        if self._resolver.ruled:
            rule = self._resolver.rule(head)
            if rule is not None and rule.lane is not None:
                batch.queue_lane = int(rule.lane)
        if batch.deadline and batch.deadline <= now:
            self._ends.fail(batch, "E_EXPIRED", "its deadline passed while it waited", now)
            return
        if type(head.target) is Node and not head.pin:  # the short way of most
            owner = self._fleet.table.node(head.target.name)
            if owner is not None:
                self._put(batch, owner.routing_id, now)
                return
        route = self._resolver.route(head, sender_name, now)
        if route.rerouted:
            batch.flags |= _REROUTED
        if len(route.owners) == 1 and not route.several:
            self._put(batch, route.owners[0].routing_id, now)
        elif route.owners:
            self._fan_out(batch, route, now)
        elif route.park:
            self._park(batch, route.park, now)
        else:
            self._ends.fail(batch, route.code, route.text, now)

    def _put(self, batch: Batch, routing_id: bytes, now: float) -> None:
        destination = self._destinations.get(routing_id)
        if destination is None:
            self._ends.fail(batch, "E_UNREACHABLE", "its receiver is not registered", now)
            return
        if not destination.frames:
            if self._express(destination, batch):
                return
            destination.heard_at = now
        self._queue(destination, batch, now)

    def _express(self, destination: Destination, batch: Batch) -> bool:
        """Lets a frame past the lanes where nothing waits and there is credit for it."""
        routing_id = destination.routing_id
        if (
            destination.paused_until
            or not destination.fits(batch)
            or (len(self._outbox) and self._outbox.depth(routing_id))
        ):
            return False
        destination.charge(batch)
        self.express.append((destination, batch))
        return True

    def delayed(self, destination: Destination, batch: Batch, now: float) -> None:
        """The socket did not take an express frame: it waits in its lane."""
        destination.refund(batch)
        destination.heard_at = now
        self._queue(destination, batch, now)

    def _queue(self, destination: Destination, batch: Batch, now: float) -> None:
        taken, pushed_out = destination.put(batch)
        for old in pushed_out:
            self._ends.drop(old)
        if not taken:
            self._ends.full(batch, destination, now)
            return
        self._fresh.append(batch)
        if destination.stuck:
            self.senders.release(batch, "")
        if not destination.paused_until:
            self._ready[destination.routing_id] = destination

    def _fan_out(self, batch: Batch, route: Route, now: float) -> None:
        ends = [self._destinations.get(owner.routing_id) for owner in route.owners]
        there = [destination for destination in ends if destination is not None]
        if batch.kept:
            full = next((end for end in there if not end.has_room(batch)), None)
            if full is not None:  # to all of them, or back to its sender whole
                self._ends.full(batch, full, now)
                return
        fan = Fan(len(there))
        for destination in there:
            self._put(batch.copy(fan), destination.routing_id, now)
        if not there:
            self._ends.fail(batch, "E_UNREACHABLE", "nobody listens", now)

    def _park(self, batch: Batch, name: str, now: float) -> None:
        taken, pushed_out = self.parking.put(batch, name)
        for old in pushed_out:
            self._ends.drop(old)
        if not taken:
            self._ends.full(batch, None, now)
            return
        self._counts["parked"] += 1
        if not batch.deadline:
            batch.deadline = batch.arrived + PARKED_MAX_S
        self._fresh.append(batch)
        self.senders.release(batch, "")

    # --- to the socket

    @property
    def idle(self) -> bool:
        """Whether no frame waits."""
        return not (self._ready or self._fresh or self._starved or self._paused or self._deadlines)

    def destination(self, routing_id: bytes) -> Destination | None:
        """The lanes of a registered process."""
        return self._destinations.get(routing_id)

    @property
    def sendable(self) -> bool:
        """Whether a frame waits that may go at once."""
        return bool(self._ready)

    def ready(self) -> list[Destination]:
        """Destinations that may have something to be sent, each in its turn."""
        return list(self._ready.values())

    def rest(self, destination: Destination) -> None:
        """Nothing goes to a destination for now: no frame, or no credit."""
        self._ready.pop(destination.routing_id, None)
        if len(destination):
            self._starved[destination.routing_id] = destination

    def sent(self, destination: Destination, batch: Batch) -> None:
        """A frame of a lane went out."""
        destination.sent(batch)
        self.went(destination, batch)

    def went(self, destination: Destination, batch: Batch) -> None:
        """An express frame went out."""
        batch.gone = True
        self._counts["messages_forwarded"] += batch.count
        self.senders.release(batch, destination.text)
        batch.body = b""

    def unreachable(self, routing_id: bytes, now: float) -> None:
        """Nobody is connected under a routing id; a registered process may come back."""
        destination = self._destinations.get(routing_id)
        if destination is None:
            return
        destination.write_off()
        destination.paused_until = now + UNREACHABLE_RETRY_S
        self._stick(destination)
        self._ready.pop(routing_id, None)
        self._paused[routing_id] = destination

    def turn(self, now: float) -> None:
        """The end of a loop's turn: who is stuck, what is overdue, and the senders' credit."""
        fresh = self._fresh
        stuck_at = now - STUCK_S
        while fresh and (fresh[0].gone or fresh[0].arrived <= stuck_at):
            batch = fresh.popleft()
            if batch.deadline and not batch.gone:
                self._deadlines.add(batch)
        for waiting in (self._starved, self._ready):
            for destination in list(waiting.values()) if waiting else ():
                if destination.heard_at <= stuck_at and not destination.stuck:
                    self._stick(destination)
        if self._deadlines:
            for batch in self._deadlines.passed(now):
                self._expire(batch, now)
        if self._paused:
            for destination in [d for d in self._paused.values() if d.paused_until <= now]:
                self._resume(destination)

    def next_deadline(self) -> float | None:
        """When the next turn is due at the latest."""
        while self._fresh and self._fresh[0].gone:
            self._fresh.popleft()
        if self.idle:
            return self.senders.next_deadline()
        times = [self.senders.next_deadline()]
        if self._fresh:
            times.append(self._fresh[0].arrived + STUCK_S)
        if self._deadlines:
            times.append(self._deadlines.next())
        if self._paused:
            times += [destination.paused_until for destination in self._paused.values()]
        if self._starved:
            starved = (d for d in self._starved.values() if not d.stuck)
            times += [destination.heard_at + STUCK_S for destination in starved]
        return min((time for time in times if time is not None), default=None) if times else None

    def _stick(self, destination: Destination) -> None:
        """A receiver takes nothing: its senders have their window back, its limits rule."""
        destination.stuck = True
        for batch in destination.waiting():
            self.senders.release(batch, "")

    def _expire(self, batch: Batch, now: float) -> None:
        lanes = batch.home
        if lanes is None:
            return
        lanes.remove(batch)
        self.parking.removed(lanes, batch)
        self._ends.fail(batch, "E_EXPIRED", "its deadline passed while it waited", now)

    def _wake(self, destination: Destination) -> None:
        if destination.paused_until:
            self._resume(destination)
        elif len(destination):
            self._ready[destination.routing_id] = destination

    def _resume(self, destination: Destination) -> None:
        destination.paused_until = 0.0
        self._paused.pop(destination.routing_id, None)
        if len(destination):
            self._ready[destination.routing_id] = destination

    # --- who is there

    def joined(self, name: str, routing_id: bytes, now: float) -> None:
        """A process has registered: its credit begins anew, and what waited for it goes."""
        destination = self._destinations.get(routing_id)
        if destination is None:
            destination = self._destinations[routing_id] = Destination(routing_id)
            destination.stock = self._stock
        destination.reset()
        destination.heard_at = now
        self._starved.pop(routing_id, None)
        self._wake(destination)
        self._again(self._parked(name, routing_id), now)

    def gone(self, name: str, routing_id: bytes, now: float) -> None:
        """A process is dead: what it has not got waits for the next one, or comes back."""
        destination = self._destinations.pop(routing_id, None)
        self._ready.pop(routing_id, None)
        self._paused.pop(routing_id, None)
        self._starved.pop(routing_id, None)
        self.senders.forget(routing_id.decode(errors="replace"))
        left = [batch for end, batch in self.express if end is destination]
        self.express = [entry for entry in self.express if entry[0] is not destination]
        left += destination.take_all() if destination is not None else []
        self._again(left + self._parked(name, routing_id), now)

    def moved(self, name: str, routing_id: bytes, new: bytes, now: float) -> None:
        """What waits for a process goes where it is to go now: another may have its name, or
        some of its shards. Copies of what goes to several follow to ``new``, if there is one."""
        destination = self._destinations.get(routing_id)
        waiting = destination.take_all() if destination is not None else []
        self._starved.pop(routing_id, None)
        for batch in waiting:
            if batch.fan is not None:
                self._put(batch, new if new in self._destinations else routing_id, now)
        waiting = [batch for batch in waiting if batch.fan is None]
        self._again(waiting + self.parking.take(name), now)

    def _parked(self, name: str, routing_id: bytes) -> list[Batch]:
        label = routing_id.decode()
        found = self.parking.take(label) if label != name else []
        return found + self.parking.take(name)

    def fleet_changed(self, now: float) -> None:
        """A planned node may stay away for good: what waits for it is looked at again."""
        for name in self.parking.given_up(self._fleet):
            self._again(self.parking.take(name), now)

    def _again(self, waiting: list[Batch], now: float) -> None:
        for batch in waiting:
            if batch.fan is not None:  # the other copies have their own ends
                self._ends.fail(batch, "E_UNREACHABLE", "its receiver is gone", now)
            else:
                self._forward(batch, batch.sender.partition("#")[0], now)

    # --- dead letters

    def retry(self, numbers: tuple[int, ...], now: float) -> tuple[int, int]:
        """Sends letters again; how many went, and how many have no bytes left."""
        letters, skipped = self.letters.take(numbers, whole=True)
        for letter in letters:
            sender = identity.letter_sender(letter.number, self._fleet.settings.incarnation)
            self._forward(again(letter, sender, RETRY_TTL_MS, now), "", now)
        return len(letters), skipped
