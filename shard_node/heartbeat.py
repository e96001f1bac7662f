"""The heartbeat: a thread with a socket of its own, once a second.

It beats while the event loop is blocked, which is what tells a busy node from a dead one:
``loop_lag_ms`` is how long ago the loop last answered the beat's touch. The thread also
holds the lifeline: when the supervisor dies, its end of the pipe closes.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Final

import zmq

from shard_node.memory import rss_bytes
from shard_node.wire.bodies import Heartbeat, HeartbeatAck, ShardReport
from shard_node.wire.codec import WireError, decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import FRAME_MAX_BYTES, HEARTBEAT_INTERVAL_S
from shard_node.wire.targets import BROKER
from shard_node.wire.topics import HEARTBEAT

_FRAME_PARTS: Final = 2
_ACKS_PER_BEAT_MAX: Final = 16
_HIGH_WATER_FRAMES: Final = 4
RECONNECT_MIN_MS: Final = 50
RECONNECT_MAX_MS: Final = 500


def connect(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, identity: bytes
) -> zmq.Socket[bytes]:
    """A DEALER that keeps nothing for a broker that is not there (ZMQ_IMMEDIATE)."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, identity)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_MAX_BYTES)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MIN_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.connect(endpoint)
    return socket


class Vitals:
    """What the loop writes and the thread reads: plain attributes, each set at once."""

    __slots__ = ("asked_at", "heard", "lingers", "queue", "shards", "touched_at", "troubles")

    def __init__(self, shards: tuple[ShardReport, ...] = ()) -> None:
        self.shards = shards
        self.queue = 0
        self.lingers = 0
        """How much waits in a process that has given its shards to its successor."""
        self.troubles: dict[str, int] = {}
        self.heard: dict[str, float] = {}
        self.asked_at = 0.0
        self.touched_at = 0.0

    def lag_ms(self, now: float) -> float:
        """How long the loop took, or takes so far, to answer the last touch."""
        if self.touched_at >= self.asked_at:
            return (self.touched_at - self.asked_at) * 1000
        return (now - self.asked_at) * 1000


class HeartbeatThread:
    """Beats until ``stop``. The callbacks run in the thread; they must not block.

    ``on_ack`` gets each answer, ``ask_touch`` asks the loop to set ``vitals.touched_at``
    (and returns whether there is a loop), ``on_orphaned`` says that the supervisor is gone.
    ``hang_s``: a loop that does not turn for so long is told of at once.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: bytes,
        vitals: Vitals,
        *,
        on_ack: Callable[[HeartbeatAck], None],
        ask_touch: Callable[[], bool],
        on_orphaned: Callable[[], None],
        lifeline_fd: int | None = None,
        interval_s: float = HEARTBEAT_INTERVAL_S,
        hang_s: float = math.inf,
    ) -> None:
        self._context, self._endpoint, self._identity = context, endpoint, identity
        self.vitals = vitals
        self._on_ack, self._ask_touch, self._on_orphaned = on_ack, ask_touch, on_orphaned
        self._lifeline_fd = lifeline_fd
        self._interval_s, self._hang_s = interval_s, hang_s
        self._counter = 0
        self._wake_out, self._wake_in = os.pipe()
        self._thread = threading.Thread(target=self._run, name="shardctl-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; the socket is closed by the thread that used it."""
        os.write(self._wake_in, b"x")
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            os.close(self._wake_in)
            os.close(self._wake_out)

    def _run(self) -> None:
        socket = connect(self._context, self._endpoint, self._identity)
        socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_FRAMES)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wake_out, zmq.POLLIN)
        if self._lifeline_fd is not None:
            poller.register(self._lifeline_fd, zmq.POLLIN)
        try:
            self._beat_until_stopped(socket, poller)
        finally:
            socket.close(0)

    def _beat_until_stopped(self, socket: zmq.Socket[bytes], poller: zmq.Poller) -> None:
        beat_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= beat_at:
                beat_at = max(beat_at + self._interval_s, now)
                self._beat(socket, now)
                beat_at = self._sooner(beat_at, now)
            ready = dict(poller.poll(max(0, math.ceil((beat_at - now) * 1000))))
            if self._wake_out in ready:
                return
            if socket in ready:
                self._take_acks(socket)
            if self._lifeline_fd in ready:
                self._look_at_lifeline(poller)

    def _sooner(self, beat_at: float, now: float) -> float:
        """The next beat: where the loop does not turn, the very moment when that is a hang."""
        vitals = self.vitals
        hung_at = vitals.asked_at + self._hang_s
        waiting = vitals.touched_at < vitals.asked_at
        return hung_at if waiting and now < hung_at < beat_at else beat_at

    def _beat(self, socket: zmq.Socket[bytes], now: float) -> None:
        self._counter += 1
        vitals = self.vitals
        lag_ms = vitals.lag_ms(now)
        if vitals.touched_at >= vitals.asked_at and self._ask_touch():
            vitals.asked_at = now
        body = Heartbeat(
            self._counter,
            lag_ms,
            rss_bytes(),
            vitals.queue,
            vitals.shards,
            vitals.troubles,
            heard=vitals.heard,
            cpu_s=time.process_time(),
            lingers=vitals.lingers,
        )
        head = header(
            Kind.REQUEST,
            BROKER,
            HEARTBEAT,
            lane=Lane.CONTROL,
            correlation=self._counter,
            ttl_ms=int(self._interval_s * 1000),
        )
        try:
            socket.send_multipart([encode_header(head), encode_body(body)], zmq.DONTWAIT)
        except zmq.Again:
            return  # nobody there; the next beat is soon enough

    def _take_acks(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(_ACKS_PER_BEAT_MAX):
            try:
                parts = socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            ack = _read_ack(parts)
            if ack is not None:
                self._on_ack(ack)

    def _look_at_lifeline(self, poller: zmq.Poller) -> None:
        assert self._lifeline_fd is not None
        if os.read(self._lifeline_fd, 1):
            return
        poller.unregister(self._lifeline_fd)
        self._lifeline_fd = None
        self._on_orphaned()


def _read_ack(parts: list[bytes]) -> HeartbeatAck | None:
    """The acknowledgement in a frame; None for anything else."""
    if len(parts) != _FRAME_PARTS:
        return None
    try:
        head = decode_header(parts[0])
        if head.kind is not Kind.REPLY or head.topic != HEARTBEAT:
            return None
        return decode_body(parts[1], HeartbeatAck)
    except WireError:
        return None
