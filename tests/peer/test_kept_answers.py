"""Answers that share a frame with asks: nobody waits for them here, and they go all the same."""

from __future__ import annotations

from types import SimpleNamespace

from shard_node.peer.asks import Ask, Asks
from shard_node.peer.frames import Line
from shard_node.peer.outbox import Outbox
from shard_node.wire.batch import Message
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import Node


def shared(outbox: Outbox, asks: Asks) -> tuple[Line, Ask]:
    """A line to a node with a request of ours and an answer to one of its own."""
    line = outbox.line(Node("b"), int(Lane.HIGH))
    message = Message(int(Kind.REQUEST), "ask", b"\x01")
    ask = Ask(message, int(Lane.HIGH), 1.0, SimpleNamespace(done=lambda: True))
    asks.add(ask)
    outbox.put(line, message, ask)
    outbox.put(line, Message(int(Kind.REPLY), "", b"\x02", 7))
    return line, ask


def end(outbox: Outbox, asks: Asks, ask: Ask) -> None:
    assert asks.end(ask)
    outbox.settled(ask)


class Told(list[tuple[int, int, str]]):
    """Entries of a CREDIT, as a list and as its body."""

    @property
    def frames(self) -> Told:
        return self


def kinds(frame: object) -> list[int]:
    return [message.kind for message in frame.messages]  # type: ignore[attr-defined]


def test_an_answer_goes_though_the_request_beside_it_is_over() -> None:
    outbox, asks = Outbox(), Asks(0)
    line, ask = shared(outbox, asks)
    outbox.close_batch(line)  # full, or its window was shut
    end(outbox, asks, ask)
    outbox.up = True
    frame = outbox.next()
    assert frame is not None
    assert int(Kind.REPLY) in kinds(frame)


def test_an_answer_is_kept_until_its_frame_has_left() -> None:
    outbox, asks = Outbox(), Asks(0)
    _, ask = shared(outbox, asks)
    outbox.up = True
    frame = outbox.next()
    assert frame is not None
    outbox.encode(frame, 0.0, 0.0, 0)
    outbox.sent(frame)
    outbox.forwarded(Told([(int(Lane.HIGH), frame.seq, "")]))  # type: ignore[arg-type]
    end(outbox, asks, ask)
    outbox.link_lost()
    outbox.up = True
    again = outbox.next()
    assert again is not None
    assert kinds(again) == [int(Kind.REPLY)]
