"""The asyncio shell of the node's session: one DEALER socket on the bot's own loop.

The socket's descriptor is edge-triggered (zmq_getsockopt(3), ZMQ_FD): after every send and
every receive the events are looked at again, or a message that came meanwhile would wait
for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import zmq

from shard_node.effects import Deliver, Effect, Fail, Link, LinkChanged, Settle, StopAsked, Transmit
from shard_node.errors import BrokerUnavailable
from shard_node.heartbeat import connect
from shard_node.session import NodeSession
from shard_node.wire.bodies import HeartbeatAck
from shard_node.wire.codec import WireError, decode_header, encode_header
from shard_node.wire.header import Header
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import QUEUE_MAX_FRAMES
from shard_node.wire.targets import BROKER, Target

_log = logging.getLogger(__name__)

READS_PER_TURN_MAX: Final = 64
"""Frames handled before the loop gets its turn again."""
LINGER_MS: Final = 500
_FRAME_PARTS: Final = 2


class BrokerClient:
    """Talks to the broker. All methods but ``heartbeat_from_thread`` belong to the loop.

    ``on_stop`` is called when the broker asks to stop, ``on_deliver`` for every other
    event and for requests that the session serves, ``on_link`` when the broker comes or goes.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        identity: bytes,
        session: NodeSession,
        *,
        on_stop: Callable[[StopAsked], None],
        on_deliver: Callable[[Deliver], None] | None = None,
        on_link: Callable[[Link], None] | None = None,
    ) -> None:
        self.session = session
        self.dropped = 0
        self._context, self._endpoint, self._identity = context, endpoint, identity
        self._on_stop, self._on_deliver, self._on_link = on_stop, on_deliver, on_link
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._outbox: tuple[deque[Transmit], ...] = tuple(deque() for _ in Lane)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None
        self._calm: list[asyncio.Future[None]] = []

    @property
    def queue(self) -> int:
        """Frames that wait to be sent."""
        return sum(map(len, self._outbox))

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect and register, on the loop that runs the bot."""
        self._loop = loop
        self._socket = connect(self._context, self._endpoint, self._identity)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._monitor = _monitor(self._context, self._socket)
        loop.add_reader(_descriptor(self._socket), self._pump)
        loop.add_reader(_descriptor(self._monitor), self._connection_changed)
        self._perform(self.session.start(time.monotonic()))
        self._connection_changed()  # a descriptor tells of nothing before the first look
        self._pump()

    def close(self) -> None:
        """Send what can be sent at once, fail what is open, give the descriptor back."""
        if self._socket is None:
            return
        self._perform(self.session.close())
        self._write()
        loop, socket, monitor = self._loop, self._socket, self._monitor
        self._socket = self._monitor = None
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()
        assert monitor is not None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(_descriptor(socket))
            loop.remove_reader(_descriptor(monitor))
        socket.disable_monitor()
        monitor.close(0)
        socket.close(LINGER_MS)

    async def request(
        self,
        topic: str,
        body: Any,
        *,
        timeout_s: float,
        target: Target = BROKER,
        renew: bool = False,
    ) -> Any:
        """Ask and wait for the reply's body.

        Raises RequestTimeout, BrokerUnavailable or RequestFailed. Cancelling it withdraws
        the question.
        """
        if self._socket is None or self._loop is None:
            raise BrokerUnavailable(f"{topic}: this node is not connected")
        correlation, effects = self.session.request(
            topic, body, time.monotonic(), timeout_s=timeout_s, target=target, renew=renew
        )
        future = self._waiting[correlation] = self._loop.create_future()
        self._act(effects)
        try:
            return await future
        finally:
            self._waiting.pop(correlation, None)
            self.session.cancel(correlation)

    def send_event(self, topic: str, body: Any, *, target: Target = BROKER) -> None:
        """Tell the broker something, at most once."""
        self._act(self.session.event(topic, body, time.monotonic(), target=target))

    def answer(self, asked: Header, body: Any) -> None:
        """Answer a request that ``on_deliver`` brought; an ErrorBody goes as an error."""
        self._act(self.session.answer(asked, body, time.monotonic()))

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the node is registered and all that it told has left.

        Returns False where ``timeout_s`` was not enough.
        """
        if self._socket is None or self._loop is None:
            return False
        calm = self._loop.create_future()
        self._calm.append(calm)
        self._pump()
        done, _ = await asyncio.wait({calm}, timeout=timeout_s)
        self._calm = [other for other in self._calm if other is not calm]
        return bool(done)

    def heartbeat_answered(self, ack: HeartbeatAck) -> None:
        """The heartbeat thread heard the broker (call it on the loop)."""
        if self._socket is not None:
            self._act(self.session.heartbeat_answered(ack, time.monotonic()))

    # --- carrying out effects

    def _act(self, effects: list[Effect]) -> None:
        self._perform(effects)
        self._pump()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self._enqueue(effect)
            elif isinstance(effect, Settle):
                self._settle(effect)
            elif isinstance(effect, Fail):
                self._fail(effect)
            else:
                self._tell(effect)

    def _tell(self, effect: Deliver | StopAsked | LinkChanged) -> None:
        """Call back; a fault of a callback is logged and ends nothing."""
        try:
            if isinstance(effect, StopAsked):
                self._on_stop(effect)
            elif isinstance(effect, LinkChanged):
                self._take_back(effect.link)
                if self._on_link is not None:
                    self._on_link(effect.link)
            elif self._on_deliver is not None:
                self._on_deliver(effect)
        except Exception:
            _log.exception("a callback of the broker's client failed")

    def _take_back(self, link: Link) -> None:
        """What the broker that is gone never got waits for the next one's welcome."""
        if link is Link.REGISTERED:
            return
        for lane in self._outbox:
            self.session.take_back(lane)
            lane.clear()

    def _settle(self, effect: Settle) -> None:
        future = self._waiting.pop(effect.correlation, None)
        if future is not None and not future.done():
            future.set_result(effect.reply)

    def _fail(self, effect: Fail) -> None:
        future = self._waiting.pop(effect.correlation, None)
        if future is not None and not future.done():
            future.set_exception(effect.error)

    # --- the socket

    def _connection_changed(self) -> None:
        """The monitor says that the broker's end closed."""
        gone = False
        while self._monitor is not None:
            try:
                self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            gone = True
        if gone:
            self._act(self.session.disconnected(time.monotonic()))

    def _enqueue(self, frame: Transmit) -> None:
        lane = self._outbox[frame.header.lane]
        if len(lane) >= QUEUE_MAX_FRAMES[frame.header.lane]:
            lane.popleft()
            self.dropped += 1
        lane.append(frame)

    def _pump(self) -> None:
        """Write, read, and look again until neither moves; then set the timer."""
        if self._socket is None:
            return
        try:
            self._write()
            if self._read():
                self._write()
                self._again()
            self._perform(self.session.tick(time.monotonic()))
            self._write()
            self._look_again()
            self._set_timer()
            self._tell_calm()
        except zmq.ZMQError:
            _log.exception("the socket to the broker failed")

    def _tell_calm(self) -> None:
        if self._calm and self.session.link is Link.REGISTERED and not self.queue:
            for calm in self._calm:
                if not calm.done():
                    calm.set_result(None)

    def _look_again(self) -> None:
        """The sends may have eaten the edge that told of a message."""
        if self._socket is not None and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._again()

    def _again(self) -> None:
        assert self._loop is not None
        if self._turn is None:
            self._turn = self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._pump()

    def _write(self) -> None:
        now = time.monotonic()
        for lane in self._outbox:
            while lane and self._socket is not None:
                frame = lane[0]
                if frame.expires_at > now and not self._send(frame):
                    return
                lane.popleft()

    def _send(self, frame: Transmit) -> bool:
        assert self._socket is not None
        try:
            self._socket.send_multipart([encode_header(frame.header), frame.body], zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _read(self) -> int:
        """Handle what has come, at most a turn's worth. Returns how many frames."""
        for count in range(READS_PER_TURN_MAX):
            if self._socket is None:
                return 0
            try:
                parts = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return count
            self._handle(parts)
        return READS_PER_TURN_MAX

    def _handle(self, parts: list[bytes]) -> None:
        if len(parts) != _FRAME_PARTS:
            return
        try:
            head = decode_header(parts[0])
        except WireError as error:
            _log.debug("a frame was refused: %s", error)
            return
        self._perform(self.session.frame_received(head, parts[1], time.monotonic()))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is None or self._loop is None:
            return
        now = time.monotonic()
        deadline = self.session.next_deadline(now)
        if deadline is not None:
            self._timer = self._loop.call_later(deadline - now, self._pump)


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    return int(socket.getsockopt(zmq.FD))


def _monitor(
    context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes]
) -> zmq.Socket[bytes]:
    """A socket that gets a message whenever ``socket`` loses its connection."""
    address = f"inproc://shardctl-monitor-{id(socket)}"
    socket.monitor(address, zmq.EVENT_DISCONNECTED)
    monitor = context.socket(zmq.PAIR)
    monitor.setsockopt(zmq.LINGER, 0)
    monitor.connect(address)
    return monitor
