"""The asyncio shell of a node's conversation with its peers.

It belongs to one loop and one socket, which the broker's client lends it. Whatever is put
into the outbox leaves at the end of the loop's turn, or at once where a batch is full.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from shard_node.errors import BrokerUnavailable, Undeliverable
from shard_node.peer import failures
from shard_node.peer.answers import Answers
from shard_node.peer.asks import Ask, Asks
from shard_node.peer.dispatch import Dispatcher
from shard_node.peer.frames import Frame, Line
from shard_node.peer.handlers import Handlers
from shard_node.peer.inbox import Arrival, Inbox
from shard_node.peer.outbox import Outbox
from shard_node.peer.rooms import Rooms
from shard_node.peer.stepping import Stepper
from shard_node.wire.batch import Message, decode_batch
from shard_node.wire.codec import WireError, decode_body, encode_body, encode_header
from shard_node.wire.credit import Entry, Forwarded, Handled
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import parse_peer
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import CREDIT_TELL_S
from shard_node.wire.targets import BROKER
from shard_node.wire.topics import NODE_GONE

_log = logging.getLogger(__name__)

TURN_SLICES: Final = 8
"""Slices of handlers before the loop's other work has its turn."""
EPOCH_BITS: Final = 32
SENDERS_CACHED_MAX: Final = 4096
_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)
_EVENT: Final = int(Kind.EVENT)


class Plane:
    """One node's peers. ``epoch`` is that of this process; handlers may be added before
    ``open``."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.handlers = Handlers()
        self.outbox = Outbox()
        self.rooms = Rooms(self.outbox)
        self.asks = Asks((epoch & 0xFFFF) << EPOCH_BITS)
        self.inbox = Inbox()
        self.answers = Answers(epoch, self.asks, self.inbox, self.outbox)
        self.debug = False
        self.rejected = 0
        self.loop: asyncio.AbstractEventLoop | None = None
        self.done: asyncio.Future[None] | None = None
        """A future that is done: what ``publish`` returns where nothing has to wait."""
        self.burst = 0
        """Messages published since the loop's turn began."""
        self._send: Callable[[bytes, bytes], bool] = _refused
        self._readable: Callable[[], bool] = _never
        self._pump: Callable[[], None] = _nothing
        self._stepper: Stepper | None = None
        self.dispatcher: Dispatcher | None = None
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._credit_timer: asyncio.TimerHandle | None = None
        self._fresh = True
        self._senders: dict[str, tuple[str, int]] = {}

    # --- opening and closing

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        send: Callable[[bytes, bytes], bool],
        readable: Callable[[], bool],
        pump: Callable[[], None],
    ) -> None:
        """Begin on a loop. ``send`` takes a frame or says no, ``readable`` says whether one
        has come, ``pump`` writes and has handlers take their turn."""
        self.loop, self._send, self._readable, self._pump = loop, send, readable, pump
        self.done = loop.create_future()
        self.done.set_result(None)
        self._stepper = Stepper(loop)
        self.dispatcher = Dispatcher(
            self.handlers,
            self.inbox,
            self._stepper,
            answer=self.answers.answer,
            on_late=self.answered,
            debug=self.debug,
        )

    def close(self) -> None:
        """Send what can be sent at once; fail what is open."""
        if self.loop is None:
            return
        self.flush()
        self.loop = None
        self.outbox.up = False
        for handle in (self._soon, self._timer, self._credit_timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = self._credit_timer = None
        if self._stepper is not None:
            self._stepper.close()
        for ask in self.asks.all():
            self.answers.fail(ask, Undeliverable("the node stops", code="E_NO_BROKER"))
        self.rooms.give(everybody=True)

    def link_up(self) -> None:
        """The node is registered: send what waits."""
        fresh, self._fresh = self._fresh, False
        if fresh:
            self._tell(self.inbox.registered())
        self.outbox.up = True
        self.wake()

    def link_away(self) -> None:
        """The broker is silent; it may come back and remember."""
        self.outbox.up = False

    def link_lost(self) -> None:
        """The broker is gone: the next one knows nothing."""
        self._fresh = True
        self.outbox.link_lost()

    # --- saying something

    def wake(self) -> None:
        """Send at the end of this turn of the loop."""
        if self._soon is None and self.loop is not None:
            self._soon = self.loop.call_soon(self._end_of_turn)

    def answered(self) -> None:
        """A handler has ended that had waited. The last one's answer goes at once; while
        others run, answers are packed."""
        if self._soon is None:
            if self._stepper is not None and len(self._stepper.running) <= 1:
                self.flush()
            else:
                self.wake()

    def begin(self, line: Line, message: Message, timeout_s: float) -> Ask:
        """Put a MESSAGE or REQUEST. Its waiter is a future of what becomes of it: the reply's
        bytes, or how it was delivered; ``answers.end`` withdraws it.

        Raises QueueFull or BrokerUnavailable; the future, what ``failures`` makes.
        """
        loop, outbox, asks, lane = self.loop, self.outbox, self.asks, line.lane
        if loop is None:
            raise BrokerUnavailable(f"{message.topic}: this node is not connected")
        if asks.crowded or outbox.refuses(lane):
            raise failures.refused(message.topic, lane, len(asks), outbox.waiting, up=outbox.up)
        deadline = time.monotonic() + timeout_s
        ask = Ask(message, lane, deadline, loop.create_future())
        # Where nobody else is at it, there is nothing to pack it with.
        frame = outbox.alone(line, message, ask) if asks.add(ask) else None
        if frame is not None:
            self._send_alone(frame, deadline - timeout_s, time.time())
        else:
            outbox.put(line, message, ask)
            if self._soon is None:
                self._soon = loop.call_soon(self._end_of_turn)
        if self._timer is None or deadline < self._timer_at:
            self._set_timer(deadline)
        return ask

    def full_batch(self) -> None:
        """A batch is full: send it now."""
        self.flush()
        self.wake()

    # --- frames that came

    def batch(self, head: Header, body: bytes) -> None:
        """A BATCH: answers are heard at once, the rest waits in its lane."""
        if head.forwarded:
            self._forwarded(head.forwarded)
        try:
            messages = decode_batch(body)
            if len(messages) != head.count:
                raise WireError("limit", "count")
            sender = self._senders.get(head.sender) or self._sender(head.sender)
        except WireError:
            self.rejected += 1
            self.inbox.refused(head.count, len(body))
            return
        if messages[0].kind != _EVENT:
            messages = self.answers.hear(messages)
        self.inbox.push(head, messages, *sender, len(body))

    def event(self, head: Header, body: bytes) -> None:
        """An event of the broker's own: one message in its frame, without credit."""
        if head.topic == NODE_GONE and not head.sender:
            self.answers.node_gone(body)
            self.wake()
        message = Message(int(Kind.EVENT), head.topic, body)
        name = head.sender.partition("#")[0]
        arrival = Arrival(head, [message], name, 0, 0, 0)
        if self.dispatcher is not None:
            self.inbox.handled(arrival, self.dispatcher.start(arrival, [message]))

    def credit(self, body: bytes) -> None:
        """Frames have left the broker."""
        try:
            self._forwarded(decode_body(body, Forwarded).frames)
        except WireError:
            self.rejected += 1

    def _forwarded(self, entries: list[Entry]) -> None:
        self.outbox.forwarded(entries)
        if self.rooms.waiting:
            self.rooms.give()

    def bounce(self, head: Header, body: bytes) -> None:
        """A frame comes back."""
        self.answers.bounce(head, body)

    def _sender(self, routing_id: str) -> tuple[str, int]:
        peer = parse_peer(routing_id.encode(errors="replace"))
        if peer is None:
            raise WireError("identity", routing_id)
        if len(self._senders) >= SENDERS_CACHED_MAX:
            self._senders.clear()
        found = self._senders[routing_id] = (peer.name, peer.epoch)
        return found

    # --- turns

    def turn(self) -> None:
        """Start handlers, a few slices of them, then send."""
        inbox, dispatcher = self.inbox, self.dispatcher
        if inbox.waiting and dispatcher is not None:
            clock = time.perf_counter
            before = clock()
            for _ in range(TURN_SLICES):
                taken = inbox.take()
                if taken is None:
                    break
                arrival, messages = taken
                inbox.handled(arrival, dispatcher.start(arrival, messages))
                after = clock()
                inbox.served(len(messages), after - before)
                before = after
                if self.outbox.urgent:  # an answer waits for no other slice
                    self._send_frames()
                if inbox.due and self.outbox.up:
                    self._tell(inbox.credit())
                if inbox.waiting and self._readable():
                    break
        self.flush()
        if inbox.waiting:
            self.wake()

    def flush(self) -> None:
        """Send receipts, frames and credit, as far as the window and the socket let them."""
        if self.loop is None:
            return
        inbox, outbox = self.inbox, self.outbox
        if outbox.up:
            if inbox.has_receipts:
                self.answers.put_receipts()
            if outbox.ready:
                self._send_frames()
            if inbox.news:
                if inbox.due:
                    self._tell(inbox.credit())
                elif self._credit_timer is None:
                    self._watch_credit()
        if self.rooms.waiting:
            self.rooms.give()

    def _send_frames(self) -> None:
        outbox, now, wall = self.outbox, time.monotonic(), time.time()
        only = outbox.only()
        if only is not None:
            self._send_alone(only, now, wall)
            return
        while True:
            frame = outbox.next()
            if frame is None:
                return
            if self._send_frame(frame, now, wall):
                outbox.sent(frame)
            elif not frame.over:
                return

    def _send_alone(self, frame: Frame, now: float, wall: float) -> None:
        if self._send_frame(frame, now, wall):
            self.outbox.went(frame)
        else:
            self.outbox.delayed(frame)

    def _send_frame(self, frame: Frame, now: float, wall: float) -> bool:
        """The first frame carries the credit that nobody has been told of."""
        inbox = self.inbox
        credit = inbox.credit() if inbox.news else None
        low = self.asks.low(frame.line.lane, frame.asks)
        try:
            head, body = self.outbox.encode(frame, now, wall, low, credit)
        except _UNENCODABLE as error:
            self.answers.spoilt(frame, error)
            return False
        if not self._send(head, body):
            return False
        if credit is not None:
            inbox.told(credit)
        return True

    def _watch_credit(self) -> None:
        if self.loop is not None:
            self._credit_timer = self.loop.call_later(
                CREDIT_TELL_S, self._credit_overdue, self.inbox.tellings
            )

    def _credit_overdue(self, tellings: int) -> None:
        """No frame has carried the credit: it goes by itself."""
        self._credit_timer = None
        inbox = self.inbox
        if not (inbox.news and self.outbox.up and self.loop is not None):
            return
        if inbox.tellings != tellings:
            self._watch_credit()
            return
        self._tell(inbox.credit())

    def _end_of_turn(self) -> None:
        self._soon = None
        self.burst = 0
        self._pump()

    def _tell(self, credit: Handled) -> None:
        head = header(Kind.CREDIT, BROKER, "", lane=Lane.CONTROL)
        if self._send(encode_header(head), encode_body(credit)):
            self.inbox.told(credit)

    # --- deadlines

    def _set_timer(self, deadline: float) -> None:
        assert self.loop is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay_s = max(0.0, deadline - time.monotonic())
        self._timer = self.loop.call_later(delay_s, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        now = time.monotonic()
        self.answers.overdue(now)
        if self.outbox.give_up(now):
            self.wake()
        times = (self.asks.next_deadline(), self.outbox.untold_at)
        deadline = min((at for at in times if at is not None), default=None)
        if deadline is not None and self.loop is not None:
            self._set_timer(deadline)


def _nothing() -> None:
    """Nobody lends a socket yet."""


def _refused(_head: bytes, _body: bytes) -> bool:
    return False


def _never() -> bool:
    return False
