"""What a receiver remembers of its senders, and for how long."""

from __future__ import annotations

from shard_node.peer.inbox import FORGET_S, GUESTS_MAX, Arrival, Inbox
from shard_node.wire.batch import Flag, Message
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import CREDIT_RESERVE_MESSAGES, SEND_WINDOW_MESSAGES
from shard_node.wire.targets import Node


def come(
    inbox: Inbox, name: str, epoch: int, number: int, kind: Kind = Kind.MESSAGE, ttl_ms: int = 0
) -> bool:
    """Whether this is new."""
    message = Message(int(kind), "t", b"\xc0", number, ttl_ms)
    head = Header(
        1, Kind.BATCH, Node("x"), "", Lane.NORMAL, sender=name, seq=1, flags=int(Flag.KEPT)
    )
    inbox.push(head, [message], name, epoch, 1)
    taken = inbox.take()
    assert taken is not None
    arrival: Arrival = taken.arrival
    return inbox.is_new(arrival, message)


def test_no_client_displaces_a_node() -> None:
    inbox = Inbox()
    assert come(inbox, "a", 1, 1)
    for number in range(GUESTS_MAX + 1):
        assert come(inbox, f"cl-invoke-{number}-1", 0, 1)
    assert not come(inbox, "a", 1, 1)


def test_of_clients_the_longest_quiet_goes_first() -> None:
    inbox = Inbox()
    assert come(inbox, "cl-busy-1-1", 0, 1)
    for number in range(GUESTS_MAX + 1):
        assert come(inbox, f"cl-invoke-{number}-1", 0, 1)
        assert come(inbox, "cl-busy-1-1", 0, number + 2)
    assert not come(inbox, "cl-busy-1-1", 0, 1)
    assert come(inbox, "cl-invoke-0-1", 0, 1)


def test_a_client_is_forgotten_when_nothing_of_it_can_come_again() -> None:
    inbox = Inbox()
    assert come(inbox, "cl-dash-1-1", 0, 1, ttl_ms=100_000)
    assert come(inbox, "cl-quick-1-1", 0, 1, Kind.REQUEST)
    assert come(inbox, "dl-1", 1, 1)
    assert come(inbox, "a", 1, 1)
    inbox.forget(10.0)
    inbox.forget(10.0 + FORGET_S)
    assert {name for name, _ in inbox._senders} == {"cl-dash-1-1", "cl-quick-1-1", "dl-1", "a"}
    inbox.forget(10.1 + FORGET_S)
    assert {name for name, _ in inbox._senders} == {"cl-dash-1-1", "a"}
    assert not come(inbox, "cl-dash-1-1", 0, 1)
    inbox.forget(200.0)  # heard lately
    inbox.forget(200.0 + FORGET_S + 99)
    assert not come(inbox, "cl-dash-1-1", 0, 1)
    inbox.forget(500.0)
    inbox.forget(661.0)
    assert {name for name, _ in inbox._senders} == {"a"}


def test_as_many_requests_are_remembered_as_may_be_sent_again() -> None:
    inbox = Inbox()
    most = SEND_WINDOW_MESSAGES + CREDIT_RESERVE_MESSAGES
    assert all(come(inbox, "a", 1, number, Kind.REQUEST) for number in range(1, most + 1))
    assert not any(come(inbox, "a", 1, number, Kind.REQUEST) for number in range(1, most + 1))
