"""Routes, dead letters and counts of a real fleet, as its operator sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

import shard_node
from shard_node.errors import Undeliverable
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.targets import BROKER
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SETTINGS = """\
[[routes]]
category = "PRICES"
to = ["node:b", "node:dash"]
lane = "low"

[[routes]]
category = "NOISE"
to = "nobody"
"""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("plane"), "plane") as fleet:
        (fleet.bot_folder / "shardctl.toml").write_text(SETTINGS)
        fleet.start()
        yield fleet


def ask(fleet: Fleet, *args: str) -> Any:
    return json.loads(fleet.run(*args, "--json", check=True).stdout)


def test_the_table_and_its_rules_are_those_of_the_settings(standing: Fleet) -> None:
    table = ask(standing, "routes")
    assert [(node["id"], node["shards"]) for node in table["nodes"]] == [
        ("a", [[0, 1]]),
        ("b", [[2, 3]]),
    ]
    assert [rule["category"] for rule in table["rules"]] == ["PRICES", "NOISE"]
    found = ask(standing, "where", "topic:PRICES")
    assert (found["route"], found["lane"], len(found["to"])) == ("rule", "low", 1)
    assert "not registered: dash" in found["why"]
    assert "dash (for PRICES)" in standing.run("status", check=True).stdout
    epoch = {node["id"]: node["epoch"] for node in table["nodes"]}
    assert ask(standing, "where", "node:a")["to"] == [f"a#{epoch['a']}"]
    assert ask(standing, "where", "shard:3")["to"] == [f"b#{epoch['b']}"]


def test_a_rule_moves_what_is_published_and_a_letter_arrives_in_the_end(standing: Fleet) -> None:
    endpoint = standing.paths.endpoint

    async def publish() -> list[Any]:
        got: list[Any] = []
        async with (
            shard_node.connect(endpoint, "sender") as sender,
            shard_node.connect(endpoint, "dash") as dash,
        ):
            heard = asyncio.Event()

            async def listen(message: Any) -> None:
                got.append((message.topic, message.lane))
                heard.set()

            dash.on("PRICES", listen)
            async with asyncio.timeout(10):
                # Nobody but the rule says that dash gets it.
                while not heard.is_set():
                    await sender.publish("PRICES", {"price": 1})
                    await asyncio.wait([asyncio.ensure_future(heard.wait())], timeout=0.05)
            await sender.publish("NOISE", {"x": 1})
            with pytest.raises(Undeliverable):
                await sender.send(shard_node.Node("later"), "HELLO", {"x": 1})
        return got

    assert ("PRICES", "low") in asyncio.run(publish())
    report = standing.status()["broker"]
    assert report["counts"]["unrouted"] >= 1
    assert report["dead_letters"] == 1

    async def receive() -> str:
        async with shard_node.connect(endpoint, "later") as later:
            heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            later.on("HELLO", lambda message: heard.set_result(message.sender))
            # Its registration has been answered: the letter finds it.
            number = str(ask(standing, "dead-letters", "list")["letters"][0]["number"])
            done = await asyncio.to_thread(standing.run, "dead-letters", "retry", number)
            assert done.returncode == 0, done.stdout
            return await asyncio.wait_for(heard, 10)

    assert asyncio.run(receive()).startswith("dl-")
    assert ask(standing, "dead-letters", "list")["letters"] == []


def test_hostile_frames_are_counted_by_reason(standing: Fleet) -> None:
    good = encode_header(header(Kind.EVENT, BROKER, "x"))
    frames = [
        (b"zz#9", [b"\x93\xff", b""], "malformed"),
        (b"op-1-77", [b"\x91" * 3000, b"\x91" * 3000], "malformed"),
        (b"zz#9", [good], "parts"),
        (b"op-1-77", [encode_header(Header(9, Kind.EVENT, BROKER, "x")), b""], "version"),
        (b"op-1-77", [good, b"\xc0"], "topic"),
        (b"\xff\xfe", [good, b""], "identity"),
        (
            b"op-1-77",
            [encode_header(header(Kind.REPLY, BROKER, "x")), encode_body(None)],
            "stray_reply",
        ),
    ]
    before = standing.status()["broker"]["rejected"]
    context = zmq.Context()
    sockets = {}
    try:
        for identity, parts, _ in frames:
            if identity not in sockets:
                sockets[identity] = context.socket(zmq.DEALER)
                sockets[identity].setsockopt(zmq.IDENTITY, identity)
                sockets[identity].connect(standing.paths.endpoint)
            sockets[identity].send_multipart(parts)

        def counted() -> dict[str, int] | None:
            after = standing.status()["broker"]["rejected"]
            fresh = {key: n - before.get(key, 0) for key, n in after.items()}
            return fresh if sum(fresh.values()) >= len(frames) else None

        fresh = wait_for("the refusals", counted)
    finally:
        context.destroy(linger=0)
    reasons = [reason for _, _, reason in frames]
    assert {key: n for key, n in fresh.items() if n} == {
        reason: reasons.count(reason) for reason in reasons
    }
    shown = standing.run("status", "--verbose", check=True).stdout
    assert "malformed: bytes that are no header" in shown
    assert "credit in use: " in shown


def test_a_rule_that_cannot_be_stops_the_start(tmp_path: Path) -> None:
    with Fleet(tmp_path, "wrong") as fleet:
        (fleet.bot_folder / "shardctl.toml").write_text('[[routes]]\ncategory = "X"\nlane = "l"\n')
        done = fleet.run("start", "--sandbox")
        assert done.returncode == 78
        assert "shardctl.toml:3: lane = 'l' is not allowed" in done.stderr
        assert not fleet.processes()
