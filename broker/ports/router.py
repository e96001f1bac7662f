"""The ROUTER socket. Sends never block: what a peer does not take stays in its lanes, where
priority works; the socket's own marks are small, so that little overtakes nothing in them.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import zmq

from broker.core.events import Event, FrameReceived, PeerUnreachable, WrongParts
from broker.core.queues import Outbox
from broker.errors import EndpointError
from shard_node.wire.limits import FRAME_MAX_BYTES

SEND_MARK_FRAMES: Final = 64
RECEIVE_MARK_FRAMES: Final = 1024
BACKLOG: Final = 1024
RECEIVE_BATCH: Final = 512
SEND_BATCH: Final = 64
"""Frames for one destination before the next has its turn."""
BLOCKED_RETRY_S: Final = 0.05
"""A safety net: a peer that takes frames again wakes the socket by itself."""
LINGER_MS: Final = 200
"""At the end: the last answers, such as that to a stop, still go out."""
SOCKET_MODE: Final = 0o600
_PARTS: Final = 3
_NOBLOCK: Final = int(zmq.NOBLOCK)
_NOBLOCK_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN: Final = int(zmq.POLLIN)


class RouterPort:
    """Binds the endpoint. ``fileno`` is readable on an edge: drain until nothing is left."""

    def __init__(self, endpoint: str, path: Path) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._path = path
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.ROUTER_HANDOVER, 1),
            (zmq.MAXMSGSIZE, FRAME_MAX_BYTES),
            (zmq.SNDHWM, SEND_MARK_FRAMES),
            (zmq.RCVHWM, RECEIVE_MARK_FRAMES),
            (zmq.BACKLOG, BACKLOG),
            (zmq.LINGER, LINGER_MS),
        ):
            self._socket.setsockopt(option, value)
        self._bind(endpoint)
        self.blocked = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return int(self._socket.getsockopt(zmq.FD))

    @property
    def readable(self) -> bool:
        """Whether frames wait; asking also lets the socket do its inner work."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & _POLLIN)

    def receive(self) -> list[Event]:
        """What has come, at most RECEIVE_BATCH frames."""
        events: list[Event] = []
        receive = self._socket.recv_multipart
        try:
            while len(events) < RECEIVE_BATCH:
                parts = receive(_NOBLOCK)
                events.append(
                    FrameReceived(*parts) if len(parts) == _PARTS else WrongParts(parts[0])
                )
        except zmq.Again:
            pass
        return events

    def send(self, outbox: Outbox) -> list[Event]:
        """Sends what the peers take. Sets ``blocked`` where some took not all."""
        lost: list[Event] = []
        self.blocked = False
        for routing_id in outbox.waiting():
            try:
                self._send_to(routing_id, outbox)
            except zmq.Again:
                self.blocked = True
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                lost.append(PeerUnreachable(routing_id))
        return lost

    def close(self) -> None:
        """Closes the socket; what was handed to it and not taken is lost."""
        self._socket.close()
        self._context.term()
        self._path.unlink(missing_ok=True)

    def _send_to(self, routing_id: bytes, outbox: Outbox) -> None:
        send = self._socket.send
        for _ in range(SEND_BATCH):
            head = outbox.head(routing_id)
            if head is None:
                return
            lane, frame = head
            # EAGAIN and EHOSTUNREACH arise at the first part; the others follow it in any case.
            send(routing_id, _NOBLOCK_MORE)
            send(frame.header, _NOBLOCK_MORE)
            send(frame.body, _NOBLOCK)
            outbox.sent(routing_id, lane)

    def _bind(self, endpoint: str) -> None:
        mask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            self._context.term()
            text = f"the socket {endpoint} cannot be bound: {error.strerror}"
            raise EndpointError(text, "check the run folder; another fleet may use it") from error
        finally:
            os.umask(mask)
