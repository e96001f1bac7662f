"""A client that was silent for too long was told of as gone, and lives: it says the same again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shard_node.peer.answers import Answers
from shard_node.peer.asks import Ask, Asks
from shard_node.peer.inbox import Arrival, Inbox
from shard_node.peer.outbox import Outbox
from shard_node.wire.batch import Message
from shard_node.wire.bodies import NodeGone
from shard_node.wire.codec import encode_body
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import Node

CLIENT = "cl-dash-7-1"
GONE = encode_body(NodeGone(CLIENT, 0))


def test_what_it_says_again_is_not_handled_twice() -> None:
    inbox = Inbox()
    message = Message(int(Kind.MESSAGE), "m", b"\x01", 1)
    head = Header(1, Kind.BATCH, Node("a"), "", Lane.NORMAL, sender=CLIENT, seq=1, flags=1, low=1)
    arrival = Arrival(head, [message], CLIENT, 0, 1, 1)
    assert inbox.is_new(arrival, message)
    inbox.ended(arrival, message, None)
    inbox.sender_gone(CLIENT, 0)
    assert not inbox.is_new(arrival, message)


def test_a_request_that_went_to_it_ends_at_once() -> None:
    outbox, asks, inbox = Outbox(), Asks(0), Inbox()
    ended: list[Any] = []
    waiter = SimpleNamespace(done=lambda: bool(ended), set_exception=ended.append)
    message = Message(int(Kind.REQUEST), "ask", b"\x01")
    ask = Ask(message, int(Lane.HIGH), 9.0, waiter)
    asks.add(ask)
    outbox.put(outbox.line(Node(CLIENT), int(Lane.HIGH)), message, ask)
    outbox.up = True
    frame = outbox.next()
    assert frame is not None
    outbox.encode(frame, 0.0, 0.0, 0)
    outbox.sent(frame)
    outbox.forwarded([(int(Lane.HIGH), frame.seq, CLIENT)])
    Answers(1, asks, inbox, outbox).node_gone(GONE)
    assert ended
