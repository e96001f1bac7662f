"""What settles what was asked: replies, receipts, bounces, deaths. Loop-free."""

from __future__ import annotations

from typing import Any, Final

from shard_node.errors import ShardNodeError, Undeliverable
from shard_node.peer import failures
from shard_node.peer.asks import Ask, Asks
from shard_node.peer.frames import Frame
from shard_node.peer.inbox import Arrival, Inbox
from shard_node.peer.lines import LINES_MAX
from shard_node.peer.outbox import Outbox
from shard_node.wire.batch import Message, Receipts
from shard_node.wire.bodies import ErrorBody, NodeGone
from shard_node.wire.codec import WireError, decode_body, encode_body
from shard_node.wire.header import Header, Kind
from shard_node.wire.identity import process_name
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import Node

DELIVERED: Final = "delivered"
REROUTED: Final = "rerouted"
TEXT_MAX_CHARS: Final = 200
"""Of an error's words, where a message of receipts would be too large with all of them."""
_REPLY: Final = int(Kind.REPLY)
_ERROR: Final = int(Kind.ERROR)
_RECEIPT: Final = int(Kind.RECEIPT)
_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)


class Answers:
    """Settles the asks of one process. ``epoch`` tells its receipts from those of an earlier
    one. A waiter is a future: ``done``, ``set_result``, ``set_exception``."""

    def __init__(self, epoch: int, asks: Asks, inbox: Inbox, outbox: Outbox) -> None:
        self.rejected = 0
        self._epoch = epoch
        self._asks, self._inbox, self._outbox = asks, inbox, outbox

    # --- those that come

    def hear(self, messages: list[Message]) -> list[Message]:
        """Settle what the answers among these settle. Returns the messages that are none."""
        others = []
        requests = self._asks.requests
        for message in messages:
            kind = message.kind
            if kind == _REPLY:
                ask = requests.get(message.number)
                if ask is not None:
                    if not ask.waiter.done():
                        ask.waiter.set_result(message.body)
                    self.end(ask)
            elif kind == _RECEIPT:
                self._receipts(message)
            elif kind == _ERROR:
                ask = requests.get(message.number)
                if ask is not None:
                    self.fail(ask, failures.answered_with(ask.message.topic, message.body))
            else:
                others.append(message)
        return others

    def bounce(self, head: Header, body: bytes) -> None:
        """A frame comes back."""
        asks = self._outbox.bounced(int(head.lane), head.seq)
        try:
            error = decode_body(body, ErrorBody)
        except WireError:
            error = ErrorBody("E_UNREACHABLE", "the broker could not deliver it")
        for ask in asks:
            self.fail(ask, failures.undelivered(ask, error))

    def node_gone(self, body: bytes) -> None:
        """The broker says that a process is dead."""
        try:
            gone = decode_body(body, NodeGone)
        except WireError:
            self.rejected += 1
            return
        owner = f"{gone.name}#{gone.epoch}" if gone.epoch else gone.name
        self._inbox.sender_gone(gone.name, gone.epoch)
        self._outbox.owner_gone(owner)
        lost = [a for a in self._asks.requests.values() if a.frame and a.frame.owner == owner]
        for ask in lost:
            text = f"{ask.message.topic}: node {gone.name} died before it answered"
            self.fail(ask, Undeliverable(text))

    def overdue(self, now: float) -> None:
        """End those whose deadline has passed."""
        for ask in self._asks.overdue(now):
            self.fail(ask, failures.too_late(ask))

    def _receipts(self, message: Message) -> None:
        try:
            receipts = decode_body(message.body, Receipts)
        except WireError:
            self.rejected += 1
            return
        if message.number != self._epoch or not 0 <= receipts.lane < len(Lane):
            return
        open_now = self._asks.messages[receipts.lane]
        for outcome, found in ((DELIVERED, receipts.delivered), (REROUTED, receipts.rerouted)):
            for ask in _within(open_now, found):
                self._settle(ask, outcome)
        for number, code, text in receipts.failed:
            failed = open_now.get(number)
            if failed is not None:
                self.fail(failed, failures.receipt_failed(failed.message.topic, code, text))

    def _settle(self, ask: Ask, result: Any) -> None:
        if not ask.waiter.done():
            ask.waiter.set_result(result)
        self.end(ask)

    def fail(self, ask: Ask, error: ShardNodeError) -> None:
        """It ends with an error."""
        if not ask.waiter.done():
            ask.waiter.set_exception(error)
        self.end(ask)

    def spoilt(self, frame: Frame, error: Exception) -> None:
        """A frame that no bytes can be made of: it is over, and only those in it fail."""
        for ask in list(frame.asks):
            self.fail(ask, failures.unencodable(ask, error))
        self._outbox.dropped += frame.others
        frame.others = 0

    def end(self, ask: Ask) -> None:
        """Nobody waits for it any more."""
        if self._asks.end(ask):
            self._outbox.settled(ask)

    # --- those that go

    def answer(self, arrival: Arrival, message: Message, body: Any) -> None:
        """A service of this node has answered; an ErrorBody goes as an error."""
        kind = _ERROR if isinstance(body, ErrorBody) else _REPLY
        try:
            data = encode_body(body)
        except _UNENCODABLE as error:
            kind = _ERROR
            text = f"a reply of type {type(body).__name__} cannot be sent: {error}"
            data = encode_body(ErrorBody("E_REMOTE", text, details={"type": "TypeError"}))
        lines = self._outbox.answers
        line = lines.get((arrival.sender, arrival.lane))
        if line is None:
            if len(lines) >= LINES_MAX:
                lines.clear()
            target = Node(process_name(arrival.name, arrival.epoch))
            line = self._outbox.line(target, arrival.lane)
            lines[arrival.sender, arrival.lane] = line
        self._outbox.put(line, Message(kind, "", data, message.number))

    def put_receipts(self) -> None:
        """Receipts that are due go into the outbox."""
        for name, epoch, receipts in self._inbox.receipts():
            line = self._outbox.line(Node(process_name(name, epoch)), int(Lane.HIGH))
            try:
                body = encode_body(receipts)
            except _UNENCODABLE:  # the words of an error may be anything
                body = encode_body(_sayable(receipts))
            self._outbox.put(line, Message(int(Kind.RECEIPT), "", body, epoch))


def _sayable(receipts: Receipts) -> Receipts:
    def plain(text: str) -> str:
        return text.encode(errors="backslashreplace").decode()[:TEXT_MAX_CHARS]

    failed = [(number, plain(code), plain(text)) for number, code, text in receipts.failed]
    return Receipts(receipts.lane, receipts.delivered, receipts.rerouted, failed)


def _within(open_now: dict[int, Ask], found: list[tuple[int, int]]) -> list[Ask]:
    """The open asks within ranges. A range may be far wider than what is open."""
    asks = []
    for first, last in found:
        if last - first < len(open_now):
            numbers = (n for n in range(first, last + 1) if n in open_now)
        else:
            numbers = (n for n in open_now if first <= n <= last)
        asks += [open_now[n] for n in numbers]
    return asks
