"""The ROUTER socket. Sends never block: what a peer does not take stays in its lanes, where
priority works; the socket's own marks are small, so that little overtakes nothing in them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq
import zmq.backend

from broker.core.batches import Destination
from broker.core.dataplane import DataPlane
from broker.core.events import Event, PeerUnreachable
from broker.core.frames import Batch, Body
from broker.core.queues import Outbox
from broker.core.senders import CREDIT_HEADER, Senders
from broker.errors import EndpointError
from shard_node.wire.limits import FRAME_MAX_BYTES

SEND_MARK_FRAMES: Final = 64
RECEIVE_MARK_FRAMES: Final = 1024
BACKLOG: Final = 1024
RECEIVE_BATCH: Final = 128
"""Frames between two sends: an urgent one waits no longer than these take."""
SEND_BATCH: Final = 64
"""Frames for one destination before the next has its turn."""
BLOCKED_RETRY_MIN_S: Final = 0.001
BLOCKED_RETRY_MAX_S: Final = 0.05
"""A peer that takes frames again wakes the socket, but to ask the socket anything eats that
edge: so it is tried again, soon at first, then twice as late each time."""
LARGE_BYTES: Final = 8192
"""libzmq reads smaller messages many at a time, into one buffer of this size."""
LINGER_MS: Final = 200
"""At the end: the last answers, such as that to a stop, still go out."""
SOCKET_MODE: Final = 0o600
_NOBLOCK: Final = int(zmq.NOBLOCK)
_NOBLOCK_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_POLLIN: Final = int(zmq.POLLIN)
_EVENTS: Final = int(zmq.EVENTS)
_RCVMORE: Final = int(zmq.RCVMORE)

Take = Callable[[bytes, bytes | None, Body], None]


class RouterPort:
    """Binds the endpoint. ``fileno`` is readable on an edge: drain until nothing is left."""

    def __init__(self, endpoint: str, path: Path) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._raw = zmq.backend.Socket(shadow=self._socket.underlying)
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
        self.descriptor = int(self._socket.getsockopt(zmq.FD))
        self.blocked = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self.descriptor

    @property
    def readable(self) -> bool:
        """Whether frames wait; asking also lets the socket do its inner work."""
        return bool(int(self._raw.get(_EVENTS)) & _POLLIN)

    def receive(self, take: Take) -> bool:
        """Hands over what has come, at most RECEIVE_BATCH frames; says whether all has.

        ``take`` gets the routing id, the header and the body; None for the header of a
        message that has not the parts of a frame.
        """
        # A part a call, on the backend's own socket: a third of what recv_multipart costs.
        # To ask whether a frame waits costs a tenth of being told by an exception. A routing
        # id never comes alone: a message has at least one part of its sender's.
        receive, get = self._raw.recv, self._raw.get
        try:
            for _ in range(RECEIVE_BATCH):
                if not int(get(_EVENTS)) & _POLLIN:
                    return True
                routing_id = receive(_NOBLOCK)
                head: bytes | None = receive()
                if not get(_RCVMORE):
                    take(routing_id, None, b"")
                    continue
                part = receive(0, False)
                if part.more:
                    self._skip()
                    head = None
                # A large body goes on as the message it came in, without a copy of it. A small
                # one is copied: kept, it would hold all that libzmq read along with it.
                take(routing_id, head, part if len(part) >= LARGE_BYTES else part.bytes)
        except zmq.Again:
            return True
        return False

    def _skip(self) -> None:
        while self._raw.get(_RCVMORE):
            self._raw.recv()

    def send(self, outbox: Outbox) -> list[Event]:
        """Sends control frames that the peers take. Sets ``blocked`` where some took not all."""
        lost: list[Event] = []
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

    def forward(self, plane: DataPlane, outbox: Outbox, now: float) -> list[Event]:
        """Sends BATCH frames for which there is credit; a peer's control frames go before."""
        lost: list[Event] = []
        for destination in plane.ready():
            if outbox.depth(destination.routing_id):
                continue
            try:
                self._forward_to(destination, plane, now)
            except zmq.Again:
                self.blocked = True
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                lost.append(PeerUnreachable(destination.routing_id))
        return lost

    def tell(self, senders: Senders, outbox: Outbox, now: float) -> list[Event]:
        """Sends senders the credit that is due; behind their control frames, where some wait."""
        lost: list[Event] = []
        send = self._raw.send
        for sender, body in senders.due(now):
            routing_id = sender.encode()
            try:
                if not outbox.depth(routing_id):
                    send(routing_id, _NOBLOCK_MORE)
                    send(CREDIT_HEADER, _NOBLOCK_MORE)
                    send(body, _NOBLOCK)
                    continue
            except zmq.Again:
                self.blocked = True
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                lost.append(PeerUnreachable(routing_id))
                continue
            senders.queue(routing_id, body)
        return lost

    def close(self) -> None:
        """Closes the socket; what was handed to it and not taken is lost."""
        self._socket.close()
        self._context.term()
        self._path.unlink(missing_ok=True)

    def _send_to(self, routing_id: bytes, outbox: Outbox) -> None:
        send = self._raw.send
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

    def express(self, plane: DataPlane, now: float) -> list[Event]:
        """Sends the frames that may go at once."""
        lost: list[Event] = []
        for destination, batch in plane.express:
            if destination.frames:  # one before it did not go
                plane.delayed(destination, batch, now)
                continue
            try:
                self._put(destination, batch, plane.senders, now)
            except zmq.Again:
                self.blocked = True
                plane.delayed(destination, batch, now)
            except zmq.ZMQError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                plane.delayed(destination, batch, now)
                lost.append(PeerUnreachable(destination.routing_id))
            else:
                plane.went(destination, batch)
        plane.express.clear()
        return lost

    def _forward_to(self, destination: Destination, plane: DataPlane, now: float) -> None:
        following, senders = destination.next, plane.senders
        for _ in range(SEND_BATCH):
            batch = following()
            if batch is None:
                plane.rest(destination)
                return
            self._put(destination, batch, senders, now)
            plane.sent(destination, batch)

    def _put(self, destination: Destination, batch: Batch, senders: Senders, now: float) -> None:
        """Raises as zmq does, at the first part: nothing has gone then."""
        send = self._raw.send
        send(destination.routing_id, _NOBLOCK_MORE)
        send(batch.header(now, senders.carried(destination.text)), _NOBLOCK_MORE)
        body = batch.body
        if isinstance(body, bytes):
            send(body, _NOBLOCK)
        elif isinstance(body, zmq.Frame):
            send(body, _NOBLOCK, False)
        else:
            send(body.bytes, _NOBLOCK)

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
