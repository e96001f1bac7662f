"""The operator's client against a real ROUTER that answers as a broker would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shard_node.wire.bodies import ErrorBody, RespawnRequest, StatusRequest, WhereReply
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Header, Kind
from shard_node.wire.identity import parse_peer
from shard_node.wire.targets import BROKER
from shardctl.client import Client
from shardctl.errors import NoBroker, Refused
from shardctl.opclient import Operations
from shardctl.paths import FleetPaths
from tests.support.answering import Answer, Router, reply


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetPaths:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = tmp_path / "run"
    run.mkdir()
    return FleetPaths("test", tmp_path, run)


@pytest.fixture
def router(paths: FleetPaths) -> Iterator[Callable[[Answer], Router]]:
    made: list[Router] = []

    def make(answer: Answer) -> Router:
        made.append(Router(paths, answer))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_an_answer(paths: FleetPaths, router: Callable[[Answer], Router]) -> None:
    def answer(head: Header, body: bytes) -> list[list[bytes]]:
        assert decode_body(body, StatusRequest) == StatusRequest()
        assert (head.kind, head.target, head.ttl_ms) == (Kind.REQUEST, BROKER, 5000)
        return [reply(head, {"fleet": "test"})]

    served = router(answer)
    with Client(paths) as client:
        assert client.status() == {"fleet": "test"}
        assert client.status() == {"fleet": "test"}
    peer = parse_peer(served.peers[0])
    assert peer is not None
    assert peer.role == "operator"


def test_a_status_is_put_together_from_its_pages(
    paths: FleetPaths, router: Callable[[Answer], Router]
) -> None:
    def answer(head: Header, body: bytes) -> list[list[bytes]]:
        page = decode_body(body, StatusRequest).page
        part = {"fleet": "test", "pages": 3, "nodes": [f"n{page}"], "shards": [page, page + 10]}
        return [reply(head, part)]

    router(answer)
    with Client(paths) as client:
        report = client.status()
    assert report["nodes"] == ["n0", "n1", "n2"]
    assert report["shards"] == [0, 10, 1, 11, 2, 12]
    assert "pages" not in report


def test_what_answers_something_else_is_passed_over(
    paths: FleetPaths, router: Callable[[Answer], Router]
) -> None:
    def answer(head: Header, _body: bytes) -> list[list[bytes]]:
        return [
            [b"garbage", b""],
            [b"one part only"],
            reply(head, {"old": True}, correlation=999),
            reply(head, WhereReply(5, 1, 4, "a", "formula")),
        ]

    router(answer)
    with Client(paths) as client:
        assert client.where(5).node == "a"


def test_an_error_has_the_exit_code_of_its_kind_and_says_what_exists(
    paths: FleetPaths, router: Callable[[Answer], Router]
) -> None:
    bodies = iter(
        [
            ErrorBody("E_NOT_FOUND", "no shard 9", details={"exists": [0, 1]}),
            ErrorBody("E_TIMEOUT", "too late", retryable=True),
            ErrorBody("E_IDENTIFY_BUDGET", "none left", retryable=True),
            ErrorBody("E_MEMORY", "210 MiB, 150 MiB are free", retryable=True),
            ErrorBody("E_CONFLICT", "shard 9 is being moved by op-1", retryable=True),
            ErrorBody("E_TOO_LATE", "it has ended"),
            ErrorBody("E_OTHER", "no", hint="do this"),
        ]
    )
    router(lambda head, _body: [reply(head, next(bodies), Kind.ERROR)])
    with Client(paths) as client:
        for code, words in (
            (4, "There are: 0, 1."),
            (75, "too late"),
            (75, "none left"),
            (75, "150 MiB are free"),
            (77, "by op-1"),
            (77, "it has ended"),
            (77, "hint: do this"),
        ):
            with pytest.raises(Refused) as caught:
                Operations(client).respawn(RespawnRequest((9,)))
            assert caught.value.exit_code == code
            assert words in caught.value.render()


def test_silence_ends_at_the_deadline(
    paths: FleetPaths, router: Callable[[Answer], Router]
) -> None:
    router(lambda _head, _body: [])
    with Client(paths, timeout_s=0.2) as client:
        start = time.monotonic()
        with pytest.raises(NoBroker, match=r"no answer in 0\.2 s"):
            client.status()
        assert time.monotonic() - start < 1.0


def test_no_socket_is_said_at_once(paths: FleetPaths) -> None:
    with pytest.raises(NoBroker, match="does not run"):
        Client(paths)
