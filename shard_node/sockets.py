"""What asyncio needs to know of a ZeroMQ socket, and the fast way to a frame's two parts.

``zmq.backend.Socket`` with plain numbers for flags costs a fifth of ``zmq.Socket``.
"""

from __future__ import annotations

from typing import Final

import zmq
from zmq.backend import Socket as RawSocket

POLLIN: Final = int(zmq.POLLIN)
POLLOUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_NOBLOCK_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_RCVMORE: Final = int(zmq.RCVMORE)
_EVENTS: Final = int(zmq.EVENTS)


def descriptor(socket: zmq.Socket[bytes]) -> int:
    """What to give to a poller. It tells of changes only (zmq_getsockopt(3), ZMQ_FD)."""
    return int(socket.getsockopt(zmq.FD))


def events(raw: RawSocket) -> int:
    """What the socket is ready for; asking also lets it do its inner work."""
    return int(raw.get(_EVENTS))


def receive(raw: RawSocket) -> tuple[bytes, bytes] | None:
    """The two parts of a frame; None where it has more or fewer."""
    try:
        head: bytes = raw.recv(_NOBLOCK)
        body: bytes = raw.recv(_NOBLOCK)
    except zmq.Again:
        return None
    if not raw.get(_RCVMORE):
        return head, body
    while raw.get(_RCVMORE):
        raw.recv(_NOBLOCK)
    return None


def send(raw: RawSocket, head: bytes, body: bytes) -> bool:
    """Send a frame. False where the socket takes none now."""
    try:
        raw.send(head, _NOBLOCK_MORE)
    except zmq.Again:
        return False
    raw.send(body, _NOBLOCK)
    return True


def monitor_of(
    context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]
) -> zmq.Socket[bytes]:
    """A socket that gets a message whenever ``socket`` loses its connection."""
    address = f"inproc://shardctl-monitor-{id(socket)}"
    socket.monitor(address, zmq.EVENT_DISCONNECTED)
    monitor = context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor
