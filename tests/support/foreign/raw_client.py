"""A client of a fleet, written from shard-protocol(7) alone: pyzmq and msgpack, nothing of ours.

No threads, no loop of its own: ``step`` does what there is to do and returns, ``run_until``
steps until something is so. Every name in quotes below is a word of the page.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack
import zmq

VERSION = 1
EVENT, MESSAGE, REQUEST, REPLY, ERROR, RECEIPT, CREDIT, BATCH, BOUNCE = range(9)
CONTROL, HIGH, NORMAL, LOW = range(4)
KEPT, RESENT, REROUTED = 1, 2, 4
BROKER = ["b"]

HEADER_MAX_BYTES = 4096
BODY_MAX_BYTES = 1048576
BATCH_MAX_MESSAGES = 256
BATCH_MAX_BYTES = 131072
LINE_WINDOW_MESSAGES = 2048
SEND_WINDOW_MESSAGES = 16384
SEND_WINDOW_BYTES = 8388608
RESERVE_MESSAGES = 64
WINDOW_MESSAGES = 256
SPAN_MAX = 32768
REQUESTS_REMEMBERED = 16704
RANGES_MAX = 1024
REGISTER_RETRY_S = 2.0
# The elements of a header that have a default, in their order from the lane on.
DEFAULTS = (NORMAL, 0, 0, "", 0, 1, 0, "", 0, 0.0, None, None)
TYPES = (int, int, list, str, int, int, int, str, int, int, int, str, int, (int, float))


class Refused(Exception):
    """What came cannot be accepted; the word is the reason that it is counted by."""


class Failed(Exception):
    """How a message or request ended otherwise than well."""

    def __init__(self, code: str, text: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text, self.details = code, text, details or {}


class Frame(NamedTuple):
    """A header that was read, all of its elements."""

    version: int
    kind: int
    target: list[Any]
    topic: str
    lane: int
    correlation: int
    ttl_ms: int
    sender: str
    seq: int
    count: int
    flags: int
    pin: str
    low: int
    sent_at: float
    handled: Any
    forwarded: Any


def unpack(data: bytes, reason: str) -> Any:
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except Exception as error:  # a fault of its bytes, whatever msgpack makes of it
        raise Refused(reason) from error


def read_header(data: bytes) -> Frame:
    """Raises Refused."""
    if len(data) > HEADER_MAX_BYTES:
        raise Refused("oversized")
    found = unpack(data, "malformed")
    if not isinstance(found, list) or len(found) < 4:
        raise Refused("malformed")
    if type(found[0]) is int and found[0] != VERSION:
        raise Refused("version")
    found = (found + list(DEFAULTS[len(found) - 4 :]))[: len(Frame._fields)]
    right = all(
        isinstance(value, kind) and not isinstance(value, bool)
        for value, kind in zip(found, TYPES, strict=False)
    )
    if not right or not 0 <= found[1] <= BOUNCE or not CONTROL <= found[4] <= LOW:
        raise Refused("malformed")
    return Frame(*found)


class Ask:
    """A message or request of ours. ``outcome``: "delivered", "rerouted", a reply's value, or a
    Failed; ``done`` says that there is one."""

    def __init__(self, kind: int, topic: str, body: bytes, number: int, lane: int, ttl_s: float):
        self.kind, self.topic, self.body, self.number, self.lane = kind, topic, body, number, lane
        self.deadline = time.monotonic() + ttl_s
        self.ttl_ms = max(1, int(ttl_s * 1000))
        self.done = False
        self.outcome: Any = None

    def end(self, outcome: Any) -> None:
        if not self.done:
            self.done, self.outcome = True, outcome

    @property
    def value(self) -> Any:
        assert self.done
        if isinstance(self.outcome, Failed):
            raise self.outcome
        return self.outcome


class Out:
    """A BATCH of ours: entries are (message, Ask or None)."""

    def __init__(self, target: list[Any], lane: int, kept: bool) -> None:
        self.target, self.lane = target, lane
        self.entries: list[tuple[list[Any], Ask | None]] = []
        self.flags = KEPT if kept else 0
        self.pin = self.owner = ""
        self.size = self.seq = 0

    def has_room(self, size: int) -> bool:
        fits = not self.entries or self.size + size <= BATCH_MAX_BYTES
        return len(self.entries) < BATCH_MAX_MESSAGES and fits

    def add(self, message: list[Any], ask: Ask | None) -> None:
        self.entries.append((message, ask))
        self.size += len(message[2])

    @property
    def waited_for(self) -> bool:
        return any(ask is not None and not ask.done for _, ask in self.entries)

    @property
    def has_answers(self) -> bool:
        """Events, answers and receipts: nobody here waits for them."""
        return any(ask is None for _, ask in self.entries)

    @property
    def over(self) -> bool:
        return not self.waited_for and not self.has_answers


class Incoming(NamedTuple):
    """What a handler gets."""

    body: Any
    topic: str
    sender: str
    lane: int


class RawClient:
    """One client. ``on`` and ``serve`` take functions; they run inside ``step``."""

    def __init__(self, endpoint: str, name: str, topics: tuple[str, ...] = ()) -> None:
        self.called = name
        self.routing_id = f"cl-{name}-{os.getpid()}-{random.randrange(10**18)}"
        self.topics = list(topics)
        self.listeners: dict[str, Callable[[Incoming], Any]] = {}
        self.services: dict[str, Callable[[Incoming], Any]] = {}
        self.refused: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.gone: list[tuple[str, int]] = []
        self.registered = False
        self.paused = False
        """Handle nothing and give no credit, as a client that hangs."""
        self.welcome: list[Any] = []
        self.window = WINDOW_MESSAGES
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self.routing_id.encode())
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.MAXMSGSIZE, HEADER_MAX_BYTES + BODY_MAX_BYTES)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(endpoint)
        # requests to the broker
        self._correlation = 0
        self._broker_asks: dict[int, Ask] = {}
        self._register_at = 0.0
        self._register_correlation = 0
        self._beat_at = 0.0
        self._beats = 0
        # sending
        self._queues: tuple[deque[Out], ...] = tuple(deque() for _ in range(4))
        self._seq = [0, 0, 0, 0]
        self._numbers = [0, 0, 0, 0]
        self._peer_correlation = 0
        self._open: tuple[dict[int, Ask], ...] = ({}, {}, {}, {})
        self._requests: dict[int, Ask] = {}
        self._not_left: dict[tuple[int, int], Out] = {}
        self._kept: dict[tuple[int, int], Out] = {}
        # receiving
        self._inbox: tuple[deque[tuple[Frame, list[list[Any]], int, int]], ...] = tuple(
            deque() for _ in range(4)
        )
        self._registration = 0
        self._handled = [0, 0]
        self._told = [0, 0]
        self._known: dict[str, dict[int, dict[int, Any]]] = {}
        self._seen_requests: dict[str, OrderedDict[int, None]] = {}
        self._epochs: dict[str, int] = {}
        self._receipts: dict[tuple[str, int, int], tuple[list[int], list[int], list[Any]]] = {}

    # --- what its owner calls

    def on(self, topic: str, handler: Callable[[Incoming], Any]) -> None:
        """Handle events and messages of a topic, and subscribe to it."""
        self.listeners[topic] = handler
        if topic not in self.topics:
            self.topics.append(topic)
            if self.registered:
                self._control(EVENT, "node.subscribe", [self.topics])

    def serve(self, name: str, handler: Callable[[Incoming], Any]) -> None:
        self.services[name] = handler

    def publish(self, topic: str, body: Any, lane: int = NORMAL) -> None:
        """An event to all subscribers."""
        self._put(["t", topic], lane, False, [EVENT, topic, msgpack.packb(body), 0, 0], None)

    def send(
        self, target: list[Any], topic: str, body: Any, lane: int = NORMAL, ttl_s: float = 30.0
    ) -> Ask:
        """A message; its end is "delivered", "rerouted" or a Failed."""
        low = next(iter(self._open[lane]), 0)
        if low and self._numbers[lane] - low >= SPAN_MAX - 1:
            raise Failed("E_QUEUE_FULL", "too many messages without a receipt")
        self._numbers[lane] += 1
        number = self._numbers[lane]
        ask = self._open[lane][number] = Ask(
            MESSAGE, topic, msgpack.packb(body), number, lane, ttl_s
        )
        self._put(target, lane, True, [MESSAGE, topic, ask.body, number, ask.ttl_ms], ask)
        return ask

    def request(
        self, target: list[Any], name: str, body: Any, lane: int = HIGH, ttl_s: float = 5.0
    ) -> Ask:
        """A request to a peer, or to the broker itself."""
        if target == BROKER:
            return self._ask_broker(name, body, lane, ttl_s)
        self._peer_correlation += 1
        number = self._peer_correlation
        ask = self._requests[number] = Ask(REQUEST, name, msgpack.packb(body), number, lane, ttl_s)
        self._put(target, lane, True, [REQUEST, name, ask.body, number, ask.ttl_ms], ask)
        return ask

    def run_until(self, look: Callable[[], object], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not look():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.routing_id} waited {timeout_s} s")
            self._socket.poll(5)
            self.step()

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        self._context.term()

    @property
    def not_left(self) -> int:
        """Messages in frames that have not left the broker."""
        return sum(len(out.entries) for out in self._not_left.values())

    # --- one step

    def step(self) -> None:
        """Everything that can be done now."""
        now = time.monotonic()
        self._look_at_the_connection()
        self._read()
        if not self.registered:
            self._register(now)
        self._beat(now)
        if not self.paused:
            self._handle()
        self._give_receipts()
        self._give_credit()
        self._write(now)
        self._end_overdue(now)

    def _look_at_the_connection(self) -> None:
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            self.counts["disconnections"] += 1
            self._lost()

    def _register(self, now: float) -> None:
        if now < self._register_at:
            return
        self._correlation += 1
        self._register_correlation = self._correlation
        body = [self.called, self.topics]
        if self._control(REQUEST, "client.register", body, self._correlation, 2000):
            self._register_at = now + REGISTER_RETRY_S

    def _beat(self, now: float) -> None:
        if not self.registered or now < self._beat_at:
            return
        self._beats += 1
        self._correlation += 1
        self._beat_at = now + self.welcome[3]
        body = [self._beats, 0.0, 0, 0, []]
        self._control(REQUEST, "node.heartbeat", body, self._correlation, 1000)

    def _ask_broker(self, topic: str, body: Any, lane: int, ttl_s: float) -> Ask:
        self._correlation += 1
        ask = Ask(REQUEST, topic, b"", self._correlation, lane, ttl_s)
        self._broker_asks[self._correlation] = ask
        self._control(REQUEST, topic, body, self._correlation, ask.ttl_ms, lane)
        return ask

    def _control(
        self,
        kind: int,
        topic: str,
        body: Any,
        correlation: int = 0,
        ttl_ms: int = 0,
        lane: int = CONTROL,
    ) -> bool:
        head = [VERSION, kind, BROKER, topic, lane, correlation, ttl_ms]
        return self._transmit(msgpack.packb(head), msgpack.packb(body))

    def _transmit(self, head: bytes, body: bytes) -> bool:
        try:
            self._socket.send_multipart([head, body], zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    # --- frames that come

    def _read(self) -> None:
        for _ in range(256):
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                if len(parts) != 2:
                    raise Refused("parts")
                self._frame(read_header(parts[0]), parts[1])
            except Refused as refused:
                self.refused[str(refused)] += 1

    def _frame(self, head: Frame, body: bytes) -> None:
        if len(body) > BODY_MAX_BYTES:
            raise Refused("oversized")
        if head.kind == BATCH:
            self._arrived(head, body)
        elif head.kind == CREDIT:
            self._left(_list(unpack(body, "body"))[0])
        elif head.kind == BOUNCE:
            self._bounced(head, _error(unpack(body, "body")))
        elif head.kind in (REPLY, ERROR):
            self._answered(head, unpack(body, "body"))
        elif head.kind == REQUEST:
            error = ["E_NO_HANDLER", f"nothing here answers {head.topic}"]
            self._control(ERROR, head.topic, error, head.correlation, 0, head.lane)
        elif head.kind == EVENT:
            self._told_by_the_broker(head, unpack(body, "body"))
        else:
            raise Refused("unsupported")

    def _answered(self, head: Frame, body: Any) -> None:
        if head.topic == "client.register":
            if head.correlation == self._register_correlation and head.kind == REPLY:
                self._welcomed(_list(body))
        elif head.topic == "node.heartbeat":
            self.counts["beats"] += head.kind == REPLY
            if head.kind == REPLY and self.registered and not _list(body)[1]:
                self._lost()
        else:
            ask = self._broker_asks.pop(head.correlation, None)
            if ask is not None:
                ask.end(_error(body) if head.kind == ERROR else body)

    def _welcomed(self, welcome: list[Any]) -> None:
        self.welcome = welcome
        if not welcome[0]:
            raise Refused("old_epoch")
        self.registered = True
        self.counts["registrations"] += 1
        self._registration += 1
        self._handled, self._told = [0, 0], [0, 0]
        self._send_credit()

    def _told_by_the_broker(self, head: Frame, body: Any) -> None:
        if head.topic == "node.gone":
            name, epoch = _list(body)[:2]
            self._peer_gone(name, epoch)
        handler = self.listeners.get(head.topic)
        if handler is not None:
            handler(Incoming(body, head.topic, head.sender, head.lane))

    # --- sending

    def _put(
        self, target: list[Any], lane: int, kept: bool, message: list[Any], ask: Ask | None
    ) -> None:
        queue = self._queues[lane]
        for out in reversed(queue):  # the open frame of the line, if it has room
            if out.target == target and bool(out.flags & KEPT) is kept:
                if out.has_room(len(message[2])) and not out.flags & RESENT:
                    out.add(message, ask)
                    return
                break
        out = Out(target, lane, kept)
        out.add(message, ask)
        queue.append(out)

    def _write(self, now: float) -> None:
        """Frames, the most urgent lane first, as the window allows."""
        if not self.registered:
            return
        for lane, queue in enumerate(self._queues):
            full: list[list[Any]] = []
            for out in list(queue):
                if out.over:
                    queue.remove(out)
                elif out.target in full or not self._line_has_window(out):
                    full.append(out.target)
                elif self._has_window(out) and self._send_batch(out, lane, now):
                    queue.remove(out)
                else:
                    return

    def _line_has_window(self, out: Out) -> bool:
        line = [
            len(other.entries)
            for other in self._not_left.values()
            if other.target == out.target and other.lane == out.lane
        ]
        return not line or sum(line) + len(out.entries) <= LINE_WINDOW_MESSAGES

    def _has_window(self, out: Out) -> bool:
        if not self._not_left:
            return True
        upper = out.lane <= HIGH
        most = SEND_WINDOW_MESSAGES + (RESERVE_MESSAGES if upper else 0)
        size = sum(other.size for other in self._not_left.values()) + out.size
        fits = self.not_left + len(out.entries) <= most
        return fits and (upper or size <= SEND_WINDOW_BYTES)

    def _send_batch(self, out: Out, lane: int, now: float) -> bool:
        out.seq = self._seq[lane] + 1
        asks = [ask for _, ask in out.entries if ask is not None]
        ttl_ms = 0
        if len(asks) == len(out.entries):
            ttl_ms = max(1, int((max(ask.deadline for ask in asks) - now) * 1000))
        head = [
            VERSION, BATCH, out.target, "", lane, 0, ttl_ms, "", out.seq, len(out.entries),
            out.flags, out.pin, next(iter(self._open[lane]), 0), time.time(),
        ]  # fmt: skip
        body = msgpack.packb([message for message, _ in out.entries])
        if not self._transmit(msgpack.packb(head), body):
            return False
        self._seq[lane] = out.seq
        self.counts["frames"] += 1
        self.counts["messages"] += len(out.entries)
        self._not_left[lane, out.seq] = out
        if out.flags & KEPT:
            self._kept[lane, out.seq] = out
        self.counts["most_not_left"] = max(self.counts["most_not_left"], self.not_left)
        return True

    def _left(self, entries: list[Any]) -> None:
        for lane, seq, owner in entries:
            self._not_left.pop((lane, seq), None)
            out = self._kept.get((lane, seq))
            if out is not None:
                out.owner = owner or out.owner
                if out.over or (owner and not out.waited_for):
                    del self._kept[lane, seq]

    def _bounced(self, head: Frame, error: Failed) -> None:
        self.counts["bounces"] += 1
        self._not_left.pop((head.lane, head.seq), None)
        out = self._kept.pop((head.lane, head.seq), None)
        for _, ask in out.entries if out is not None else ():
            if ask is not None:
                self._end(ask, error)

    def _end(self, ask: Ask, outcome: Any) -> None:
        ask.end(outcome)
        if ask.kind == REQUEST:
            self._requests.pop(ask.number, None)
        else:
            self._open[ask.lane].pop(ask.number, None)

    def _end_overdue(self, now: float) -> None:
        asks = [a for group in (*self._open, self._requests) for a in group.values()]
        for ask in asks:
            if ask.deadline <= now:
                self._end(ask, Failed("E_EXPIRED", "no answer or receipt in time"))
        for number, ask in list(self._broker_asks.items()):
            if ask.deadline <= now:
                del self._broker_asks[number]
                ask.end(Failed("E_EXPIRED", "no answer in time"))
        for key, out in list(self._kept.items()):
            if out.over or (out.owner and not out.waited_for):
                del self._kept[key]

    # --- the broker or a peer goes

    def _lost(self) -> None:
        """What comes next there is a broker that knows nothing."""
        self.registered = False
        self._register_at = 0.0
        self._not_left.clear()
        kept, self._kept = list(self._kept.values()), {}
        self._again(kept)

    def _peer_gone(self, name: str, epoch: int) -> None:
        self.gone.append((name, epoch))
        routing_id = f"{name}#{epoch}" if epoch else name
        theirs = [out for out in self._kept.values() if out.owner == routing_id]
        for out in theirs:
            for key in [key for key, value in self._kept.items() if value is out]:
                del self._kept[key]
                self._not_left.pop(key, None)
            for _, ask in out.entries:
                if ask is not None and ask.kind == REQUEST:
                    self._end(ask, Failed("E_UNREACHABLE", f"{name} died before it answered"))
        self._again(theirs)
        if epoch:  # a client may only have been silent
            self._forget(routing_id)

    def _again(self, frames: list[Out]) -> None:
        """Before all that is newer, in the order they had."""
        for old in sorted(frames, key=lambda out: out.seq, reverse=True):
            out = Out(old.target, old.lane, True)
            out.flags |= RESENT
            out.pin = old.owner or old.pin
            for message, ask in old.entries:
                if ask is None and old.owner:
                    continue
                if ask is not None and (ask.done or (old.owner and ask.kind == REQUEST)):
                    continue
                out.add(message, ask)
            if out.entries:
                self.counts["resent"] += len(out.entries)
                self._queues[old.lane].appendleft(out)

    # --- receiving

    def _arrived(self, head: Frame, body: bytes) -> None:
        if head.forwarded is not None:
            self._left(_list(head.forwarded))
        name, _, epoch = head.sender.partition("#")
        try:
            messages = _messages(unpack(body, "body"), head.count)
        except Refused:
            self._ended(head.count, len(body), self._registration)
            raise
        number = int(epoch or 0)
        rest = []
        for message in messages:
            if message[0] == RECEIPT:
                self._receipt_came(message)
            elif message[0] in (REPLY, ERROR):
                self._peer_answered(message)
            else:
                rest.append(message)
        self._ended(len(messages) - len(rest), 0 if rest else len(body), self._registration)
        if head.low:
            known = self._lane_of(head.sender, head.lane)
            for seen in [seen for seen in known if seen < head.low]:
                del known[seen]
        if rest and self._is_current(name, number):
            self._inbox[head.lane].append((head, rest, len(body), self._registration))
        elif rest:
            self._ended(len(rest), len(body), self._registration)

    def _lane_of(self, sender: str, lane: int) -> dict[int, Any]:
        return self._known.setdefault(sender, {}).setdefault(lane, {})

    def _is_current(self, name: str, epoch: int) -> bool:
        known = self._epochs.get(name, -1)
        if epoch > known:
            self._epochs[name] = epoch
            self._forget(f"{name}#{known}")
        return epoch >= known

    def _forget(self, sender: str) -> None:
        """A process that says nothing any more."""
        self._known.pop(sender, None)
        self._seen_requests.pop(sender, None)

    def _peer_answered(self, message: list[Any]) -> None:
        kind, _, data, number, _ = message
        ask = self._requests.get(number)
        if ask is not None:
            body = unpack(data, "body")
            self._end(ask, _error(body) if kind == ERROR else body)

    def _receipt_came(self, message: list[Any]) -> None:
        if message[3] != 0:
            return
        lane, delivered, rerouted, failed = (_list(unpack(message[2], "body")) + [[], [], []])[:4]
        open_now = self._open[lane]
        for outcome, ranges in (("delivered", delivered), ("rerouted", rerouted)):
            for first, last in ranges:
                for number in [n for n in open_now if first <= n <= last]:
                    self._end(open_now[number], outcome)
        for number, code, text in failed:
            if number in open_now:
                self._end(open_now[number], Failed(code, text))

    def _handle(self) -> None:
        """Everything that waits, the most urgent lane first."""
        for queue in self._inbox:
            while queue:
                head, messages, size, registration = queue.popleft()
                for message in messages:
                    self._handle_one(head, message)
                self._ended(len(messages), size, registration)

    def _handle_one(self, head: Frame, message: list[Any]) -> None:
        kind, topic, data, number, _ = message
        name = head.sender.partition("#")[0]
        if kind == EVENT:
            try:
                self._call(self.listeners.get(topic), data, topic, name, head.lane)
            except Failed:
                self.counts["events_failed"] += 1
        elif kind == MESSAGE:
            self._handle_message(head, name, topic, data, number)
        elif kind == REQUEST:
            self._handle_request(head, name, topic, data, number)

    def _handle_message(self, head: Frame, name: str, topic: str, data: bytes, number: int) -> None:
        known = self._lane_of(head.sender, head.lane)
        if number in known or number < head.low:
            self.counts["doubles"] += 1
            if number not in known:
                return
        else:
            try:
                self._call(self.listeners.get(topic), data, topic, name, head.lane)
                known[number] = None
            except Failed as failed:
                known[number] = (failed.code, failed.text)
        epoch = int(head.sender.partition("#")[2] or 0)
        groups = self._receipts.setdefault((name, epoch, head.lane), ([], [], []))
        if known[number] is not None:
            groups[2].append([number, *known[number]])
        else:
            groups[1 if head.flags & REROUTED else 0].append(number)

    def _handle_request(self, head: Frame, name: str, topic: str, data: bytes, number: int) -> None:
        seen = self._seen_requests.setdefault(head.sender, OrderedDict())
        if number in seen:
            self.counts["doubles"] += 1
            return
        seen[number] = None
        if len(seen) > REQUESTS_REMEMBERED:
            seen.popitem(last=False)
        try:
            kind = REPLY
            answer = self._call(self.services.get(topic), data, topic, name, head.lane)
        except Failed as failed:
            kind, answer = ERROR, [failed.code, failed.text, "", False, failed.details]
        self._put(["n", name], head.lane, True, [kind, "", msgpack.packb(answer), number, 0], None)

    def _call(
        self,
        handler: Callable[[Incoming], Any] | None,
        data: bytes,
        topic: str,
        name: str,
        lane: int,
    ) -> Any:
        if handler is None:
            raise Failed("E_NO_HANDLER", f"nothing here handles {topic!r}")
        try:
            return handler(Incoming(unpack(data, "body"), topic, name, lane))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            raise Failed("E_REMOTE", text, {"type": type(error).__name__}) from error

    def _give_receipts(self) -> None:
        receipts, self._receipts = self._receipts, {}
        for (name, epoch, lane), groups in receipts.items():
            delivered, rerouted = _ranges(groups[0]), _ranges(groups[1])
            most = max(len(delivered), len(rerouted), len(groups[2]))
            for at in range(0, most, RANGES_MAX):
                part = slice(at, at + RANGES_MAX)
                body = [lane, delivered[part], rerouted[part], groups[2][part]]
                message = [RECEIPT, "", msgpack.packb(body), epoch, 0]
                self._put(["n", name], HIGH, True, message, None)

    # --- credit for the broker

    def _ended(self, messages: int, size_bytes: int, registration: int) -> None:
        if registration == self._registration:
            self._handled[0] += messages
            self._handled[1] += size_bytes

    def _give_credit(self) -> None:
        if self.registered and self._handled != self._told:
            self._send_credit()

    def _send_credit(self) -> None:
        if self._control(CREDIT, "", [*self._handled, self.window, SEND_WINDOW_BYTES]):
            self._told = list(self._handled)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("body")
    return value


def _error(body: Any) -> Failed:
    code, text, _, _, details = (_list(body) + ["", False, {}][len(body) - 2 :])[:5]
    return Failed(code, text, details)


def _messages(body: Any, count: int) -> list[list[Any]]:
    """The messages of a BATCH, with their defaults."""
    messages = _list(body)
    if len(messages) != count or not 0 < count <= BATCH_MAX_MESSAGES:
        raise Refused("limit")
    found = []
    for message in messages:
        if not isinstance(message, list) or len(message) < 3 or not isinstance(message[2], bytes):
            raise Refused("body")
        found.append((message + [0, 0][len(message) - 3 :])[:5])
    return found


def _ranges(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
