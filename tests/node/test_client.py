"""The client's shell and the heartbeat against a real ROUTER socket."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import zmq

from shard_node.client import BrokerClient
from shard_node.effects import Deliver, Link, StopAsked
from shard_node.errors import BrokerUnavailable, RequestTimeout
from shard_node.heartbeat import HeartbeatThread, Vitals
from shard_node.session import NodeSession
from shard_node.wire import bodies, topics
from shard_node.wire.identity import heartbeat_id, node_id
from tests.node.fake_broker import FakeBroker, Seen
from tests.support.waiting import wait_for

ME = bodies.Register("a", 7, 100, 4, ())
LEASE = bodies.LeaseRequest("x", 30.0)
WAIT_S = 5.0


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/b.sock"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


class Client:
    """A client on the running loop, and what it called back."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.stops: list[StopAsked] = []
        self.links: list[Link] = []
        self.delivered: list[Deliver] = []
        self.inner = BrokerClient(
            endpoint,
            node_id("a", 7),
            NodeSession(ME, time.monotonic()),
            on_stop=self.stops.append,
            on_link=self.links.append,
            on_deliver=self.delivered.append,
        )

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not look():
                await asyncio.sleep(0.005)

    async def registered(self) -> None:
        await self.until(lambda: self.inner.session.link is Link.REGISTERED)


def with_client(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    body: Callable[[Client], Awaitable[None]],
) -> None:
    async def main() -> None:
        client = Client(context, endpoint)
        client.inner.open(asyncio.get_running_loop())
        try:
            await body(client)
        finally:
            client.inner.close()

    asyncio.run(main())


def test_it_registers_and_asks(context: zmq.Context, endpoint: str) -> None:
    async def body(client: Client) -> None:
        reply = await client.inner.request(topics.LEASE, LEASE, timeout_s=WAIT_S)
        assert reply == bodies.LeaseReply(True, "a")
        assert client.links == [Link.REGISTERED]

    with FakeBroker(endpoint):
        with_client(context, endpoint, body)


def test_it_waits_for_a_broker_that_comes_later(context: zmq.Context, endpoint: str) -> None:
    brokers: list[FakeBroker] = []

    async def body(client: Client) -> None:
        asked = asyncio.create_task(client.inner.request(topics.LEASE, LEASE, timeout_s=WAIT_S))
        await asyncio.sleep(0.05)
        brokers.append(FakeBroker(endpoint).__enter__())
        assert (await asked).granted

    try:
        with_client(context, endpoint, body)
    finally:
        for broker in brokers:
            broker.close()


def test_a_new_broker_hears_the_registration_first(context: zmq.Context, endpoint: str) -> None:
    """Nothing that was meant for the dead broker reaches the new one before it knows us."""
    brokers = [FakeBroker(endpoint).__enter__()]

    async def body(client: Client) -> None:
        await client.registered()
        brokers[0].answers[topics.LEASE] = lambda _: None
        asked = asyncio.create_task(
            client.inner.request(topics.LEASE, LEASE, timeout_s=WAIT_S, renew=True)
        )
        await client.until(lambda: brokers[0].of(topics.LEASE))
        await asyncio.to_thread(brokers[0].close)
        client.inner.send_event(topics.PERMIT_RETURN, bodies.PermitReturn(5, 0))
        await client.until(lambda: client.inner.session.link is Link.UNREGISTERED)
        client.inner.send_event(topics.PERMIT_RETURN, bodies.PermitReturn(6, 0))
        brokers.append(await asyncio.to_thread(FakeBroker(endpoint).__enter__))
        assert (await asked).granted

    try:
        with_client(context, endpoint, body)
        order = [seen.topic for seen in brokers[1].seen]
        assert order[0] == topics.REGISTER
        assert order[-1] == topics.LEASE
        assert topics.PERMIT_RETURN in order
    finally:
        for broker in brokers:
            broker.close()


def test_a_thousand_requests_at_once_are_all_answered(context: zmq.Context, endpoint: str) -> None:
    """More than one turn's reads: no answer waits for an edge that has passed."""

    async def body(client: Client) -> None:
        await client.registered()
        count = 1024
        replies = await asyncio.gather(
            *(client.inner.request(topics.LEASE, LEASE, timeout_s=20) for _ in range(count))
        )
        assert all(reply.granted for reply in replies)

    with FakeBroker(endpoint):
        with_client(context, endpoint, body)


def test_sends_do_not_eat_the_edge_of_a_receive(context: zmq.Context, endpoint: str) -> None:
    """Every reply arrives while the node goes on sending: each in well under a beat."""

    async def body(client: Client) -> None:
        await client.registered()
        for number in range(300):
            asked = asyncio.ensure_future(
                client.inner.request(topics.LEASE, LEASE, timeout_s=WAIT_S)
            )
            for _ in range(number % 7):
                client.inner.send_event(topics.PERMIT_RETURN, bodies.PermitReturn(1, 0))
                await asyncio.sleep(0)
            await asyncio.wait_for(asked, 0.9)

    with FakeBroker(endpoint):
        with_client(context, endpoint, body)


def test_no_answer_is_a_timeout_and_a_cancel_is_clean(context: zmq.Context, endpoint: str) -> None:
    async def body(client: Client) -> None:
        with pytest.raises(RequestTimeout):
            await client.inner.request(topics.WHERE, bodies.WhereRequest(1), timeout_s=0.1)
        task = asyncio.create_task(
            client.inner.request(topics.WHERE, bodies.WhereRequest(1), timeout_s=WAIT_S)
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.inner._waiting
        assert not client.inner.session._pending

    with FakeBroker(endpoint):
        with_client(context, endpoint, body)


def test_a_stop_and_a_faulty_callback(
    context: zmq.Context, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(client: Client) -> None:
        await client.registered()
        client.inner._on_deliver = lambda _: 1 / 0  # type: ignore[assignment]
        broker.send(b"a#7", topics.BROADCAST, {})
        broker.send(b"a#7", topics.NODE_STOP, bodies.NodeStop("test", 1.0))
        await client.until(lambda: client.stops)
        assert client.stops == [StopAsked("test", 1.0, False)]
        assert "ZeroDivisionError" in caplog.text

    with FakeBroker(endpoint) as broker:
        with_client(context, endpoint, body)


def test_garbage_from_the_broker_harms_nothing(context: zmq.Context, endpoint: str) -> None:
    async def body(client: Client) -> None:
        await client.registered()
        reply = await client.inner.request(topics.LEASE, LEASE, timeout_s=WAIT_S)
        assert reply.granted

    class Garbling(FakeBroker):
        def _take(self, parts: list[bytes]) -> None:
            socket_parts = [b"\xff", b"\x93\x01", b""]
            for junk in socket_parts:
                self._outbox.append((parts[0], None, junk))  # type: ignore[arg-type]
            super()._take(parts)

        def _serve(self) -> None:
            import tests.node.fake_broker as module

            plain = module.encode_header
            module.encode_header = lambda h: b"\xc1junk" if h is None else plain(h)
            try:
                super()._serve()
            finally:
                module.encode_header = plain

    with Garbling(endpoint):
        with_client(context, endpoint, body)


def test_the_last_words_leave_before_the_end(context: zmq.Context, endpoint: str) -> None:
    async def body(client: Client) -> None:
        client.inner.send_event(topics.FATAL, bodies.NodeFatal(4014, "intents", "portal"))
        assert await client.inner.flush(WAIT_S)

    with FakeBroker(endpoint) as broker:
        with_client(context, endpoint, body)
        assert broker.wait(topics.FATAL)[0].body.code == 4014


def test_flushing_without_a_broker_ends(context: zmq.Context, endpoint: str) -> None:
    async def body(client: Client) -> None:
        assert not await client.inner.flush(0.05)

    with_client(context, endpoint, body)


def test_the_end_fails_what_is_open(context: zmq.Context, endpoint: str) -> None:
    async def body(client: Client) -> None:
        task = asyncio.create_task(
            client.inner.request(topics.WHERE, bodies.WhereRequest(1), timeout_s=WAIT_S)
        )
        await asyncio.sleep(0)
        client.inner.close()
        with pytest.raises(BrokerUnavailable):
            await task

    with_client(context, endpoint, body)


# --- the heartbeat


class Beating:
    def __init__(self, context: zmq.Context, endpoint: str, lifeline_fd: int | None = None) -> None:
        self.acks: list[bodies.HeartbeatAck] = []
        self.orphaned = threading.Event()
        self.vitals = Vitals((bodies.ShardReport(0, bodies.ShardState.READY, 3, 20.0, 9),))
        self.touch = True
        self.thread = HeartbeatThread(
            context,
            endpoint,
            heartbeat_id("a", 7),
            self.vitals,
            on_ack=self.acks.append,
            ask_touch=self._touch,
            on_orphaned=self.orphaned.set,
            lifeline_fd=lifeline_fd,
            interval_s=0.05,
        )

    def _touch(self) -> bool:
        if self.touch:
            self.vitals.touched_at = time.monotonic()
        return True

    def __enter__(self) -> Beating:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.thread.stop()


def test_it_beats_with_what_the_loop_left(context: zmq.Context, endpoint: str) -> None:
    with FakeBroker(endpoint) as broker, Beating(context, endpoint) as beating:
        beats = broker.wait(topics.HEARTBEAT, 5)
        wait_for("acknowledgements", lambda: len(beating.acks) >= 3)
        assert [b.body.counter for b in beats] == sorted(b.body.counter for b in beats)
        assert beats[0].body.shards == beating.vitals.shards
        assert beats[0].body.rss_bytes > 1 << 20
        assert beats[-1].body.loop_lag_ms < 40
        assert beats[0].routing_id == b"a#7!hb"


def test_a_blocked_loop_shows_as_lag(context: zmq.Context, endpoint: str) -> None:
    with FakeBroker(endpoint) as broker, Beating(context, endpoint) as beating:
        broker.wait(topics.HEARTBEAT, 2)
        beating.touch = False
        wait_for(
            "growing lag",
            lambda: broker.of(topics.HEARTBEAT)[-1].body.loop_lag_ms > 200,
        )


def test_a_hang_is_told_of_at_its_very_moment(context: zmq.Context, endpoint: str) -> None:
    """Not at the beat after it: here the beats are 10 s apart."""
    with FakeBroker(endpoint) as broker, Beating(context, endpoint) as beating:
        broker.wait(topics.HEARTBEAT, 2)
        beating.thread._hang_s = 0.5
        beating.touch = False
        beats = len(broker.of(topics.HEARTBEAT))
        wait_for("a question", lambda: beating.vitals.asked_at > beating.vitals.touched_at)
        beating.thread._interval_s = 10.0
        asked_at = beating.vitals.asked_at
        seen = broker.wait(topics.HEARTBEAT, beats + 3)[-1]
        lags = [b.body.loop_lag_ms for b in broker.of(topics.HEARTBEAT)]
        assert any(500 - 1 <= lag < 900 for lag in lags), lags
        assert seen.at - asked_at < 2.0


def test_without_a_broker_it_queues_nothing(context: zmq.Context, endpoint: str) -> None:
    with Beating(context, endpoint) as beating:
        wait_for("some beats", lambda: beating.thread._counter >= 6)
        with FakeBroker(endpoint) as broker:
            first = broker.wait(topics.HEARTBEAT)[0]
            assert first.body.counter > 6


def test_the_supervisors_end_is_noticed(context: zmq.Context, endpoint: str) -> None:
    out, into = os.pipe()
    try:
        with Beating(context, endpoint, out) as beating:
            assert not beating.orphaned.wait(0.2)
            os.close(into)
            assert beating.orphaned.wait(2)
            counter = beating.thread._counter
            wait_for("beats after it", lambda: beating.thread._counter > counter)
    finally:
        os.close(out)


def test_an_ack_of_anything_else_is_ignored(context: zmq.Context, endpoint: str) -> None:
    def wrong(seen: Seen) -> bodies.ErrorBody:
        return bodies.ErrorBody("E_BUSY", "no")

    with FakeBroker(endpoint) as broker, Beating(context, endpoint) as beating:
        broker.answers[topics.HEARTBEAT] = wrong
        broker.wait(topics.HEARTBEAT, 5)
        assert len(beating.acks) <= 2
