"""Answers whose asker is gone come back, and nobody has to look at them as dead letters."""

from __future__ import annotations

import pytest

from shard_node.wire import topics
from shard_node.wire.batch import Flag
from shard_node.wire.bodies import ClientRegister, DeadLettersRequest
from shard_node.wire.codec import decode_body
from shard_node.wire.identity import operator_id
from shard_node.wire.targets import Node, Target
from tests.broker.test_data_plane import CL, KEPT, B, Plane

ANSWERS = KEPT | 8


def letters(plane: Plane) -> list[str]:
    body = plane.ask(operator_id(1, 1), topics.DEAD_LETTERS, DeadLettersRequest())
    return [letter["code"] for letter in decode_body(body, dict)["letters"]]


def gone_client(plane: Plane) -> Target:
    """It ended before the node answered."""
    plane.ask(CL, topics.CLIENT_REGISTER, ClientRegister("dash"))
    plane.wait(3600.0)
    return Node(CL.decode())


def dead_node(plane: Plane) -> Target:
    plane.die("b")
    return Node("b")


@pytest.mark.parametrize("away", [gone_client, dead_node])
@pytest.mark.parametrize("flags", [ANSWERS, ANSWERS | int(Flag.RESENT), KEPT])
def test_answers_that_cannot_go_on_are_no_dead_letters(away: object, flags: int) -> None:
    """The same frame without the flag is one: the look at the letters is not blind."""
    plane = Plane().joined()
    target = away(plane)  # type: ignore[operator]
    seq = plane.batch(target, flags=flags)
    plane.pump()
    assert plane.bounces() == [(seq, "E_UNREACHABLE")]
    assert plane.counts()["bounced"] == 1
    assert letters(plane) == ([] if flags & 8 else ["E_UNREACHABLE"])
    assert plane.counts()["dead_letters_total"] == (0 if flags & 8 else 1)


def test_answers_that_expire_are_no_dead_letters() -> None:
    plane = Plane().joined()
    plane.blocked = {B}
    for _ in range(2):
        seq = plane.batch(Node("b"), flags=ANSWERS, ttl_ms=100)
    plane.wait(1.0)
    assert (seq, "E_EXPIRED") in plane.bounces()
    assert letters(plane) == []


def test_answers_are_forwarded_as_such() -> None:
    plane = Plane().joined()
    plane.batch(Node("b"), flags=ANSWERS)
    plane.pump()
    assert [head.flags for head in plane.batches(B)] == [ANSWERS]
