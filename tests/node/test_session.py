"""The session core: registration, requests, the broker away and back, the end."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.effects import Deliver, Fail, Link, LinkChanged, Settle, StopAsked, Transmit
from shard_node.errors import BrokerUnavailable, RequestFailed, RequestTimeout
from shard_node.pace import REGISTER_FIRST_S, REGISTER_TIMEOUT_S, SILENT_BEATS
from shard_node.session import (
    HELD_EVENTS_MAX,
    REGISTER_RETRY_S,
    REQUESTS_MAX,
    TRANSITIONS,
    NodeSession,
)
from shard_node.wire import bodies, topics
from shard_node.wire.codec import decode_body, encode_body
from shard_node.wire.header import Kind, header
from shard_node.wire.limits import BROKER_SILENT_S, HEARTBEAT_INTERVAL_S, HEARTBEAT_LOST_S
from shard_node.wire.targets import BROKER

ME = bodies.Register("a", 7, 100, 4, (), uptime_s=2.0)
WELCOME = bodies.Welcome(True, "f", 1, 1.0, 8.0)
LEASE = bodies.LeaseRequest("x", 30.0)


def reply(frame: Transmit, body: Any, kind: Kind = Kind.REPLY) -> tuple[Any, bytes]:
    head = header(kind, BROKER, frame.header.topic, correlation=frame.header.correlation)
    return head, encode_body(body)


def sent(effects: list[Any], topic: str | None = None) -> list[Transmit]:
    return [
        e for e in effects if isinstance(e, Transmit) and (topic is None or e.header.topic == topic)
    ]


def fresh(now: float = 0.0) -> tuple[NodeSession, Transmit]:
    session = NodeSession(ME, now)
    (register,) = session.start(now)
    assert isinstance(register, Transmit)
    return session, register


def registered(now: float = 0.0) -> NodeSession:
    session, register = fresh(now)
    effects = session.frame_received(*reply(register, WELCOME), now)
    assert effects == [LinkChanged(Link.REGISTERED)]
    return session


def test_it_introduces_itself_with_its_uptime() -> None:
    session = NodeSession(ME, 10.0)
    (frame,) = session.start(13.0)
    body = decode_body(frame.body, bodies.Register)
    assert (body.name, body.epoch, body.uptime_s) == ("a", 7, 5.0)
    assert frame.header.kind is Kind.REQUEST


def test_registration_is_asked_again_until_it_is_answered() -> None:
    session, first = fresh()
    assert session.tick(REGISTER_FIRST_S - 0.1) == []
    (again,) = session.tick(REGISTER_FIRST_S)
    assert again.header.correlation != first.header.correlation
    assert session.frame_received(*reply(first, WELCOME), 2.1) == []  # the old question
    assert session.frame_received(*reply(again, WELCOME), 2.2) == [LinkChanged(Link.REGISTERED)]


def test_registration_is_asked_again_less_and_less_often() -> None:
    session, _ = fresh()
    times = [0.0]
    for _ in range(8):
        times.append(session.next_deadline(times[-1]))
        assert len(sent(session.tick(times[-1]), topics.REGISTER)) == 1
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits[0] == pytest.approx(REGISTER_FIRST_S)
    assert waits[1] == pytest.approx(2 * REGISTER_FIRST_S)
    assert waits[-2:] == pytest.approx([REGISTER_TIMEOUT_S] * 2)


def test_a_broker_that_is_not_ready_is_asked_again_soon() -> None:
    session, first = fresh()
    error = bodies.ErrorBody("E_NOT_READY", "no plan yet", retryable=True)
    assert session.frame_received(*reply(first, error, Kind.ERROR), 1.0) == []
    assert session.next_deadline(1.0) == 1.0 + REGISTER_RETRY_S
    assert len(sent(session.tick(1.0 + REGISTER_RETRY_S), topics.REGISTER)) == 1


def test_an_old_epoch_stops_the_node_and_keeps_its_sessions() -> None:
    session, register = fresh()
    no = bodies.Welcome(False, "f", 1, 1.0, 8.0, reason="epoch 8 runs")
    effects = session.frame_received(*reply(register, no), 0.1)
    assert effects == [LinkChanged(Link.REFUSED), StopAsked("epoch 8 runs", None, False)]
    with pytest.raises(BrokerUnavailable):
        session.request(topics.LEASE, LEASE, 0.2, timeout_s=1)
    assert session.tick(100.0) == []


def test_a_request_is_settled_by_its_reply_once() -> None:
    session = registered()
    number, effects = session.request(topics.LEASE, LEASE, 1.0, timeout_s=5)
    (frame,) = sent(effects)
    assert (frame.header.ttl_ms, frame.expires_at) == (5000, 6.0)
    answer = bodies.LeaseReply(True, "a")
    assert session.frame_received(*reply(frame, answer), 2.0) == [Settle(number, answer)]
    assert session.frame_received(*reply(frame, answer), 2.0) == []


def test_a_request_fails_at_its_deadline() -> None:
    session = registered()
    number, _ = session.request(topics.LEASE, LEASE, 1.0, timeout_s=1)
    session.heartbeat_answered(bodies.HeartbeatAck(1, True, 1), 1.9)
    (failure,) = session.tick(2.0)
    assert isinstance(failure, Fail)
    assert failure.correlation == number
    assert isinstance(failure.error, RequestTimeout)


def test_an_error_carries_the_brokers_words() -> None:
    session = registered()
    _, effects = session.request(topics.LEASE, LEASE, 1.0, timeout_s=1)
    error = bodies.ErrorBody("E_BUSY", "too many", "wait", True)
    (failure,) = session.frame_received(*reply(sent(effects)[0], error, Kind.ERROR), 1.1)
    assert isinstance(failure.error, RequestFailed)
    assert (failure.error.code, failure.error.hint, failure.error.retryable) == (
        "E_BUSY", "wait", True,
    )  # fmt: skip


def test_a_reply_that_cannot_be_read_fails_the_request() -> None:
    session = registered()
    _, effects = session.request(topics.LEASE, LEASE, 1.0, timeout_s=1)
    (failure,) = session.frame_received(*reply(sent(effects)[0], 42), 1.1)
    assert isinstance(failure.error, RequestFailed)


def test_a_cancelled_request_is_forgotten() -> None:
    session = registered()
    number, effects = session.request(topics.LEASE, LEASE, 1.0, timeout_s=1)
    session.cancel(number)
    answer = bodies.LeaseReply(True, "a")
    assert session.frame_received(*reply(sent(effects)[0], answer), 1.1) == []
    assert session.tick(2.5) == []


def test_who_is_to_beat_less_often_waits_longer_for_the_broker() -> None:
    session = registered()
    assert session.pace.interval_s == HEARTBEAT_INTERVAL_S
    slow = bodies.HeartbeatAck(1, True, 1, heartbeat_interval_s=5.0)
    session.heartbeat_answered(slow, 1.0)
    assert session.pace.interval_s == 5.0
    assert session.tick(1.0 + 5.0 * SILENT_BEATS - 0.1) == []
    assert session.tick(1.0 + 5.0 * SILENT_BEATS) == [LinkChanged(Link.AWAY)]
    for wrong in (-1.0, 0.0, float("nan"), 1e9):
        session.pace.told(wrong)
        assert HEARTBEAT_INTERVAL_S <= session.pace.interval_s < HEARTBEAT_LOST_S


def test_silence_is_noticed_and_ends_nothing() -> None:
    session = registered()
    assert session.tick(BROKER_SILENT_S - 0.1) == []
    assert session.tick(BROKER_SILENT_S) == [LinkChanged(Link.AWAY)]
    number, effects = session.request(topics.LEASE, LEASE, 4.0, timeout_s=600)
    assert effects == []
    assert session.event(topics.PERMIT_RETURN, bodies.PermitReturn(1, 0), 5.0) == []
    effects = session.heartbeat_answered(bodies.HeartbeatAck(9, True, 1), 9.0)
    assert effects[0] == LinkChanged(Link.REGISTERED)
    assert [f.header.topic for f in sent(effects)] == [topics.PERMIT_RETURN, topics.LEASE]
    assert sent(effects)[1].header.correlation == number
    assert sent(effects)[1].header.ttl_ms == 595_000


def test_silence_for_hours_never_stops_a_node() -> None:
    session = registered()
    for hour in range(1, 49):
        effects = session.tick(hour * 3600.0)
        assert not [e for e in effects if isinstance(e, StopAsked)]
    assert session.link is Link.AWAY


def test_a_new_broker_is_registered_with_and_asked_again() -> None:
    session = registered()
    permit, effects = session.request(
        topics.PERMIT, bodies.PermitRequest(1, 4), 1.0, timeout_s=600, renew=True
    )
    once, more = session.request(topics.WHERE, bodies.WhereRequest(1), 1.0, timeout_s=600)
    session.shards = (bodies.ShardReport(1, bodies.ShardState.QUEUED),)
    effects = session.heartbeat_answered(bodies.HeartbeatAck(3, False, 2), 2.0)
    assert effects[0] == LinkChanged(Link.UNREGISTERED)
    assert isinstance(effects[1], Fail)
    assert (effects[1].correlation, type(effects[1].error)) == (once, BrokerUnavailable)
    (register,) = sent(effects, topics.REGISTER)
    assert decode_body(register.body, bodies.Register).shards == session.shards
    effects = session.frame_received(*reply(register, WELCOME), 2.5)
    (asked,) = sent(effects, topics.PERMIT)
    assert (asked.header.correlation, asked.header.ttl_ms) == (permit, 598_500)
    assert more


def test_several_acks_of_a_new_broker_register_once() -> None:
    session = registered()
    no = bodies.HeartbeatAck(3, False, 2)
    assert sent(session.heartbeat_answered(no, 2.0), topics.REGISTER)
    assert session.heartbeat_answered(no, 2.1) == []


@pytest.mark.parametrize("code", ["E_OLD_EPOCH", "E_NOT_REGISTERED"])
def test_a_broker_that_does_not_know_the_node_is_registered_with(code: str) -> None:
    session = registered()
    number, effects = session.request(topics.LEASE, LEASE, 1.0, timeout_s=60)
    error = bodies.ErrorBody(code, "who?")
    effects = session.frame_received(*reply(sent(effects)[0], error, Kind.ERROR), 1.1)
    (register,) = sent(effects, topics.REGISTER)
    effects = session.frame_received(*reply(register, WELCOME), 1.2)
    assert [f.header.correlation for f in sent(effects, topics.LEASE)] == [number]


def test_the_broker_asks_to_stop() -> None:
    session = registered()
    head = header(Kind.EVENT, BROKER, topics.NODE_STOP)
    body = encode_body(bodies.NodeStop("respawn", 3.0, True))
    assert session.frame_received(head, body, 1.0) == [StopAsked("respawn", 3.0, True)]
    assert session.frame_received(head, b"\xc1", 1.0) == []


def test_other_frames_are_delivered_and_requests_refused() -> None:
    session = registered()
    head = header(Kind.EVENT, BROKER, topics.BROADCAST, sender="b#1")
    assert session.frame_received(head, b"\x80", 1.0) == [Deliver(head, b"\x80")]
    asked = header(Kind.REQUEST, BROKER, topics.COMMAND_EXEC, correlation=5)
    (answer,) = session.frame_received(asked, b"\x80", 1.0)
    assert (answer.header.kind, answer.header.correlation) == (Kind.ERROR, 5)
    assert decode_body(answer.body, bodies.ErrorBody).code == "E_NO_HANDLER"


def test_a_request_that_the_node_serves_is_delivered_and_answered() -> None:
    serves: dict[str, None] = {}
    session = NodeSession(ME, 0.0, serves.keys())
    serves[topics.GUILD_HELD] = None
    asked = header(Kind.REQUEST, BROKER, topics.GUILD_HELD, correlation=5)
    assert session.frame_received(asked, b"\x80", 1.0) == [Deliver(asked, b"\x80")]
    (reply,) = session.answer(asked, LEASE, 1.0)
    assert (reply.header.kind, reply.header.correlation) == (Kind.REPLY, 5)
    (failure,) = session.answer(asked, bodies.ErrorBody("E_X", "x"), 1.0)
    assert failure.header.kind is Kind.ERROR


def test_held_events_are_bounded_and_the_oldest_goes() -> None:
    session, register = fresh()
    for number in range(HELD_EVENTS_MAX + 3):
        session.event(topics.PERMIT_RETURN, bodies.PermitReturn(number, 0), 0.0)
    assert session.dropped == 3
    frames = sent(session.frame_received(*reply(register, WELCOME), 1.0), topics.PERMIT_RETURN)
    assert len(frames) == HELD_EVENTS_MAX
    assert decode_body(frames[0].body, bodies.PermitReturn).permit == 3


def test_held_events_grow_old() -> None:
    session, register = fresh()
    session.event(topics.PERMIT_RETURN, bodies.PermitReturn(1, 0), 0.0)
    assert not sent(session.frame_received(*reply(register, WELCOME), 61.0), topics.PERMIT_RETURN)


def test_requests_are_bounded() -> None:
    session = registered()
    for _ in range(REQUESTS_MAX):
        session.request(topics.LEASE, LEASE, 0.0, timeout_s=1)
    with pytest.raises(BrokerUnavailable, match="open already"):
        session.request(topics.LEASE, LEASE, 0.0, timeout_s=1)


def test_the_end_fails_what_is_open() -> None:
    session = registered()
    number, _ = session.request(topics.LEASE, LEASE, 0.0, timeout_s=1)
    (failure,) = session.close()
    assert failure.correlation == number
    assert session.link is Link.CLOSED
    assert session.next_deadline(0.0) is None


def test_every_state_stands_in_the_table() -> None:
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(Link)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "tick",
                    "ack",
                    "noack",
                    "welcome",
                    "refuse",
                    "request",
                    "renewed",
                    "event",
                    "error",
                ]
            ),
            st.floats(0.0, 5.0),
        ),
        max_size=60,
    )
)
def test_every_request_ends_exactly_once(steps: list[tuple[str, float]]) -> None:
    """Whatever the broker does, each correlation is settled or failed once by its deadline."""
    now, session = 0.0, NodeSession(ME, 0.0)
    frames: list[Transmit] = sent(session.start(0.0))
    asked: list[int] = []
    ended: list[int] = []

    def take(effects: list[Any]) -> None:
        frames.extend(sent(effects))
        ended.extend(e.correlation for e in effects if isinstance(e, Settle | Fail))

    for step, wait in steps:
        now += wait
        registers = [f for f in frames if f.header.topic == topics.REGISTER]
        leases = [f for f in frames if f.header.topic == topics.LEASE]
        if step == "tick":
            take(session.tick(now))
        elif step in ("ack", "noack"):
            take(session.heartbeat_answered(bodies.HeartbeatAck(1, step == "ack", 1), now))
        elif step == "welcome":
            take(session.frame_received(*reply(registers[-1], WELCOME), now))
        elif step == "refuse" and leases:
            error = bodies.ErrorBody("E_BUSY", "no")
            take(session.frame_received(*reply(leases[-1], error, Kind.ERROR), now))
        elif step == "error" and leases:
            error = bodies.ErrorBody("E_OLD_EPOCH", "who")
            take(session.frame_received(*reply(leases[-1], error, Kind.ERROR), now))
        elif step in ("request", "renewed"):
            number, effects = session.request(
                topics.LEASE, LEASE, now, timeout_s=3, renew=step == "renewed"
            )
            asked.append(number)
            take(effects)
        elif step == "event":
            take(session.event(topics.PERMIT_RETURN, bodies.PermitReturn(1, 1), now))
    take(session.tick(now + 3.0))
    assert sorted(ended) == sorted(asked)


def test_a_broken_connection_is_a_new_broker_and_what_never_left_waits_for_it() -> None:
    session = registered()
    told = sent(session.event(topics.PERMIT_RETURN, bodies.PermitReturn(1, 0), 1.0))
    number, effects = session.request(topics.LEASE, LEASE, 1.0, timeout_s=60, renew=True)
    asked = sent(effects)
    effects = session.disconnected(1.5)
    assert effects[0] == LinkChanged(Link.UNREGISTERED)
    session.take_back([*told, *asked])
    (register,) = sent(effects)
    assert register.header.topic == topics.REGISTER
    effects = session.frame_received(*reply(register, WELCOME), 2.0)
    assert sent(effects)[0] == told[0]
    assert sent(effects)[1].header.correlation == number
