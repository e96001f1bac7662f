"""libzmq's own C proxy between a ROUTER and a DEALER: three parts, one message at a time.

Nothing routes, queues by priority or limits here; it is what moving messages through a third
process costs. pyzmq's `zmq.proxy` is `zmq_proxy()`: no Python runs in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq
from zmq.backend import Socket as BackendSocket

from shardctl.bench.worker import Link
from tests.bench.contenders.base import BODY, Inbox, decode, encode
from tests.bench.contenders.middle import Middle

HIGH_WATER_MARK = 10_000
PARTS = 3
SNDMORE = 2
# What any framework's header holds: kind, source, target, lane, number, time to live.
HEADER = msgspec.msgpack.encode([1, b"n0", b"n1", 2, 123456, 5000])


async def proxy(link: Link, front: str, back: str) -> dict[str, Any]:
    """The process in the middle; never returns."""
    context = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket, address in ((router, front), (dealer, back)):
        socket.set_hwm(HIGH_WATER_MARK)
        socket.bind(address)
    link.say({})
    await asyncio.to_thread(zmq.proxy, router, dealer)
    return {}


class Server(Middle):
    """The proxy's process."""

    def __init__(self) -> None:
        super().__init__("proxy_peer:proxy")


class Peer:
    """A DEALER, driven part by part on pyzmq's backend socket, its fastest way."""

    async def open(self, address: str, name: str) -> None:
        self._front, self._back = address.split()
        self._name = name.encode()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set_hwm(HIGH_WATER_MARK)
        self._raw: Any = BackendSocket(shadow=self._socket.underlying)

    async def subscribe(self, inbox: Inbox) -> None:
        monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._socket.connect(self._back)
        assert monitor.poll(10_000)
        self._socket.disable_monitor()
        monitor.close()

    async def received(self, inbox: Inbox) -> None:
        receive, take = self._raw.recv, inbox.take
        for _ in range(inbox.expected):
            for _ in range(PARTS):
                receive()
            take(decode(receive()))

    async def publish(self, targets: Sequence[str], count: int) -> None:
        self._socket.connect(self._front)
        send, target = self._raw.send, targets[0].encode()
        for _ in range(count):
            send(target, SNDMORE)
            send(HEADER, SNDMORE)
            send(encode(BODY))

    async def serve(self) -> None:
        raise NotImplementedError

    async def request(self, target: str) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        await asyncio.to_thread(self._context.destroy, -1)
