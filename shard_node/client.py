"""The asyncio shell of the node's session: one DEALER on the bot's own loop."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from shard_node.dealer import Dealer
from shard_node.effects import Deliver, Effect, Fail, Link, LinkChanged, Settle, StopAsked, Transmit
from shard_node.errors import BrokerUnavailable
from shard_node.peer.plane import Plane
from shard_node.session import NodeSession
from shard_node.wire.bodies import ErrorBody, Heartbeat, HeartbeatAck, Subscribe
from shard_node.wire.codec import WireError, decode_header, encode_header
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import QUEUE_MAX_FRAMES
from shard_node.wire.targets import BROKER, Target
from shard_node.wire.topics import SUBSCRIBE
from shard_node.wire.zmtp import Parts

_log = logging.getLogger(__name__)

FRAME_PARTS: Final = 2


class BrokerClient:
    """Talks to the broker. All methods but ``heartbeat_from_thread`` belong to the loop.

    ``on_stop`` is called when the broker asks to stop, ``on_deliver`` for every other
    event and for requests that the session serves, ``on_link`` when the broker comes or goes,
    ``on_refused`` with why it does not let this process in.
    ``plane`` gets what peers say, and sends through the same socket.
    """

    def __init__(
        self,
        endpoint: str,
        identity: bytes,
        session: NodeSession,
        *,
        on_stop: Callable[[StopAsked], None],
        on_deliver: Callable[[Deliver], None] | None = None,
        on_link: Callable[[Link], None] | None = None,
        on_refused: Callable[[ErrorBody], None] | None = None,
        on_told: Callable[[int], None] | None = None,
        plane: Plane | None = None,
    ) -> None:
        self.session = session
        self.dropped = 0
        self._dealer = Dealer(
            endpoint,
            identity,
            on_frames=self._arrived,
            on_room=self._pump,
            on_lost=self._connection_lost,
        )
        self._on_stop, self._on_deliver, self._on_link = on_stop, on_deliver, on_link
        self._on_refused, self._on_told = on_refused, on_told
        self._told = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._outbox: tuple[deque[Transmit], ...] = tuple(deque() for _ in Lane)
        self._plane = plane
        self._open = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._acted = True
        """Something was asked of the session since the last look at its timer."""
        self._turn: asyncio.Handle | None = None
        self._calm: list[asyncio.Future[None]] = []

    @property
    def queue(self) -> int:
        """Frames and messages that wait to be sent."""
        peers = self._plane.outbox.waiting if self._plane is not None else 0
        return sum(map(len, self._outbox)) + peers

    @property
    def troubles(self) -> dict[str, int]:
        """What this process has dropped and refused, each by its name."""
        found = {"frames_dropped": self.dropped + self.session.dropped}
        if (plane := self._plane) is not None:
            found["events_dropped"] = plane.outbox.dropped
            found["messages_refused"] = plane.rejected + plane.answers.rejected
            if (dispatcher := plane.dispatcher) is not None:
                found["messages_unheard"] = dispatcher.unheard
                found["handlers_failed"] = dispatcher.failed
        return {name: count for name, count in found.items() if count}

    def tidy(self) -> None:
        """Forget what cannot come again. To be called at every beat."""
        if self._plane is not None:
            self._plane.inbox.forget(time.monotonic())

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect and register, on the loop that runs the bot."""
        self._loop, self._open = loop, True
        if self._plane is not None:
            self._plane.open(loop, self._dealer.send, self._dealer.readable, self._pump)
        self._perform(self.session.start(time.monotonic()))
        self._set_timer()
        self._dealer.open(loop)

    def close(self) -> None:
        """Send what can be sent at once, fail what is open, give the descriptor back."""
        if not self._open:
            return
        self._perform(self.session.close())
        self._write()
        if self._plane is not None:
            self._plane.close()
        self._open = False
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()
        self._dealer.close()

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
        if not self._open or self._loop is None:
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

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Listen to these topics from now on, and at every registration."""
        self.session.topics = topics
        if self.session.link is Link.REGISTERED:
            self.send_event(SUBSCRIBE, Subscribe(topics))

    def answer(self, asked: Header, body: Any) -> None:
        """Answer a request that ``on_deliver`` brought; an ErrorBody goes as an error."""
        self._act(self.session.answer(asked, body, time.monotonic()))

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the node is registered and all that it told has left.

        Returns False where ``timeout_s`` was not enough.
        """
        if not self._open or self._loop is None:
            return False
        calm = self._loop.create_future()
        self._calm.append(calm)
        self._acted = True
        self._pump()
        done, _ = await asyncio.wait({calm}, timeout=timeout_s)
        self._calm = [other for other in self._calm if other is not calm]
        return bool(done)

    def beat(self, body: Heartbeat) -> None:
        """A heartbeat over this very socket."""
        if self._open:
            self._act(self.session.beat(body, time.monotonic()))

    def heartbeat_answered(self, ack: HeartbeatAck) -> None:
        """The heartbeat thread heard the broker (call it on the loop)."""
        if self._open:
            self._act(self.session.heartbeat_answered(ack, time.monotonic()))
            self._pass_told()

    # --- carrying out effects

    def _act(self, effects: list[Effect]) -> None:
        self._acted = True
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
                self._tell_plane(effect.link)
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

    def _tell_plane(self, link: Link) -> None:
        if self._plane is None:
            return
        if link is Link.REGISTERED:
            self._plane.link_up()
        elif link is Link.AWAY:
            self._plane.link_away()
        else:
            self._plane.link_lost()

    def _settle(self, effect: Settle) -> None:
        future = self._waiting.pop(effect.correlation, None)
        if future is not None and not future.done():
            future.set_result(effect.reply)

    def _fail(self, effect: Fail) -> None:
        future = self._waiting.pop(effect.correlation, None)
        if future is not None and not (future.done() or future.get_loop().is_closed()):
            future.set_exception(effect.error)

    # --- the socket

    def _connection_lost(self) -> None:
        """The broker's end closed."""
        self._act(self.session.disconnected(time.monotonic()))

    def _enqueue(self, frame: Transmit) -> None:
        lane = self._outbox[frame.header.lane]
        if len(lane) >= QUEUE_MAX_FRAMES[frame.header.lane]:
            lane.popleft()
            self.dropped += 1
        lane.append(frame)

    def _pump(self) -> None:
        """Write, and have handlers take their turn, unless this is within a task: their first
        step cannot be taken inside another one."""
        if not self._open:
            return
        if any(self._outbox):
            self._write()
        if asyncio.current_task(self._loop) is not None:
            self._again()
            return
        control, self._acted = self._acted, False
        if self._plane is not None:
            self._plane.turn()
        self._after(control=control)

    def _again(self) -> None:
        assert self._loop is not None
        if self._turn is None:
            self._turn = self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._pump()

    def _arrived(self, frames: list[Parts]) -> None:
        """Frames have come."""
        control, self._acted = self._acted, False
        now = time.monotonic()
        self.session.heard(now)
        for parts in frames:
            if len(parts) == FRAME_PARTS and self._open:
                control = self._handle(parts[0], parts[1], now) or control
        if self._open:
            if self._plane is not None:
                self._plane.turn()
            self._after(control=control)

    def _after(self, *, control: bool) -> None:
        """What only frames of the broker's own, and time, change."""
        now = time.monotonic()
        if control or self._calm or now >= self._timer_at:
            self._perform(self.session.tick(now))
            self._write()
            self._set_timer()
            self._tell_calm()

    def _tell_calm(self) -> None:
        if self._calm and self.session.link is Link.REGISTERED and not self.queue:
            for calm in self._calm:
                if not calm.done():
                    calm.set_result(None)

    def _write(self) -> None:
        now = time.monotonic()
        for lane in self._outbox:
            while lane:
                frame = lane[0]
                if frame.expires_at > now and not self._send(frame):
                    return
                lane.popleft()

    def _send(self, frame: Transmit) -> bool:
        return self._dealer.send(encode_header(frame.header), frame.body)

    def _handle(self, head_bytes: bytes, body: bytes, now: float) -> bool:
        """True where the session has to look."""
        try:
            head = decode_header(head_bytes)
        except WireError as error:
            _log.debug("a frame was refused: %s", error)
            return False
        plane, kind = self._plane, head.kind
        if plane is not None:
            if kind is Kind.BATCH:
                plane.batch(head, body)
                return False
            if kind is Kind.CREDIT or kind is Kind.BOUNCE:
                plane.credit(body) if kind is Kind.CREDIT else plane.bounce(head, body)
                return False
        refusal = self.session.refusal
        self._perform(self.session.frame_received(head, body, now))
        if self.session.refusal not in (None, refusal):
            self._refused(self.session.refusal)
        self._pass_told()
        return True

    def _pass_told(self) -> None:
        """What a heartbeat's answer says of the state."""
        told = self.session.told
        if told != self._told:
            self._told = told
            if self._on_told is not None:
                self._on_told(told)

    def _refused(self, why: ErrorBody) -> None:
        level = logging.INFO if why.code == "E_NOT_READY" else logging.WARNING
        _log.log(level, "the broker does not let this process in: %s", why.message)
        if self._on_refused is not None:
            self._on_refused(why)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf
        if not self._open or self._loop is None:
            return
        now = time.monotonic()
        deadline = self.session.next_deadline(now)
        if deadline is not None:
            self._timer_at = deadline
            self._timer = self._loop.call_later(deadline - now, self._time_is_up)

    def _time_is_up(self) -> None:
        self._acted = True  # the loop's clock may be a little ahead of the deadline
        self._pump()
