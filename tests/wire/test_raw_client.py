"""A client written from shard-protocol(7) alone, against a real broker and peers of ours."""

from __future__ import annotations

import ast
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from shard_node.errors import NoHandler, RemoteError, Undeliverable
from shard_node.peer.connect import connect
from shard_node.runtime import Node
from shard_node.wire.targets import Node as ToNode
from tests.peer.nodes import make, running
from tests.support.aio import async_test
from tests.support.broker_rig import Rig
from tests.support.foreign import raw_client
from tests.support.foreign.raw_client import (
    BATCH,
    BROKER,
    CREDIT,
    ERROR,
    HIGH,
    LOW,
    RECEIPT,
    REQUEST,
    REROUTED,
    RESENT,
    Failed,
    RawClient,
)

WAIT_S = 20.0
A = ["n", "a"]


class Fleet:
    """A real broker, one node of ours on this loop, and raw clients that ``until`` drives."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder, shards=1, nodes=1)
        self.raws: list[RawClient] = []
        self.line: dict[str, Any] = {}

    def spawned(self) -> Node:
        """The node that the broker asks for next."""
        line = self.line = self.rig.hear("spawn")
        name, epoch = line["name"], line["epoch"]
        self.rig.say({"ev": "spawned", "name": name, "epoch": epoch, "pid": os.getpid()})
        return make(self.rig.endpoint, name.removeprefix("node:"), epoch)

    def raw(self, name: str, topics: tuple[str, ...] = ()) -> RawClient:
        client = RawClient(self.rig.endpoint, name, topics)
        self.raws.append(client)
        return client

    async def until(self, look: Callable[[], object], timeout_s: float = WAIT_S) -> None:
        async with asyncio.timeout(timeout_s):
            while not look():
                for raw in self.raws:
                    raw.step()
                await asyncio.sleep(0.001)

    async def ask(self, raw: RawClient, topic: str) -> Any:
        asked = raw.request(BROKER, topic, [])
        await self.until(lambda: asked.done)
        return asked.value

    async def subscribed(self, raw: RawClient, topic: str) -> None:
        """The broker knows of somebody who listens."""
        async with asyncio.timeout(WAIT_S):
            while topic not in str(await self.ask(raw, "routes.show")):
                pass

    async def rejected(self, raw: RawClient) -> dict[str, int]:
        return dict((await self.ask(raw, "fleet.status"))["broker"]["rejected"])

    async def counted(self, raw: RawClient, reason: str, count: int) -> None:
        """The broker has counted so many frames by a reason."""
        deadline = time.monotonic() + WAIT_S / 4
        while (found := await self.rejected(raw)).get(reason, 0) != count:
            assert time.monotonic() < deadline, (reason, count, found)

    def kill_broker_and_start_again(self) -> None:
        self.rig.kill()
        keys = ("name", "epoch", "index", "shards", "num_shards")
        proc = {key: self.line[key] for key in keys} | {"pid": os.getpid(), "uptime_s": 5.0}
        self.rig.launch([proc])
        self.rig.hear("serving")


@asynccontextmanager
async def fleet_of(folder: Path, prelude: str = "") -> AsyncIterator[tuple[Fleet, Node, RawClient]]:
    """With one raw client, registered."""
    fleet = Fleet(folder)
    fleet.rig.prelude = prelude
    with fleet.rig:
        fleet.rig.launch()
        fleet.rig.hear("serving")
        node = fleet.spawned()
        try:
            async with running(node):
                raw = fleet.raw("raw")
                await fleet.until(lambda: raw.registered)
                yield fleet, node, raw
        finally:
            for client in fleet.raws:
                client.close()


def test_it_stands_on_the_standard_library_zmq_and_msgpack() -> None:
    tree = ast.parse(Path(raw_client.__file__).read_text())
    names: set[str] = set()
    for part in ast.walk(tree):
        if isinstance(part, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in part.names}
        elif isinstance(part, ast.ImportFrom):
            assert part.level == 0
            names.add((part.module or "").partition(".")[0])
        elif isinstance(part, ast.Call):
            assert not isinstance(part.func, ast.Name) or part.func.id != "__import__"
    assert names - set(sys.stdlib_module_names) == {"zmq", "msgpack"}
    assert "importlib" not in names


# --- what it can do


@pytest.mark.slow
@async_test
async def test_it_registers_beats_and_asks_the_broker(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, _, raw):
        assert raw.welcome[1] == "test-fleet"
        await fleet.until(lambda: raw.counts["beats"] >= 2)
        assert raw.counts["registrations"] == 1
        routes = raw.request(BROKER, "routes.show", [])
        unknown = raw.request(BROKER, "no.such", [])
        forbidden = raw.request(BROKER, "fleet.stop", [])
        await fleet.until(lambda: routes.done and unknown.done and forbidden.done)
        assert isinstance(routes.value, dict)
        assert (unknown.outcome.code, forbidden.outcome.code) == ("E_NO_HANDLER", "E_REFUSED")


@pytest.mark.slow
@async_test
async def test_events_go_both_ways_in_batches_and_in_order(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        here: list[Any] = []
        there: list[Any] = []
        raw.on("to-raw", lambda message: here.append((message.sender, message.body)))
        node.on("to-node", lambda message: there.append((message.sender, message.body)))
        for topic in ("to-raw", "to-node"):
            await fleet.subscribed(raw, topic)
        for number in range(3000):
            raw.publish("to-node", number)
            await node.publish("to-raw", {"n": number})
        await fleet.until(lambda: len(there) == 3000 and len(here) == 3000)
        assert there == [(raw.routing_id, number) for number in range(3000)]
        assert here == [("a", {"n": number}) for number in range(3000)]
        assert raw.counts["messages"] >= 3000 > 20 * raw.counts["frames"]
        await fleet.until(lambda: raw.not_left == 0)


@pytest.mark.slow
@async_test
async def test_its_messages_end_with_a_receipt_or_an_error(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        got: list[int] = []

        @node.on("take")
        async def take(message: Any) -> None:
            await asyncio.sleep(0)
            if message.body == 7:
                raise ValueError("seven")
            got.append(message.body)

        sent = [raw.send(A, "take", number) for number in range(600)]
        by_guild = raw.send(["g", 1 << 30], "take", 1000, lane=LOW)
        unheard = raw.send(A, "unheard", 1)
        nobody = raw.send(["n", "zz"], "take", 1)
        pool = raw.request(["p", "math"], "sum", [1])
        to_broker = raw.send(["b"], "take", 1)
        asks = [*sent, by_guild, unheard, nobody, pool, to_broker]
        await fleet.until(lambda: all(ask.done for ask in asks))
        failed = sent.pop(7).outcome
        assert (failed.code, failed.text) == ("E_REMOTE", "ValueError: seven")
        assert {ask.value for ask in [*sent, by_guild]} == {"delivered"}
        in_lane = [number for number in got if number < 1000]
        assert in_lane == [number for number in range(600) if number != 7]
        assert unheard.outcome.code == "E_NO_HANDLER"
        assert nobody.outcome.code == "E_UNREACHABLE"
        assert pool.outcome.code == "E_NO_HANDLER"
        assert to_broker.outcome.code == "E_REFUSED"
        assert raw.counts["bounces"] == 3


@pytest.mark.slow
@async_test
async def test_it_handles_messages_and_gives_receipts(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        got: list[int] = []

        def take(message: Any) -> None:
            if message.body == 3:
                raise KeyError("three")
            got.append(message.body)

        raw.on("take", take)
        to = ToNode("raw")
        sends = [asyncio.ensure_future(node.send(to, "take", n)) for n in range(500)]
        unheard = asyncio.ensure_future(node.send(ToNode(raw.routing_id), "unheard", 1))
        await fleet.until(lambda: all(send.done() for send in [*sends, unheard]))
        with pytest.raises(RemoteError, match="three") as caught:
            await sends.pop(3)
        assert caught.value.type_name == "KeyError"
        assert all(not send.result().rerouted for send in sends)
        assert got == [number for number in range(500) if number != 3]
        with pytest.raises(NoHandler):
            await unheard


@pytest.mark.slow
@async_test
async def test_requests_go_both_ways(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        node.serve("double", lambda message: message.body * 2)

        @node.serve("bad")
        async def bad(message: Any) -> None:
            raise LookupError("no such thing")

        def wrong(message: Any) -> None:
            raise ZeroDivisionError("nothing")

        raw.serve("half", lambda message: message.body / 2)
        raw.serve("wrong", wrong)
        asked = [raw.request(A, "double", number) for number in range(300)]
        failed, nobody = raw.request(A, "bad", None), raw.request(A, "none", None)
        to = ToNode(raw.routing_id)
        asking = [asyncio.ensure_future(node.request(to, "half", n)) for n in range(300)]
        fails = asyncio.ensure_future(node.request(to, "wrong"))
        unserved = asyncio.ensure_future(node.request(to, "none"))
        everything = [*asking, fails, unserved]
        await fleet.until(
            lambda: (
                all(ask.done for ask in [*asked, failed, nobody])
                and all(ask.done() for ask in everything)
            )
        )
        assert [ask.value for ask in asked] == [2 * number for number in range(300)]
        assert (failed.outcome.code, failed.outcome.text) == (
            "E_REMOTE",
            "LookupError: no such thing",
        )
        assert failed.outcome.details == {"type": "LookupError"}
        assert nobody.outcome.code == "E_NO_HANDLER"
        assert [ask.result() for ask in asking] == [number / 2 for number in range(300)]
        with pytest.raises(RemoteError, match="nothing"):
            await fails
        with pytest.raises(NoHandler):
            await unserved


@pytest.mark.slow
@async_test
async def test_it_keeps_to_its_windows(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, _, raw):
        got: list[int] = []
        slow = fleet.raw("slow")
        slow.on("flood", lambda message: got.append(message.body))
        await fleet.until(lambda: slow.registered)
        fleet.raws.remove(slow)  # it reads nothing for now
        sent = [raw.send(["n", "slow"], "flood", number) for number in range(10_000)]
        await fleet.until(lambda: raw.counts["messages"] > 2048)  # the stuck one's window is back
        assert raw.counts["most_not_left"] <= 2048
        fleet.raws.append(slow)
        slow.paused = True
        await fleet.until(lambda: sum(len(m) for q in slow._inbox for _, m, _, _ in q) >= 256)
        await fleet.ask(raw, "routes.show")
        assert sum(len(m) for q in slow._inbox for _, m, _, _ in q) == 256
        slow.paused = False
        await fleet.until(lambda: all(ask.done for ask in sent))
        assert got == list(range(10_000))
        assert {ask.value for ask in sent} == {"delivered"}
        assert slow.counts["doubles"] == 0


# --- who goes and comes


@pytest.mark.slow
@async_test
async def test_kill_9_of_the_broker_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        here: list[int] = []
        there: list[int] = []

        @node.on("m")
        async def take(message: Any) -> None:
            await asyncio.sleep(0.001)
            there.append(message.body)

        raw.on("m", lambda message: here.append(message.body))
        raw.serve("same", lambda message: message.body)
        node.serve("same", lambda message: message.body)
        sent: list[Any] = []
        sends: list[asyncio.Future[Any]] = []
        asked: list[Any] = []

        async def say(count: int) -> None:
            for _ in range(count):
                number = len(sent)
                sent.append(raw.send(A, "m", number))
                sends.append(asyncio.ensure_future(node.send(ToNode(raw.routing_id), "m", number)))
                asked.append(raw.request(A, "same", number))
                if number % 7 == 0:
                    await fleet.until(lambda: True)
                    for client in fleet.raws:
                        client.step()
                    await asyncio.sleep(0)

        for round_ in range(1, 4):
            await say(300)
            fleet.kill_broker_and_start_again()
            await say(100)
            await fleet.until(lambda n=round_ + 1: raw.counts["registrations"] == n)
        await fleet.until(
            lambda: all(ask.done for ask in [*sent, *asked]) and all(send.done() for send in sends)
        )
        assert {ask.outcome for ask in sent} == {"delivered"}
        assert [send.exception() for send in sends if send.exception()] == []
        assert there == list(range(len(sent)))
        assert here == list(range(len(sends)))
        for number, ask in enumerate(asked):  # answered, or too late: it may have run, once
            if isinstance(ask.outcome, Failed):
                assert ask.outcome.code == "E_EXPIRED"
            else:
                assert ask.value == number
        assert raw.counts["resent"] > 0


@pytest.mark.slow
@async_test
async def test_what_is_for_a_client_that_is_not_back_yet_waits_for_it(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        got: list[int] = []
        raw.on("m", lambda message: got.append(message.body))
        fleet.kill_broker_and_start_again()
        fleet.raws.remove(raw)
        sends = [asyncio.ensure_future(node.send(ToNode(raw.routing_id), "m", 1))]
        await fleet.until(lambda: node.broker_up and not node._plane.outbox.waiting)
        sends.append(asyncio.ensure_future(node.send(ToNode(raw.routing_id), "m", 2)))
        await fleet.until(lambda: not node._plane.outbox._out_messages)  # the broker has them
        fleet.raws.append(raw)
        await fleet.until(lambda: all(send.done() for send in sends))
        assert [send.result().rerouted for send in sends] == [False, False]
        assert got == [1, 2]


@pytest.mark.slow
@async_test
async def test_a_node_that_dies_ends_requests_and_its_messages_go_to_the_next(
    tmp_path: Path,
) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        never = asyncio.Event()

        @node.serve("never")
        async def wait(message: Any) -> None:
            await never.wait()

        @node.on("m")
        async def hang(message: Any) -> None:
            await never.wait()

        asked = raw.request(A, "never", 1, ttl_s=30)
        sent = [raw.send(["s", 0, 0], "m", number) for number in range(5)]
        await fleet.until(lambda: len(node._plane._stepper.running) == 6)
        died = {"ev": "exited", "name": fleet.line["name"], "epoch": 1, "pid": os.getpid()}
        fleet.rig.say(died | {"code": None, "signal": 9, "uptime_s": 1.0, "tail": []})
        await fleet.until(lambda: asked.done)
        assert raw.gone == [("a", 1)]
        assert asked.outcome.code == "E_UNREACHABLE"
        got: list[int] = []
        again = fleet.spawned()
        again.on("m", lambda message: got.append(message.body))
        async with running(again):
            await fleet.until(lambda: all(ask.done for ask in sent))
        assert {ask.value for ask in sent} == {"rerouted"}
        assert got == list(range(5))
        never.set()


@pytest.mark.slow
@async_test
async def test_a_program_of_ours_and_it_are_clients_of_one_fleet(tmp_path: Path) -> None:
    async with (
        fleet_of(tmp_path) as (fleet, _, raw),
        connect(fleet.rig.endpoint, "dash") as dash,
    ):
        raw.serve("name", lambda message: message.sender)
        dash.serve("name", lambda message: message.sender)
        answer = asyncio.ensure_future(dash.request(ToNode("raw"), "name"))
        asked = raw.request(["n", "dash"], "name", None)
        await fleet.until(lambda: answer.done() and asked.done)
        assert answer.result().startswith("cl-dash-")
        assert asked.value == raw.routing_id


# --- bad input, at it and from it


class Impostor:
    """A ROUTER in a broker's place that says what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"ipc://{folder}/b.sock"
        self.context = zmq.Context()
        self.open()
        self.raw = RawClient(self.endpoint, "raw")
        self.got: list[tuple[list[Any], Any]] = []

    def open(self) -> None:
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.bind(self.endpoint)

    def close(self) -> None:
        self.raw.close()
        self.socket.close(0)
        self.context.term()

    def say(self, head: list[Any], body: Any) -> None:
        self.socket.send_multipart(
            [self.raw.routing_id.encode(), msgpack.packb(head), msgpack.packb(body)]
        )

    def batch(self, messages: list[Any], seq: int, flags: int = 1, sender: str = "a#1") -> None:
        count = len(messages)
        self.say([1, 7, A, "", 2, 0, 0, sender, seq, count, flags, "", 1, 0.0], messages)

    def hear(self, kind: int) -> tuple[list[Any], Any]:
        """The next frame of this kind from the client."""
        found: list[tuple[list[Any], Any]] = []

        def look() -> bool:
            while self.socket.poll(0):
                _, head, body = self.socket.recv_multipart()
                self.got.append((msgpack.unpackb(head), msgpack.unpackb(body)))
            for place, (head, _) in enumerate(self.got):
                if head[1] == kind:
                    found.append(self.got.pop(place))
                    return True
            return False

        self.raw.run_until(look)
        return found[0]

    def welcome(self) -> None:
        head, body = self.hear(REQUEST)
        while head[3] != "client.register":
            head, body = self.hear(REQUEST)
        assert body == ["raw", self.raw.topics]
        self.say([1, 3, ["b"], head[3], 0, head[5]], [True, "f", 1, 60.0, 1.0, ""])
        self.raw.run_until(lambda: self.raw.registered)
        assert self.hear(CREDIT)[1][:2] == [0, 0]


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Impostor]:
    impostor = Impostor(tmp_path)
    try:
        yield impostor
    finally:
        impostor.close()


@pytest.mark.slow
def test_what_comes_twice_is_handled_once_and_receipted_twice(impostor: Impostor) -> None:
    raw, got = impostor.raw, list[Any]()
    raw.on("m", lambda message: got.append(message.body))
    raw.serve("s", lambda message: got.append(message.body))
    impostor.welcome()
    messages = [[1, "m", b"\x01", 1, 0], [1, "m", b"\x02", 2], [2, "s", b"\x03", 9, 1000]]
    size = len(msgpack.packb(messages))
    for seq in (1, 2):
        impostor.batch(messages, seq, flags=1 if seq == 1 else 1 | RESENT | REROUTED)
        assert impostor.hear(CREDIT)[1][:2] == [3 * seq, size * seq]
    frames = [impostor.hear(BATCH) for _ in range(3)]
    receipts = [(head, body) for head, body in frames if body[0][0] == RECEIPT]
    assert [head[2:5] for head, _ in receipts] == [[A, "", HIGH]] * 2
    assert [msgpack.unpackb(body[0][2]) for _, body in receipts] == [
        [2, [[1, 2]], [], []],
        [2, [], [[1, 2]], []],
    ]
    assert [body[0][3] for _, body in receipts] == [1, 1]
    assert got == [1, 2, 3]
    assert raw.counts["doubles"] == 3


@pytest.mark.slow
def test_an_older_process_of_a_name_is_passed_over(impostor: Impostor) -> None:
    raw, got = impostor.raw, list[Any]()
    raw.on("m", lambda message: got.append(message.body))
    impostor.welcome()
    for epoch, body in ((2, b"\x02"), (1, b"\x01"), (3, b"\x03")):
        impostor.batch([[1, "m", body, 1, 0]], 1, sender=f"a#{epoch}")
    raw.run_until(lambda: raw._handled[0] == 3)
    assert got == [2, 3]


@pytest.mark.slow
def test_after_a_reconnection_it_sends_again_what_is_not_known_to_be_handled(
    impostor: Impostor,
) -> None:
    raw = impostor.raw
    impostor.welcome()
    raw.send(A, "m", 1)  # will have left for a#1
    asked = raw.request(A, "s", 1, lane=2)
    first, _ = impostor.hear(BATCH)
    assert (first[8], first[9], first[10], first[12]) == (1, 2, 1, 1)
    raw.send(A, "m", 2)  # not known to have left
    raw.request(A, "s", 2, lane=2)
    impostor.hear(BATCH)
    raw.publish("news", 1)
    impostor.hear(BATCH)
    impostor.say([1, 6, ["b"], "", 0], [[[2, 1, "a#1"]]])
    raw.run_until(lambda: raw.not_left == 3)
    impostor.socket.close(0)
    raw.run_until(lambda: not raw.registered)
    raw.send(A, "m", 3)
    impostor.open()
    impostor.welcome()
    frames = [impostor.hear(BATCH) for _ in range(3)]
    assert [(h[8], h[10], h[11], h[12]) for h, _ in frames] == [
        (4, 1 | RESENT, "a#1", 1),
        (5, 1 | RESENT, "", 1),
        (6, 1, "", 1),
    ]
    assert [[(m[0], m[3]) for m in body] for _, body in frames] == [
        [(1, 1)],
        [(1, 2), (2, 2)],
        [(1, 3)],
    ]
    impostor.batch([[3, "", b"\xc3", 1, 0]], 1)
    raw.run_until(lambda: asked.done)
    assert asked.value is True


BAD_FRAMES = {
    "version": [msgpack.packb([2, 3, ["b"], "x"]), b"\x90"],
    "parts": [b"one"],
    "malformed": [b"\x91" * 4000, b"\x90"],
    "oversized": [b"\x91" * 5000, b"\x90"],
    "unsupported": [msgpack.packb([1, 5, ["b"], "x"]), b"\x90"],
    "body": [msgpack.packb([1, 6, ["b"], "x"]), b"\x91" * 100_000],
    "limit": [msgpack.packb([1, 7, ["b"], "", 2, 0, 0, "a#1", 1, 2]), b"\x90"],
}


@pytest.mark.slow
def test_what_it_cannot_read_it_counts_and_passes_over(impostor: Impostor) -> None:
    raw = impostor.raw
    impostor.welcome()
    for parts in BAD_FRAMES.values():
        impostor.socket.send_multipart([raw.routing_id.encode(), *parts])
    raw.run_until(lambda: raw.refused.total() == len(BAD_FRAMES))
    assert dict(raw.refused) == dict.fromkeys(BAD_FRAMES, 1)
    assert impostor.hear(CREDIT)[1][:2] == [2, 1]
    impostor.say([1, 2, ["b"], "node.guild", 1, 77], [1, 0, 1, "a", "formula"])
    head, body = impostor.hear(ERROR)
    assert (head[2], head[3], head[4], head[5]) == (["b"], "node.guild", 1, 77)
    assert body[0] == "E_NO_HANDLER"


def batch_header(**change: Any) -> bytes:
    """A kept BATCH of one message for the node, with elements of its header changed."""
    names = ("version", "kind", "target", "topic", "lane", "correlation", "ttl_ms", "sender",
             "seq", "count", "flags", "pin", "low", "sent_at")  # fmt: skip
    right = [1, 7, A, "", 2, 0, 30_000, "", 1, 1, 1, "", 1, 0.0]
    return msgpack.packb(
        [change.get(name, value) for name, value in zip(names, right, strict=True)]
    )


ONE = msgpack.packb([[1, "m", b"\x01", 1, 30_000]])
DEEP = b"\x91" * 500_000 + b"\x90"
STATUS = [1, 2, ["b"], "fleet.status", 1, 1]

AT_THE_BROKER = [
    ("oversized", "cl-bad-1-1", [batch_header() + b"\xc0" * 5000, ONE]),
    ("oversized", "cl-bad-1-1", [batch_header(), b"\xc0" * 1_050_000]),
    ("malformed", "cl-bad-1-1", [b"\xc1", ONE]),
    ("malformed", "cl-bad-1-1", [b"\x91" * 4000, ONE]),
    ("malformed", "cl-bad-1-1", [batch_header(kind=9), ONE]),
    ("malformed", "cl-bad-1-1", [batch_header(lane=4), ONE]),
    ("malformed", "cl-bad-1-1", [batch_header(target=["x", 1]), ONE]),
    ("malformed", "cl-bad-1-1", [msgpack.packb([1, 2, ["b"]]) + b"\xa2\xff\xfe", ONE]),
    ("malformed", "cl-bad-1-1", [b"\x94\x01\x02\x91\xa1b\xa2\xff\xfe", ONE]),
    ("version", "cl-bad-1-1", [batch_header(version=0), ONE]),
    ("version", "cl-bad-1-1", [batch_header(version=2), ONE]),
    ("limit", "cl-bad-1-1", [batch_header(ttl_ms=1 << 40), ONE]),
    ("limit", "cl-bad-1-1", [batch_header(topic="t" * 129), ONE]),
    ("unregistered", "cl-bad-1-1", [batch_header(), ONE]),
    ("role", "op-1-1", [batch_header(), ONE]),
    ("old_epoch", "a#7", [batch_header(), ONE]),
    ("identity", "nobody", [batch_header(), ONE]),
    ("topic", "op-1-1", [msgpack.packb([1, 2, ["b"], "no.such", 1, 1]), b"\x90"]),
    ("role", "cl-bad-1-1", [msgpack.packb([1, 2, ["b"], "fleet.stop", 1, 1]), b"\x90"]),
    ("body", "op-1-1", [msgpack.packb(STATUS), DEEP]),
    ("body", "op-1-1", [msgpack.packb(STATUS), b"\x91\xa2\xff\xfe"]),
    ("kind", "op-1-1", [msgpack.packb([1, 0, *STATUS[2:]]), b"\x90"]),
    ("unsupported", "op-1-1", [msgpack.packb([1, 5, ["b"], ""]), b"\x90"]),
    ("parts", "op-1-1", [b"\x90"]),
]  # fmt: skip


@pytest.mark.slow
@async_test
async def test_bad_frames_are_counted_by_reason_and_disturb_nobody(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        node.serve("double", lambda message: message.body * 2)
        heard: list[Any] = []
        node.on("m", lambda message: heard.append(message.body))
        context, expected = zmq.Context(), dict[str, int]()
        try:
            for reason, routing_id, parts in AT_THE_BROKER:
                socket = context.socket(zmq.DEALER)
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.ROUTING_ID, routing_id.encode())
                socket.connect(fleet.rig.endpoint)
                socket.send_multipart(parts)
                expected[reason] = expected.get(reason, 0) + 1
                await fleet.counted(raw, reason, expected[reason])
                asked = raw.request(A, "double", expected[reason])
                await fleet.until(lambda asked=asked: asked.done)
                assert asked.value == 2 * expected[reason]
                socket.close(0)
        finally:
            context.destroy(linger=0)
        assert await fleet.rejected(raw) == expected
        assert heard == []
        assert raw.counts["disconnections"] == 0


@pytest.mark.slow
@async_test
async def test_who_sent_it_is_what_the_socket_says(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):
        senders: list[str] = []
        node.on("m", lambda message: senders.append(message.sender))
        raw._transmit(batch_header(sender="a#1"), ONE)
        raw._transmit(
            batch_header(sender="cl-other-1-1", seq=2), ONE.replace(b"\x01\xcd", b"\x02\xcd")
        )
        await fleet.until(lambda: len(senders) == 2)
        assert senders == [raw.routing_id] * 2


@pytest.mark.slow
@async_test
async def test_a_header_that_cannot_be_true_comes_back(tmp_path: Path) -> None:
    lies = [{"count": 0}, {"count": 257}, {"count": 200}, {"seq": 0}, {"low": -1}, {"flags": -1}]
    async with fleet_of(tmp_path) as (fleet, node, raw):
        node.on("m", lambda message: None)
        for lie in lies:
            raw._transmit(batch_header(**lie), ONE)
        await fleet.counted(raw, "batch", len(lies))
        await fleet.until(lambda: raw.counts["bounces"] >= len(lies) - 1)  # flags -1: kept or not
        assert raw.send(A, "m", 1)
        await fleet.until(lambda: not raw._open[2])
        assert raw.registered


@pytest.mark.slow
@async_test
async def test_bodies_that_cannot_be_read_hurt_nobody_at_their_receiver(tmp_path: Path) -> None:
    """The broker does not look into them: the node refuses them, and gives their credit back."""
    async with fleet_of(tmp_path) as (fleet, node, raw):
        got: list[Any] = []
        node.on("m", lambda message: got.append(message.body))
        bodies = [
            DEEP,
            b"\xc1\xc1\xc1\xc1\xc1\xc1",
            msgpack.packb([[1, "m", "no binary", 1]]),
            ONE + b"\xc0",
            b"\x91\x95\x01\xa2\xff\xfe\xc4\x01\x01\x01\x00",
            msgpack.packb([[1, "m", b"\x01", 1], [1, "m", b"\x02", 2]]),
        ]
        for seq, body in enumerate(bodies, 1):
            raw._transmit(batch_header(seq=seq, low=0), body)
        raw._seq[2] = len(bodies)
        await fleet.until(lambda: node._plane.rejected == len(bodies))
        deep = raw.send(A, "m", 1)
        deep.body = b""
        raw._queues[2][-1].entries[-1][0][2] = DEEP
        fine = [raw.send(A, "m", number) for number in range(600)]
        await fleet.until(lambda: all(ask.done for ask in [deep, *fine]))
        assert deep.outcome.code == "E_REMOTE"
        assert {ask.value for ask in fine} == {"delivered"}
        assert got == list(range(600))


@pytest.mark.slow
@async_test
async def test_a_body_that_cannot_be_sent_fails_at_its_caller_and_names_its_type(
    tmp_path: Path,
) -> None:
    class Odd:
        pass

    async with fleet_of(tmp_path) as (fleet, node, raw):
        to = ToNode("raw")
        for say in (node.send, node.request):
            with pytest.raises(TypeError, match="Odd"):
                await say(to, "m", Odd())
        with pytest.raises(TypeError, match="Odd"):
            await node.publish("m", Odd())
        with pytest.raises(ValueError, match="1048576"):
            await node.send(to, "m", b"x" * 1_050_000)
        node.serve("odd", lambda message: Odd())
        asked = raw.request(A, "odd", None)
        await fleet.until(lambda: asked.done)
        assert asked.outcome.code == "E_REMOTE"
        assert "Odd" in asked.outcome.text


@pytest.mark.slow
@async_test
async def test_a_traceback_crosses_in_debug_mode_only(tmp_path: Path) -> None:
    async with fleet_of(tmp_path) as (fleet, node, raw):

        def fails(message: Any) -> None:
            raise ValueError("planted")

        node.serve("fails", fails)
        asked = raw.request(A, "fails", None)
        await fleet.until(lambda: asked.done)
        assert asked.outcome.details == {"type": "ValueError"}
        assert node._plane.dispatcher is not None
        node._plane.dispatcher._debug = True
        asked = raw.request(A, "fails", None)
        await fleet.until(lambda: asked.done)
        assert "raise ValueError" in asked.outcome.details["traceback"]


SOON_LOST = """
from shard_node.wire import limits
assert limits.HEARTBEAT_LOST_S == 15.0
limits.HEARTBEAT_LOST_S = 4.0
"""


@pytest.mark.slow
@async_test
async def test_who_asked_a_client_that_dies_hears_it(tmp_path: Path) -> None:
    """A client is forgotten HEARTBEAT_LOST_S after its last word; this broker has a short one."""
    async with (
        fleet_of(tmp_path, SOON_LOST) as (fleet, _, raw),
        connect(fleet.rig.endpoint, "dash") as dash,
    ):
        mute = fleet.raw("mute")
        await fleet.until(lambda: mute.registered)
        fleet.raws.remove(mute)
        to = mute.routing_id
        asked = raw.request(["n", to], "any", None, lane=HIGH, ttl_s=40)
        asking = asyncio.ensure_future(dash.request(ToNode(to), "any", timeout_s=40))
        try:
            await fleet.until(lambda: asked.done, 25)
            assert (to, 0) in raw.gone
            assert asked.outcome.code == "E_UNREACHABLE"
            await asyncio.wait([asking], timeout=2)
            assert asking.done()
        finally:
            mute.close()
            asking.cancel()
        with pytest.raises(Undeliverable):
            await asking
