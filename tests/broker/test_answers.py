"""Answers are bounded: the largest fleet and the largest question cost no broker its life."""

from __future__ import annotations

from typing import Any

from broker.core.events import Exited, FrameReceived, Process, SupervisorHello
from broker.core.inflight import RESERVED, Ref
from broker.core.settings import Settings
from broker.services.machine import Broker
from broker.services.status import NODES_PER_PAGE
from shard_node.wire import topics
from shard_node.wire.bodies import (
    ClientRegister,
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    NodesReply,
    NodesRequest,
    RespawnRequest,
    StatusRequest,
    WhereRequest,
)
from shard_node.wire.codec import decode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import Peer, client_id, heartbeat_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import REQUESTS_IN_FLIGHT_MAX
from shard_node.wire.targets import Node
from store.records import Durable
from tests.broker.test_router import A, B, error, frames, give, made

OPERATOR = operator_id(1, 1)
NODES = 1024
SHARDS = 16 * NODES
LAST_WORDS = ("\N{SNOWMAN}" * 500,) * 20
"""The longest tail that the supervisor sends, in characters of three bytes."""


def large() -> Broker:
    """A fleet whose nodes have all ended with long last words."""
    broker = Broker(Settings("f", "app", "boot"), Durable(), 0.0)
    processes = tuple(
        Process(f"n{i}", 1, 10 + i, i, tuple(range(16 * i, 16 * i + 16)), SHARDS, 0.0)
        for i in range(NODES)
    )
    broker.on(SupervisorHello(1, processes), 0.0)
    for process in processes:
        broker.on(Exited(process.name, 1, process.pid, 3, None, 1.0, LAST_WORDS), 0.0)
    return broker


def page(broker: Broker, number: int) -> dict[str, Any]:
    give(broker, OPERATOR, Kind.REQUEST, topics.STATUS, StatusRequest(number))
    ((head, body),) = frames(broker)[OPERATOR]
    assert head.kind is Kind.REPLY
    return decode_body(body, dict)


def test_the_status_of_a_large_fleet_comes_in_pages() -> None:
    broker = large()
    first = page(broker, 0)
    pages = [first, *(page(broker, number) for number in range(1, first["pages"]))]
    assert first["pages"] == NODES // NODES_PER_PAGE
    names = [node["id"] for part in pages for node in part["nodes"]]
    assert names == [f"n{i}" for i in range(NODES)]
    assert [shard["id"] for part in pages for shard in part["shards"]] == list(range(SHARDS))
    assert page(broker, first["pages"])["nodes"] == []


def test_an_answer_over_the_limit_is_an_error_of_its_asker() -> None:
    broker = made()
    many = RespawnRequest(tuple(range(1000, 200_000)))
    give(broker, OPERATOR, Kind.REQUEST, topics.RESPAWN, many)
    ((head, body),) = frames(broker)[OPERATOR]
    refusal = decode_body(body, ErrorBody)
    assert (head.kind, refusal.code) == (Kind.ERROR, "E_NOT_FOUND")
    assert refusal.details == {"exists": [0, 1, 2, 3]}
    peer = Peer("operator", "op-1-1", 0)
    ref = Ref(0, OPERATOR, peer, topics.STATUS, Lane.HIGH, 9, 1e9)
    broker.router.reply(broker.router.in_flight.add(ref), {"much": "x" * (1 << 20)})
    assert error(frames(broker), OPERATOR) == "E_TOO_LARGE"


def test_a_flood_of_requests_leaves_the_heartbeats_their_place() -> None:
    broker = made()
    for number in range(1, REQUESTS_IN_FLIGHT_MAX):
        head = header(Kind.REQUEST, Node("b"), "mine", correlation=number, ttl_ms=3_600_000)
        broker.on(FrameReceived(A, encode_header(head), b"\xc0"), 0.0)
        broker.outbox.forget(B)
    assert len(broker.router.in_flight) == REQUESTS_IN_FLIGHT_MAX - RESERVED
    assert error(frames(broker), A) == "E_BUSY"
    give(broker, OPERATOR, Kind.REQUEST, topics.WHERE, WhereRequest(3 << 22))
    assert error(frames(broker), OPERATOR) == "E_BUSY"
    assert page(broker, 0)["nodes"]
    heart = heartbeat_id("b", 1)
    give(broker, heart, Kind.REQUEST, topics.HEARTBEAT, Heartbeat(4, 0.0, 1, 0, ()))
    ((head, body),) = frames(broker)[heart]
    assert head.kind is Kind.REPLY
    assert decode_body(body, HeartbeatAck).registered


def planned(broker: Broker) -> dict[str, bool]:
    give(broker, OPERATOR, Kind.REQUEST, topics.NODES, NodesRequest())
    ((head, body),) = frames(broker)[OPERATOR]
    assert head.kind is Kind.REPLY
    return dict(decode_body(body, NodesReply).nodes)


def test_the_nodes_of_the_plan_and_who_of_them_is_there() -> None:
    broker = made()
    assert planned(broker) == {"a": True, "b": True}
    broker.on(Exited("b", 1, 12, 1, None, 1.0), 1.0)
    assert planned(broker) == {"a": True, "b": False}
    assert planned(large()) == {f"n{i}": False for i in range(NODES)}


def test_a_client_that_is_called_like_a_node_does_not_stand_for_it() -> None:
    broker = made()
    broker.on(Exited("b", 1, 12, 1, None, 1.0), 1.0)
    client = client_id("b", 1, 1)
    give(broker, client, Kind.REQUEST, topics.CLIENT_REGISTER, ClientRegister("b", ()))
    frames(broker)
    assert planned(broker) == {"a": True, "b": False}
