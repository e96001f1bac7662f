"""`where`: the table says who would own a guild, the owner says whether there is one."""

from __future__ import annotations

import pytest

from broker.core.events import Exited, Tick
from broker.core.rules import Rule
from shard_node.wire import topics
from shard_node.wire.bodies import ClientRegister, ErrorBody, WhereReply, WhereRequest
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Kind
from shard_node.wire.identity import client_id, operator_id
from shard_node.wire.lanes import Lane
from tests.broker.test_data_plane import CL, Plane
from tests.broker.test_router import B, error, frames, give, made

OPERATOR = operator_id(1, 1)
GUILD = 3 << 22
VERSION = 5
"""Of the table with a size, two nodes and their topics."""
ANSWER = WhereReply(GUILD, 3, 4, "b", "formula", VERSION, "(guild >> 22) % 4 = 3")


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
    answer = decode_body(body, WhereReply)
    assert (answer.shard, answer.node, answer.route) == (3, None, "formula")
    assert "node b is not there (storing): what is sent waits for it" in answer.why


@pytest.mark.parametrize("guild", [-1, -(1 << 63)])
def test_a_number_that_is_no_snowflake_is_refused(guild: int) -> None:
    broker = made()
    give(broker, OPERATOR, Kind.REQUEST, topics.WHERE, WhereRequest(guild), correlation=9)
    assert error(frames(broker), OPERATOR) == "E_BAD_REQUEST"


# --- what is no guild

RULES = (
    Rule("PRICES", ("b",), "", Lane.LOW),
    Rule("NOISE", ()),
    Rule("WORK", None, "math"),
    Rule("SLOW", None, "", Lane.LOW),
    Rule("LOST", ("b", "zz")),
)


def answer(plane: Plane, what: str) -> WhereReply:
    return decode_body(plane.ask(OPERATOR, topics.WHERE, WhereRequest(0, what)), WhereReply)


def refusal(plane: Plane, what: str) -> ErrorBody:
    return decode_body(plane.ask(OPERATOR, topics.WHERE, WhereRequest(0, what)), ErrorBody)


@pytest.mark.parametrize(
    ("what", "route", "nodes", "lane", "why"),
    [
        ("shard:2", "registration", ("b#1",), "", "node b registered with it"),
        ("node:a", "registration", ("a#1",), "", "registered, with shards 0-1"),
        ("topic:mine", "subscriptions", ("a#1", "b#1"), "", "subscribed to it"),
        ("topic:other", "subscriptions", (), "", "nobody subscribes"),
        ("topic:PRICES", "rule", ("b#1",), "low", "an operator's rule sends it to node b"),
        ("topic:NOISE", "rule", (), "", "an operator's rule sends it to nobody"),
        ("topic:WORK", "rule", (), "", "the pool math; no worker of the pool 'math'"),
        ("topic:SLOW", "subscriptions", (), "low", "an operator's rule sets its lane"),
        ("topic:LOST", "rule", ("b#1",), "", "to nodes b, zz; not registered: zz"),
        ("topic:SHARD_READY", "broker", (), "", "no rule holds for it"),
        ("pool:math", "pool", (), "", "no worker of the pool 'math'"),
    ],
)
def test_the_rule_that_applies_is_named(
    what: str, route: str, nodes: tuple[str, ...], lane: str, why: str
) -> None:
    plane = Plane(RULES).joined()
    reply = answer(plane, what)
    assert (reply.what, reply.route, reply.nodes, reply.lane) == (what, route, nodes, lane)
    assert why in reply.why
    assert reply.version == plane.broker.fleet.table.version
    assert (reply.guild, reply.num_shards) == (0, 4)
    assert reply.shard == (2 if what == "shard:2" else -1)


def test_who_is_away_is_waited_for_or_not() -> None:
    plane = Plane().joined()
    plane.die("b")
    for what in ("shard:3", "node:b"):
        reply = answer(plane, what)
        assert (reply.node, reply.nodes) == (None, ())
    assert "node b is not there (backoff): what is sent waits" in answer(plane, "shard:3").why
    assert "no node or client 'b' is registered" in answer(plane, "node:b").why


def test_a_client_is_found_by_its_short_name() -> None:
    plane = Plane().joined()
    plane.ask(CL, topics.CLIENT_REGISTER, ClientRegister("dash"))
    reply = answer(plane, "node:dash")
    assert (reply.nodes, reply.why) == ((CL.decode(),), "registered as a client")


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("shard:4", "E_NOT_FOUND", "no shard 4"),
        ("node:zz", "E_NOT_FOUND", "no node or client 'zz'"),
        ("shard:x", "E_BAD_REQUEST", "no number of a shard"),
        ("shard:-1", "E_BAD_REQUEST", "no number of a shard"),
        ("shard:" + "9" * 100, "E_BAD_REQUEST", "no number of a shard"),
        ("node:", "E_BAD_REQUEST", "none of shard:N, node:NAME"),
        ("planet:mars", "E_BAD_REQUEST", "none of shard:N, node:NAME"),
        ("topic:" + "x" * 129, "E_BAD_REQUEST", "none of"),
    ],
)
def test_what_is_not_there_is_refused(what: str, code: str, words: str) -> None:
    error = refusal(Plane().joined(), what)
    assert error.code == code
    assert words in error.message
    if code == "E_NOT_FOUND":
        assert error.details["exists"] in (["shards 0-3"], ["a", "b"])


def test_many_receivers_are_counted() -> None:
    plane = Plane().joined()
    for number in range(300):
        client = client_id("dash", 7, number)
        plane.ask(client, topics.CLIENT_REGISTER, ClientRegister("dash", ("mine",)))
    reply = answer(plane, "topic:mine")
    assert (len(reply.nodes), reply.more) == (256, 46)
