"""What others have said and nobody has handled yet: lanes, doubles, receipts, credit. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from shard_node.peer.senders import SPAN_MAX, Guest, Outcome, Sender
from shard_node.wire.batch import Flag, Message, Receipts
from shard_node.wire.credit import Handled
from shard_node.wire.header import Header, Kind
from shard_node.wire.identity import is_letter
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import (
    BATCH_MAX_MESSAGES,
    CREDIT_LENT_BYTES,
    CREDIT_LENT_MESSAGES,
    CREDIT_MAX_BYTES,
    CREDIT_MAX_MESSAGES,
    CREDIT_MIN_MESSAGES,
    CREDIT_RESERVE_MESSAGES,
    SEND_WINDOW_MESSAGES,
)

SLICE_MESSAGES: Final = 32
"""Handled before the lanes are looked at again."""
STARVE_SLICES: Final = 16
"""Slices of upper lanes after which a lane that waits below gets one."""
SERVICE_S: Final = 0.004
"""How much work the broker may have here in advance."""
SMOOTHING: Final = 0.125
REQUESTS_REMEMBERED_MAX: Final = SEND_WINDOW_MESSAGES + CREDIT_RESERVE_MESSAGES + BATCH_MAX_MESSAGES
"""Of one sender: as many as it may have sent that nobody has told it of."""
GUESTS_MAX: Final = 4096
"""Senders that are no nodes: clients, dead letters. Of nodes there are as many as planned."""
FORGET_S: Final = 60.0
"""Of a guest that has been quiet for this and the longest ttl that it gave, nothing can come
again."""
RANGES_MAX: Final = 1024
"""Ranges and failures in one message of receipts."""

_REQUEST: Final = int(Kind.REQUEST)
_REROUTED: Final = int(Flag.REROUTED)


class Arrival:
    """A BATCH that came. ``at`` is the next message to start, ``left`` how many have not
    ended. ``credit`` is the registration it was sent under; 0: it came without credit.
    ``lent``: a handler of it waits, so that its bytes do not count."""

    __slots__ = ("at", "credit", "epoch", "flags", "lane", "left", "lent", "messages", "name",
                 "sender", "sent_at", "size")  # fmt: skip

    def __init__(
        self, head: Header, messages: list[Message], name: str, epoch: int, size: int, credit: int
    ) -> None:
        self.messages, self.name, self.epoch = messages, name, epoch
        self.lane, self.flags, self.sent_at = int(head.lane), head.flags, head.sent_at
        self.sender = head.sender
        self.size, self.credit, self.lent = size, credit, False
        self.at = 0
        self.left = head.count


class Slice(NamedTuple):
    """Messages to start now, in order."""

    arrival: Arrival
    messages: list[Message]


_Process = tuple[str, int]
"""A sender: its name and its epoch, which is 0 for a client."""


class Inbox:
    """The lanes of one node's arrivals."""

    def __init__(self) -> None:
        self.doubles = 0
        self.tellings = 0
        self.has_receipts = False
        """Whether receipts are due."""
        self.waiting = 0
        """Messages that are not started."""
        self.window = CREDIT_MIN_MESSAGES
        self._lanes: tuple[deque[Arrival], ...] = tuple(deque() for _ in Lane)
        self._passed_over = [0, 0, 0, 0]
        self._senders: dict[_Process, Sender] = {}
        self._newest: dict[str, int] = {}
        self._guests: OrderedDict[_Process, Guest] = OrderedDict()
        self._receipts: dict[tuple[str, int, int], _Pending] = {}
        self._registration = 1
        self._messages = self._bytes = self._told = self._told_bytes = 0
        self._service_s = SERVICE_S / CREDIT_MAX_MESSAGES
        self._lent = self._suspended = self._suspended_before = 0
        self._lent_bytes = self._suspended_bytes = 0

    # --- arrivals and slices

    def push(self, head: Header, messages: list[Message], name: str, epoch: int, size: int) -> None:
        """A BATCH came. ``messages`` are those of it that are not over yet, ``size`` is its
        body's, in bytes."""
        if not messages:
            self.refused(head.count, size)
        else:
            arrival = Arrival(head, messages, name, epoch, size, self._registration)
            if head.count > len(messages):
                self.handled(arrival, head.count - len(messages))
            self._lanes[arrival.lane].append(arrival)
            self.waiting += len(messages)
        key = name, epoch
        if (not epoch or key in self._guests) and head.flags & Flag.KEPT:
            ttl_ms = head.ttl_ms or max((m.ttl_ms for m in messages), default=0)
            guest = self._guest(key)
            guest.ttl_ms = max(guest.ttl_ms, ttl_ms)
        if head.low:
            sender = self._senders.get(key)
            if sender is not None:
                sender.lanes[head.lane].trim(head.low)

    def take(self) -> Slice | None:
        """The next messages to start: of the most urgent lane, now and then of a lower one."""
        lane = self._lane()
        if lane is None:
            return None
        queue = self._lanes[lane]
        arrival = queue[0]
        at = arrival.at
        messages = arrival.messages[at : at + SLICE_MESSAGES]
        arrival.at = at + len(messages)
        if arrival.at >= len(arrival.messages):
            queue.popleft()
        self.waiting -= len(messages)
        return Slice(arrival, messages)

    def _lane(self) -> int | None:
        chosen = None
        for lane, queue in enumerate(self._lanes):
            if not queue:
                continue
            if chosen is None:
                chosen = lane
                continue
            self._passed_over[lane] += 1
            if self._passed_over[lane] >= STARVE_SLICES:
                chosen = lane
                break
        if chosen is not None:
            self._passed_over[chosen] = 0
        return chosen

    # --- credit

    def handled(self, arrival: Arrival, count: int) -> None:
        """So many messages of an arrival have ended."""
        arrival.left -= count
        if arrival.credit == self._registration:
            self._messages += count
            if arrival.left == 0:
                self._bytes += arrival.size
                if arrival.lent:
                    self._suspended_bytes -= arrival.size
                    self._lend()

    def suspended(self, arrival: Arrival, count: int) -> None:
        """The handlers of so many messages wait for something: that takes no time of the
        node, and their credit is given back now, up to CREDIT_LENT_MESSAGES and _BYTES."""
        if arrival.credit != self._registration:
            self._suspended_before += count if arrival.credit else 0
            return
        self._suspended += count
        if not arrival.lent:
            arrival.lent = True
            self._suspended_bytes += arrival.size
        self._lend()

    def late(self, arrival: Arrival) -> None:
        """A message has ended whose handler had waited."""
        if arrival.credit == self._registration:
            self._suspended -= 1
        elif arrival.credit:
            self._suspended_before -= 1
        self.handled(arrival, 1)
        self._lend()

    def _lend(self) -> None:
        """Those from before the last registration take from what may be lent."""
        most = CREDIT_LENT_MESSAGES - self._suspended_before
        self._lent = min(self._suspended, most) if most > 0 else 0
        self._lent_bytes = self._suspended_bytes
        if self._lent_bytes > CREDIT_LENT_BYTES:
            # Who has handled all messages has handled all bytes: one is kept back.
            self._lent_bytes = CREDIT_LENT_BYTES
            self._lent = max(0, min(self._lent, self._suspended - 1))

    def refused(self, count: int, size: int) -> None:
        """A BATCH that cannot be read, or holds answers only, is over at once."""
        self._messages += count
        self._bytes += size

    def served(self, count: int, elapsed_s: float) -> None:
        """``count`` messages were started in ``elapsed_s``: the window follows."""
        self._service_s += SMOOTHING * (elapsed_s / count - self._service_s)
        fit = int(SERVICE_S / self._service_s) if self._service_s > 0 else CREDIT_MAX_MESSAGES
        if fit > CREDIT_MAX_MESSAGES:
            fit = CREDIT_MAX_MESSAGES
        self.window = fit if fit > CREDIT_MIN_MESSAGES else CREDIT_MIN_MESSAGES

    @property
    def news(self) -> bool:
        """Whether the broker has not been told of all that was handled."""
        return self._messages + self._lent > self._told

    @property
    def due(self) -> bool:
        """Whether it has to be told now: it might hold something back because of it."""
        return (self._messages + self._lent - self._told) * 4 >= self.window or (
            self._bytes + self._lent_bytes - self._told_bytes
        ) * 4 >= CREDIT_MAX_BYTES

    def credit(self) -> Handled:
        """What to tell the broker; ``told`` says that it went out."""
        messages = max(self._messages + self._lent, self._told)
        size_bytes = max(self._bytes + self._lent_bytes, self._told_bytes)
        return Handled(messages, size_bytes, self.window, CREDIT_MAX_BYTES)

    def told(self, credit: Handled) -> None:
        """The broker was sent this."""
        self.tellings += 1
        self._told, self._told_bytes = credit.messages, credit.size_bytes

    def registered(self) -> Handled:
        """A broker counts from nothing: the first word to it."""
        self._registration += 1
        self._messages = self._bytes = self._told = self._told_bytes = 0
        self._suspended_before += self._suspended
        self._lent = self._suspended = self._lent_bytes = self._suspended_bytes = 0
        return self.credit()

    # --- doubles

    def is_new(self, arrival: Arrival, message: Message) -> bool:
        """Whether a MESSAGE or REQUEST is to be handled; what was handled before is
        receipted again."""
        sender = self._senders.get((arrival.name, arrival.epoch))
        if sender is None:
            sender = self._sender(arrival)
        if message.kind == _REQUEST:
            return self._new_request(sender, message.number)
        numbers, number = sender.lanes[arrival.lane], message.number
        if number < numbers.floor or number in numbers.seen:
            self.doubles += 1
            ended = numbers.seen.get(number)
            if ended is not None:
                self._receipt(arrival, number, ended[0])
            return False
        numbers.seen[number] = None
        if number > numbers.newest:
            numbers.newest = number
            if len(numbers.seen) > SPAN_MAX:
                numbers.trim(0)
        return True

    def ended(self, arrival: Arrival, message: Message, outcome: Outcome) -> None:
        """A MESSAGE was handled, or could not be."""
        sender = self._senders.get((arrival.name, arrival.epoch))
        if sender is not None:
            numbers = sender.lanes[arrival.lane]
            if message.number in numbers.seen:
                numbers.seen[message.number] = (outcome,)
        self._receipt(arrival, message.number, outcome)

    def sender_gone(self, name: str, epoch: int) -> None:
        """A process is dead. What it sent again may still lie here, unread behind the news of
        its end, so it is remembered as long as one that may come back."""
        if (name, epoch) in self._senders:
            self._guest((name, epoch))

    def _guest(self, key: _Process) -> Guest:
        """One that speaks now."""
        guests = self._guests
        guest = guests.get(key)
        if guest is None:
            guest = guests[key] = Guest()
            if len(guests) > GUESTS_MAX:
                self._senders.pop(guests.popitem(last=False)[0], None)
        else:
            guest.heard = True
            guests.move_to_end(key)
        return guest

    def forget(self, now: float) -> None:
        """Forget guests of whom nothing can come again."""
        for key, guest in list(self._guests.items()):
            if guest.heard:
                guest.heard, guest.quiet_at = False, now
            elif now - guest.quiet_at > FORGET_S + guest.ttl_ms / 1000:
                del self._guests[key]
                self._senders.pop(key, None)
                if self._newest.get(key[0]) == key[1]:
                    del self._newest[key[0]]

    def _sender(self, arrival: Arrival) -> Sender:
        """One that is heard for the first time. A node may have several processes: each has
        numbers of its own, and all but the newest may have ended unheard."""
        name, epoch = key = arrival.name, arrival.epoch
        sender = self._senders[key] = Sender()
        if not epoch or is_letter(name):
            self._guest(key)
            return sender
        newest = self._newest.get(name, epoch)
        self._newest[name] = max(newest, epoch)
        if newest != epoch:
            self._guest((name, min(newest, epoch)))
        return sender

    def _new_request(self, sender: Sender, correlation: int) -> bool:
        requests = sender.requests
        if correlation in requests:
            self.doubles += 1
            return False
        requests.add(correlation)
        sender.newest.append(correlation)
        if len(requests) > REQUESTS_REMEMBERED_MAX:
            requests.discard(sender.newest.popleft())
        return True

    # --- receipts

    def _receipt(self, arrival: Arrival, number: int, outcome: Outcome) -> None:
        self.has_receipts = True
        key = (arrival.name, arrival.epoch, arrival.lane)
        pending = self._receipts.get(key)
        if pending is None:
            pending = self._receipts[key] = _Pending()
        if outcome is not None:
            pending.failed.append((number, *outcome))
        elif arrival.flags & _REROUTED:
            pending.rerouted.append(number)
        else:
            pending.delivered.append(number)

    def receipts(self) -> list[tuple[str, int, Receipts]]:
        """All receipts that are due: sender, its epoch, body."""
        self.has_receipts = False
        found, self._receipts = self._receipts, {}
        return [
            (name, epoch, body)
            for (name, epoch, lane), pending in found.items()
            for body in pending.bodies(lane)
        ]


class _Pending:
    """Receipts that were not sent yet."""

    __slots__ = ("delivered", "failed", "rerouted")

    def __init__(self) -> None:
        self.delivered: list[int] = []
        self.rerouted: list[int] = []
        self.failed: list[tuple[int, str, str]] = []

    def bodies(self, lane: int) -> list[Receipts]:
        """As few as hold them all within RANGES_MAX."""
        delivered, rerouted = ranges(self.delivered), ranges(self.rerouted)
        most = max(len(delivered), len(rerouted), len(self.failed))
        return [
            Receipts(
                lane,
                delivered[at : at + RANGES_MAX],
                rerouted[at : at + RANGES_MAX],
                self.failed[at : at + RANGES_MAX],
            )
            for at in range(0, most, RANGES_MAX)
        ]


def ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as ranges, both ends included."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
