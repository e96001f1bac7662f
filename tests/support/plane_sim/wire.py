"""What the shells find in place of their own ends of the wire: the same calls, on the network
of the world. The sockets themselves have tests of their own, with real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

import shard_node.dealer
from broker.ports.listener import FRAME_PARTS, Listener, PeerGone, Take
from tests.support.plane_sim import host, stage
from tests.support.plane_sim.net import EVENTS, IDENTITY, POLLIN, POLLOUT, Dealer

READS_PER_TURN_MAX = 64


class DealerEnd:
    """``shard_node.dealer.Dealer``."""

    def __init__(
        self,
        endpoint: str,
        identity: bytes,
        *,
        on_frames: Callable[[list[list[bytes]]], None],
        on_room: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._endpoint, self._identity = endpoint, identity
        self._on_frames, self._on_room, self._on_lost = on_frames, on_room, on_lost
        self._waits = True
        self._again: asyncio.Handle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        made = stage.Context().socket(zmq.DEALER)
        assert isinstance(made, Dealer)
        self._socket = made
        made.setsockopt(IDENTITY, self._identity)
        made.monitors.append(self)  # type: ignore[arg-type]
        loop.add_reader(made.descriptor, self._look)
        made.connect(self._endpoint)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.descriptor)
        if self._again is not None:
            self._again.cancel()
        self._socket.close()

    def tell(self) -> None:
        """The network's side: the connection is lost. What had come before is read first."""
        self._loop.call_soon(self._lost)

    def send(self, head: bytes, body: bytes) -> bool:
        try:
            self._socket.send_multipart([head, body])
        except zmq.Again:
            self._waits = True
            return False
        return True

    def readable(self) -> bool:
        return bool(self._socket.get(EVENTS) & POLLIN)

    def _lost(self) -> None:
        if not self._socket.closed:
            self._waits = True
            self._on_lost()

    def _look(self) -> None:
        frames: list[list[bytes]] = []
        self._again = None
        state = self._socket.get(EVENTS)
        while state & POLLIN and len(frames) < READS_PER_TURN_MAX:
            frames.append(self._socket.recv_multipart())
            state = self._socket.get(EVENTS)
        if self._waits and state & POLLOUT:
            self._waits = False
            self._on_room()
        if frames:
            self._on_frames(frames)
        if self._again is None and not self._socket.closed and self._socket.get(EVENTS) & POLLIN:
            self._again = self._loop.call_soon(self._look)


class ListenerEnd:
    """``broker.ports.listener.Listener``."""

    def __init__(self, path: Path) -> None:
        self._socket = stage.Context().socket(zmq.ROUTER)
        self._socket.bind(str(path))  # type: ignore[attr-defined]

    def watch(self, descriptor: int, events: int) -> None: ...

    def unwatch(self, descriptor: int) -> None: ...

    def wait(self, timeout_s: float) -> bool:
        timeout_ms = 0.0 if self._socket.get(EVENTS) & POLLIN else timeout_s * 1000
        return bool(host.Host.current.poll(timeout_ms))

    def receive(self, take: Take) -> None:
        for _ in range(READS_PER_TURN_MAX):
            if not self._socket.get(EVENTS) & POLLIN:
                return
            routing_id, *parts = self._socket.recv_multipart()
            if len(parts) == FRAME_PARTS:
                take(routing_id, *parts)
            else:
                take(routing_id, None, b"")

    def send(self, routing_id: bytes, head: bytes, body: bytes) -> bool:
        try:
            self._socket.send_multipart([routing_id, head, body])
        except zmq.Again:
            return False
        except zmq.ZMQError:
            raise PeerGone from None
        return True

    def close(self) -> None:
        self._socket.close()


ENDS: list[tuple[Any, Any]] = [(shard_node.dealer.Dealer, DealerEnd), (Listener, ListenerEnd)]
