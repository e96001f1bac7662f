"""`where`: the table says who would own a guild, the owner says whether there is one."""

from __future__ import annotations

import pytest

from broker.core.events import Exited, Tick
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, WhereReply, WhereRequest
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Kind
from shard_node.wire.identity import operator_id
from tests.broker.test_router import B, error, frames, give, made

OPERATOR = operator_id(1, 1)
GUILD = 3 << 22
ANSWER = WhereReply(GUILD, 3, 4, "b", "formula")


def asked() -> tuple[object, int]:
    broker = made()
    give(broker, OPERATOR, Kind.REQUEST, topics.WHERE, WhereRequest(GUILD), correlation=9)
    ((question, body),) = frames(broker)[B]
    assert (question.kind, question.topic) == (Kind.REQUEST, topics.GUILD_HELD)
    assert decode_body(body, WhereReply) == ANSWER
    return broker, question.correlation


def test_the_owner_answers_for_a_guild_that_it_holds() -> None:
    broker, number = asked()
    give(broker, B, Kind.REPLY, topics.GUILD_HELD, ANSWER, correlation=number)
    ((reply, body),) = frames(broker)[OPERATOR]
    assert (reply.kind, reply.topic, reply.correlation) == (Kind.REPLY, topics.WHERE, 9)
    assert decode_body(body, WhereReply) == ANSWER
    assert len(broker.router.in_flight) == 0


def test_the_owner_knows_of_no_such_guild() -> None:
    broker, number = asked()
    unknown = ErrorBody("E_NOT_FOUND", "in no guild", details={"exists": [1]})
    give(broker, B, Kind.ERROR, topics.GUILD_HELD, unknown, correlation=number)
    ((reply, body),) = frames(broker)[OPERATOR]
    assert (reply.kind, reply.correlation) == (Kind.ERROR, 9)
    assert decode_body(body, ErrorBody) == unknown


def test_an_owner_that_dies_ends_the_question() -> None:
    broker, _ = asked()
    broker.on(Exited("b", 1, 11, None, 9), 1.0)
    assert error(frames(broker), OPERATOR) == "E_UNREACHABLE"


def test_an_owner_that_is_silent_ends_it_at_the_deadline() -> None:
    broker = made()
    body = WhereRequest(GUILD)
    give(broker, OPERATOR, Kind.REQUEST, topics.WHERE, body, correlation=9, ttl_ms=2000)
    frames(broker)
    broker.on(Tick(), 2.1)
    assert error(frames(broker), OPERATOR) == "E_TIMEOUT"


def test_without_an_owner_the_formula_answers() -> None:
    broker = made()
    broker.on(Exited("b", 1, 11, 0, None), 1.0)
    frames(broker)
    give(broker, OPERATOR, Kind.REQUEST, topics.WHERE, WhereRequest(GUILD), correlation=9, now=1.0)
    ((reply, body),) = frames(broker)[OPERATOR]
    assert reply.kind is Kind.REPLY
    assert decode_body(body, WhereReply) == WhereReply(GUILD, 3, 4, None, "formula")


@pytest.mark.parametrize("guild", [-1, -(1 << 63)])
def test_a_number_that_is_no_snowflake_is_refused(guild: int) -> None:
    broker = made()
    give(broker, OPERATOR, Kind.REQUEST, topics.WHERE, WhereRequest(guild), correlation=9)
    assert error(frames(broker), OPERATOR) == "E_BAD_REQUEST"
