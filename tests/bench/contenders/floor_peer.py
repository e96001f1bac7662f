"""The floor of a round trip through a third process: four raw ipc hops, blocking sockets.

Requester, relay, responder, relay, requester: each blocks on one socket, nothing is routed,
nobody polls, and only the two ends touch the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import zmq

from shardctl.bench.worker import Link
from tests.bench.contenders.base import BODY, Inbox, decode, encode
from tests.bench.contenders.middle import Middle


async def relay(link: Link, front: str, back: str) -> dict[str, Any]:
    """The process in the middle; never returns."""
    context = zmq.Context()
    asks, answers = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    asks.bind(front)
    answers.bind(back)
    link.say({})
    while True:
        answers.send(asks.recv())
        asks.send(answers.recv())


class Server(Middle):
    """A relay for one pair of peers."""

    def __init__(self) -> None:
        super().__init__("floor_peer:relay")


class Peer:
    """A PAIR socket at one end of the relay."""

    async def open(self, address: str, name: str) -> None:
        self._front, self._back = address.split()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._connected = False

    async def serve(self) -> None:
        self._socket.connect(self._back)

        def answer() -> None:
            while True:
                decode(self._socket.recv())
                self._socket.send(encode(BODY))

        asyncio.get_running_loop().call_soon(answer)

    async def request(self, target: str) -> None:
        if not self._connected:
            self._socket.connect(self._front)
            self._connected = True
        self._socket.send(encode(BODY))
        decode(self._socket.recv())

    async def subscribe(self, inbox: Inbox) -> None:
        raise NotImplementedError

    async def received(self, inbox: Inbox) -> None:
        raise NotImplementedError

    async def publish(self, targets: Sequence[str], count: int) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self._context.destroy(0)
