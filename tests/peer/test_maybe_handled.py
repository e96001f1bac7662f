"""Whether a message that failed may have been handled all the same."""

from __future__ import annotations

import pytest

from shard_node.errors import Undeliverable
from shard_node.peer.asks import Ask
from shard_node.peer.failures import too_late, undelivered
from shard_node.peer.frames import Frame, Line
from shard_node.wire.batch import Flag, Message
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import Node


def asked(*, framed: bool = True, seq: int = 0, flags: int = 0) -> Ask:
    message = Message(int(Kind.MESSAGE), "linger.event", b"")
    ask = Ask(message, int(Lane.HIGH), 1.0, None)
    if framed:
        frame = Frame(Line(Node("a#5"), int(Lane.HIGH)), [message], [ask], 0)
        frame.seq, frame.flags = seq, frame.flags | flags
        ask.frame = frame
    return ask


@pytest.mark.parametrize(
    ("ask", "maybe"),
    [
        (asked(framed=False), False),
        (asked(), False),
        (asked(seq=3), True),
        (asked(flags=Flag.RESENT), True),
    ],
    ids=["waits in its line", "was never sent", "was sent", "was sent to a broker that died"],
)
def test_at_its_deadline(ask: Ask, maybe: bool) -> None:
    error = too_late(ask)
    assert isinstance(error, Undeliverable)
    assert error.maybe_handled is maybe


@pytest.mark.parametrize(
    ("flags", "maybe"), [(0, False), (Flag.RESENT, True)], ids=["first", "again"]
)
def test_when_it_comes_back(flags: int, maybe: bool) -> None:
    """The first time the broker has passed it on to nobody; what is sent again may have come to
    a process that is dead now."""
    error = undelivered(asked(seq=3, flags=flags), ErrorBody("E_UNREACHABLE", "gone"))
    assert isinstance(error, Undeliverable)
    assert error.maybe_handled is maybe
