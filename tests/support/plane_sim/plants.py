"""Faults that are put in on purpose: each is one that a checker is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from broker.core.batches import BatchLane, Destination
from shard_node.errors import ShardNodeError
from shard_node.peer import failures
from shard_node.peer.asks import Asks
from shard_node.peer.inbox import Inbox
from shard_node.peer.outbox import Outbox
from shard_node.wire.batch import Flag, Message, Receipts, decode_batch, encode_batch
from shard_node.wire.codec import decode_header, encode_body, encode_header
from shard_node.wire.header import Header, Kind
from shard_node.wire.identity import parse_peer
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import PROTOCOL_VERSION
from shard_node.wire.targets import Node
from tests.support.plane_sim.fleet import Fleet
from tests.support.plane_sim.net import Parts
from tests.support.plane_sim.watch import kind_of

Alter = Callable[[bytes, Header, list[Message], Parts], list[Parts] | None]
ANOTHER = 1_000_000


def _batches(alter: Callable[[Fleet], Alter], wanted: Kind) -> Callable[[Fleet], None]:
    """Shows ``alter`` the BATCH frames to receivers that hold such messages, until it has
    altered one."""

    def plant(fleet: Fleet) -> None:
        change = alter(fleet)
        done = False

        def look(up: bool, identity: bytes, parts: Parts) -> list[Parts]:
            nonlocal done
            if done or up or kind_of(parts[0]) != Kind.BATCH:
                return [parts]
            messages = decode_batch(parts[1])
            if not any(message.kind == wanted for message in messages):
                return [parts]
            altered = change(identity, decode_header(parts[0]), messages, parts)
            done = altered is not None
            return altered if altered is not None else [parts]

        fleet.net.plant = look

    return plant


def _frame(head: Header, messages: list[Message]) -> Parts:
    head = structs.replace(head, count=len(messages), forwarded=None)
    return encode_header(head), encode_batch(messages)


def _lose_and_acknowledge(fleet: Fleet) -> Alter:
    def alter(
        identity: bytes, head: Header, messages: list[Message], parts: Parts
    ) -> list[Parts] | None:
        dealer = fleet.net.dealers.get(head.sender.encode())
        peer = parse_peer(head.sender.encode())
        if dealer is None or dealer.connection is None or peer is None:
            return None
        numbers = [m.number for m in messages if m.kind == Kind.MESSAGE]
        said = Receipts(head.lane, [(number, number) for number in numbers])
        receipt = Message(int(Kind.RECEIPT), "", encode_body(said), peer.epoch)
        answer = Header(PROTOCOL_VERSION, Kind.BATCH, Node(peer.name), "", Lane.HIGH,
                        sender=identity.decode(), seq=ANOTHER, flags=int(Flag.KEPT))  # fmt: skip
        dealer.connection.down.push(_frame(answer, [receipt]))
        return []

    return alter


def _say_twice(fleet: Fleet) -> Alter:
    def alter(
        identity: bytes, head: Header, messages: list[Message], parts: Parts
    ) -> list[Parts] | None:
        again = [structs.replace(message, number=message.number + ANOTHER) for message in messages]
        return [parts, _frame(head, again)]

    return alter


def _swap(fleet: Fleet) -> Alter:
    held: dict[Any, Parts] = {}

    def alter(
        identity: bytes, head: Header, messages: list[Message], parts: Parts
    ) -> list[Parts] | None:
        if len(messages) > 1:
            first, *rest = messages
            return [_frame(head, [*rest, first])]
        return None

    del held
    return alter


def _answer_wrongly(fleet: Fleet) -> Alter:
    def alter(
        identity: bytes, head: Header, messages: list[Message], parts: Parts
    ) -> list[Parts] | None:
        body = encode_body("nonsense")
        return [_frame(head, [structs.replace(message, body=body) for message in messages])]

    return alter


def _blame(fleet: Fleet) -> Alter:
    def alter(
        identity: bytes, head: Header, messages: list[Message], parts: Parts
    ) -> list[Parts] | None:
        failed = [(number, "E_REMOTE", "nobody: raised") for number in range(1, 500)]
        said = [encode_body(Receipts(lane, [], [], failed)) for lane in range(4)]
        return [_frame(head, [structs.replace(messages[0], body=body) for body in said])]

    return alter


def _lose_credit(fleet: Fleet) -> None:
    def look(up: bool, identity: bytes, parts: Parts) -> list[Parts]:
        return [] if not up and kind_of(parts[0]) == Kind.CREDIT else [parts]

    fleet.net.plant = look


def _stop_giving_credit(fleet: Fleet) -> None:
    def look(up: bool, identity: bytes, parts: Parts) -> list[Parts]:
        return [] if up and kind_of(parts[0]) == Kind.CREDIT else [parts]

    fleet.net.plant = look


def _undeclared(ask: Any) -> ShardNodeError:
    return ShardNodeError("an error that nobody has declared")


def _break_down(self: Inbox) -> None:
    raise RuntimeError("a bug")


def _always(self: Any, *args: Any) -> bool:
    return True


def _none(self: Any, now: float) -> list[Any]:
    return []


def _new(self: Any, arrival: Any, message: Any) -> bool:
    return True


ON_THE_WIRE: list[tuple[Callable[[Fleet], None], bool, str]] = [
    (_batches(_lose_and_acknowledge, Kind.MESSAGE), False, "acknowledged and was never handled"),
    (_batches(_say_twice, Kind.MESSAGE), False, "is handled twice"),
    (_batches(_swap, Kind.MESSAGE), False, "behind a later one"),
    (_batches(_swap, Kind.EVENT), False, "behind a later one"),
    (_batches(_answer_wrongly, Kind.REPLY), False, "was answered with"),
    (_batches(_blame, Kind.RECEIPT), False, "and no handler raised"),
    (_lose_credit, False, "left when all is calm"),
    (_stop_giving_credit, False, "left when all is calm"),
]
"""What is altered, whether limits are tight, and what the checker says."""

IN_THE_CODE: list[tuple[Any, str, Any, bool, str]] = [
    (Asks, "overdue", _none, False, "after its deadline"),
    (failures, "too_late", _undeclared, False, "an error that nobody has declared"),
    (Inbox, "is_new", _new, False, "is handled twice"),
    (Inbox, "take", _break_down, False, "a bug"),
    (BatchLane, "has_room", _always, True, "over the limit"),
    (Destination, "fits", _always, True, "messages more"),
    (Outbox, "_has_window", _always, True, "sends beyond its window"),
]
"""What is replaced by what, whether limits are tight, and what the checker says."""
