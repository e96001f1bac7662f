"""A node's conversation with its broker, without socket, clock or loop. Pure.

Every call takes ``now`` (monotonic seconds) and returns effects for the shell to carry out.
The states and all their transitions stand in ``effects.TRANSITIONS``:

    unregistered --welcomed--> registered --silent--> away --heard--> registered
         |                        |  <------lost------ |
         +--refused--> refused    (any) --closed--> closed

The broker's silence never ends a node: while it is away requests wait for their deadline,
and what may be asked twice (``renew``) is asked again of the broker that comes back.
"""

from __future__ import annotations

import contextlib
import heapq
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Final

from msgspec import structs

from shard_node.effects import (
    TRANSITIONS,
    Deliver,
    Effect,
    Fail,
    Link,
    LinkChanged,
    Settle,
    StopAsked,
    Transmit,
)
from shard_node.errors import BrokerUnavailable, RequestFailed, RequestTimeout, ShardNodeError
from shard_node.pace import REGISTER_TIMEOUT_S, Pace
from shard_node.peer.failures import refused_by_broker
from shard_node.wire.bodies import (
    ClientRegister,
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    NodeStop,
    Register,
    ShardReport,
    Welcome,
)
from shard_node.wire.codec import WireError, decode_body, encode_body
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import TTL_MAX_MS
from shard_node.wire.targets import BROKER, Target
from shard_node.wire.topics import (
    CLIENT_REGISTER,
    HEARTBEAT,
    NODE_STOP,
    REGISTER,
    TOPICS,
    TopicSpec,
)

REQUESTS_MAX: Final = 4096
HELD_EVENTS_MAX: Final = 1024
EVENT_TTL_S: Final = 60.0
REGISTER_RETRY_S: Final = 0.25
NOT_REGISTERED: Final = frozenset({"E_OLD_EPOCH", "E_NOT_REGISTERED"})
"""The broker's answers to a node that it does not know (yet); the registration that follows
tells a new broker from an old epoch."""


class _Pending:
    __slots__ = ("body", "deadline", "renew", "sent", "spec", "target", "topic")

    def __init__(
        self, spec: TopicSpec, topic: str, target: Target, body: bytes, deadline: float, renew: bool
    ) -> None:
        self.spec, self.topic, self.target, self.body = spec, topic, target, body
        self.deadline, self.renew, self.sent = deadline, renew, False


class NodeSession:
    """``register`` is who the node is; each registration brings its shards up to date."""

    def __init__(
        self, register: Register | ClientRegister, now: float, serves: Collection[str] = frozenset()
    ) -> None:
        self.link = Link.UNREGISTERED
        self.shards: tuple[ShardReport, ...] = getattr(register, "shards", ())
        self.topics: tuple[str, ...] = register.topics
        self.dropped = 0
        self.refusal: ErrorBody | None = None
        """Why the broker did not let it in when it was asked last."""
        self.told = 0
        """The number of the last change of the state that the broker says it told."""
        self.era = ""
        """The state's, as the broker said at the registration."""
        self.pace = Pace()
        self._register = register
        self._serves = serves
        self._started_at = now
        self._correlation = 0
        self._registering: int | None = None
        self._pending: dict[int, _Pending] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._held: deque[Transmit] = deque()
        self._heard_at = self._register_again_at = now

    # --- what the node does

    def start(self, now: float) -> list[Effect]:
        """Register for the first time."""
        return self._send_register(now)

    def request(
        self,
        topic: str,
        body: Any,
        now: float,
        *,
        timeout_s: float,
        target: Target = BROKER,
        renew: bool = False,
    ) -> tuple[int, list[Effect]]:
        """Ask something. The correlation is settled or failed before ``timeout_s``.

        ``renew``: the question may be asked twice, so a new broker is asked again.
        Raises BrokerUnavailable where too much is asked already, KeyError for a topic that
        has no reply.
        """
        if len(self._pending) >= REQUESTS_MAX or self.link in (Link.REFUSED, Link.CLOSED):
            raise BrokerUnavailable(f"{topic}: {self._why_not()}")
        deadline = now + min(timeout_s, TTL_MAX_MS / 1000)
        spec = TOPICS[topic]
        correlation = self._next_correlation()
        self._pending[correlation] = _Pending(
            spec, topic, target, encode_body(body), deadline, renew
        )
        heapq.heappush(self._deadlines, (deadline, correlation))
        if self.link is not Link.REGISTERED:
            return correlation, []
        return correlation, [self._ask(correlation, now)]

    def event(self, topic: str, body: Any, now: float, *, target: Target = BROKER) -> list[Effect]:
        """Tell something, at most once. Held while the broker is away, the oldest dropped."""
        spec = TOPICS[topic]
        frame = Transmit(
            header(Kind.EVENT, target, topic, lane=spec.lane),
            encode_body(body),
            now + EVENT_TTL_S,
        )
        if self.link is Link.REGISTERED:
            return [frame]
        self._hold(frame)
        return []

    def cancel(self, correlation: int) -> None:
        """Nobody waits for this request any more."""
        self._pending.pop(correlation, None)

    def close(self) -> list[Effect]:
        """The node ends: all that is open fails."""
        self._move("closed")
        open_now, self._pending = self._pending, {}
        self._deadlines.clear()
        return [Fail(c, BrokerUnavailable("the node stops")) for c in open_now]

    # --- what happens to it

    def frame_received(self, head: Header, body: bytes, now: float) -> list[Effect]:
        """A frame came. What cannot be read is the peer's fault and is dropped."""
        self._heard_at = now
        if head.kind in (Kind.REPLY, Kind.ERROR):
            if head.correlation == self._registering:
                return self._registration_answered(head, body, now)
            if head.topic == HEARTBEAT:
                return self._beat_answered(head, body, now)
            return self._answered(head, body, now)
        if head.kind is Kind.REQUEST and head.topic not in self._serves:
            return self.answer(head, _nobody(head), now)
        if head.topic == NODE_STOP and not head.sender:
            return self._stop_asked(body)
        return [Deliver(head, body)]

    def heard(self, now: float) -> None:
        """A frame came that is for others to read."""
        self._heard_at = now

    def beat(self, body: Heartbeat, now: float) -> list[Effect]:
        """A heartbeat over this very socket, for who has no thread for it."""
        head = header(Kind.REQUEST, BROKER, HEARTBEAT, lane=Lane.CONTROL, ttl_ms=1000)
        return [Transmit(head, encode_body(body), now + 1.0)]

    def heartbeat_answered(self, ack: HeartbeatAck, now: float) -> list[Effect]:
        """The heartbeat thread heard the broker."""
        self._heard_at = now
        self.pace.told(ack.heartbeat_interval_s)
        if not ack.registered:
            return self._lost(now)
        self.told = ack.told
        if not self._move("heard"):
            return []
        return [LinkChanged(self.link), *self._flush(now)]

    def _beat_answered(self, head: Header, body: bytes, now: float) -> list[Effect]:
        if head.kind is Kind.ERROR:
            return []
        try:
            return self.heartbeat_answered(decode_body(body, HeartbeatAck), now)
        except WireError:
            return []

    def disconnected(self, now: float) -> list[Effect]:
        """The broker's end of the connection closed: whoever comes there next is new."""
        return self._lost(now)

    def take_back(self, frames: Iterable[Transmit]) -> None:
        """Frames that never left: told or asked once the broker is back."""
        for frame in frames:
            if frame.header.kind is Kind.EVENT:
                self._hold(frame)
            elif frame.header.correlation in self._pending:
                self._pending[frame.header.correlation].sent = False

    def tick(self, now: float) -> list[Effect]:
        """Fail what is overdue, register again, notice the broker's silence."""
        effects = self._overdue(now)
        if self.link is Link.REGISTERED and now >= self.pace.silent_at(self._heard_at):
            self._move("silent")
            effects.append(LinkChanged(self.link))
        if self.link is Link.UNREGISTERED and now >= self._register_again_at:
            effects += self._send_register(now)
        return effects

    def next_deadline(self, now: float) -> float | None:
        """When ``tick`` has something to do; None where nothing ever ends by itself."""
        times = [self._deadlines[0][0]] if self._deadlines else []
        if self.link is Link.REGISTERED:
            times.append(self.pace.silent_at(self._heard_at))
        if self.link is Link.UNREGISTERED:
            times.append(self._register_again_at)
        return max(now, min(times)) if times else None

    # --- registration

    def _send_register(self, now: float) -> list[Effect]:
        self._registering = self._next_correlation()
        self._register_again_at = now + self.pace.register_again_s()
        head = header(
            Kind.REQUEST,
            BROKER,
            REGISTER if isinstance(self._register, Register) else CLIENT_REGISTER,
            lane=Lane.CONTROL,
            correlation=self._registering,
            ttl_ms=int(REGISTER_TIMEOUT_S * 1000),
        )
        return [Transmit(head, encode_body(self._introduction(now)), self._register_again_at)]

    def _introduction(self, now: float) -> Register | ClientRegister:
        first = self._register
        if isinstance(first, ClientRegister):
            return ClientRegister(first.name, self.topics)
        uptime_s = first.uptime_s + now - self._started_at
        return structs.replace(first, shards=self.shards, topics=self.topics, uptime_s=uptime_s)

    def _registration_answered(self, head: Header, body: bytes, now: float) -> list[Effect]:
        if head.kind is Kind.ERROR:
            self._register_again_at = now + REGISTER_RETRY_S
            with contextlib.suppress(WireError):
                self.refusal = decode_body(body, ErrorBody)
            return []
        try:
            welcome = decode_body(body, Welcome)
        except WireError:
            return []
        self._registering = self.refusal = None
        self.pace.registered()
        self.pace.told(welcome.heartbeat_interval_s)
        self.told, self.era = welcome.told, welcome.era
        if not welcome.accepted:
            self._move("refused")
            reason = welcome.reason or "the broker knows a newer epoch of this node"
            return [LinkChanged(self.link), StopAsked(reason, None, False)]
        self._move("welcomed")
        return [LinkChanged(self.link), *self._flush(now)]

    def _lost(self, now: float) -> list[Effect]:
        if not self._move("lost"):
            return []
        return [LinkChanged(self.link), *self._forsake(), *self._send_register(now)]

    def _forsake(self) -> list[Effect]:
        """What the broker that is gone was asked: again to the next one, or failed."""
        failed: list[Effect] = []
        for correlation, pending in list(self._pending.items()):
            if pending.renew:
                pending.sent = False
            elif pending.sent:
                del self._pending[correlation]
                error = BrokerUnavailable(f"{pending.topic}: the broker ended before its answer")
                failed.append(Fail(correlation, error))
        return failed

    def _hold(self, frame: Transmit) -> None:
        if len(self._held) >= HELD_EVENTS_MAX:
            self._held.popleft()
            self.dropped += 1
        self._held.append(frame)

    def _flush(self, now: float) -> list[Effect]:
        effects: list[Effect] = [frame for frame in self._held if frame.expires_at > now]
        self._held.clear()
        effects += [self._ask(c, now) for c, p in self._pending.items() if not p.sent]
        return effects

    # --- requests

    def _ask(self, correlation: int, now: float) -> Transmit:
        pending = self._pending[correlation]
        pending.sent = True
        head = header(
            Kind.REQUEST,
            pending.target,
            pending.topic,
            lane=pending.spec.lane,
            correlation=correlation,
            ttl_ms=max(1, int((pending.deadline - now) * 1000)),
        )
        return Transmit(head, pending.body, pending.deadline)

    def _answered(self, head: Header, body: bytes, now: float) -> list[Effect]:
        pending = self._pending.get(head.correlation)
        if pending is None:
            return []
        try:
            if head.kind is Kind.ERROR:
                return self._refused(head.correlation, decode_body(body, ErrorBody), now)
            reply = decode_body(body, pending.spec.reply or pending.spec.up or dict)
        except WireError as error:
            del self._pending[head.correlation]
            return [Fail(head.correlation, RequestFailed(f"{pending.topic}: {error}"))]
        del self._pending[head.correlation]
        return [Settle(head.correlation, reply)]

    def _refused(self, correlation: int, error: ErrorBody, now: float) -> list[Effect]:
        pending = self._pending[correlation]
        if error.code in NOT_REGISTERED:
            pending.sent = False  # it was not looked at, so it may be asked again
            return self._lost(now)
        del self._pending[correlation]
        return [Fail(correlation, refused_by_broker(pending.topic, error))]

    def _overdue(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, correlation = heapq.heappop(self._deadlines)
            pending = self._pending.pop(correlation, None)
            if pending is not None:
                effects.append(Fail(correlation, self._too_late(pending)))
        return effects

    def _too_late(self, pending: _Pending) -> ShardNodeError:
        if self.link is Link.REGISTERED:
            return RequestTimeout(f"{pending.topic}: no answer before the deadline")
        return BrokerUnavailable(f"{pending.topic}: {self._why_not()}")

    def _why_not(self) -> str:
        if self.link is Link.REGISTERED:
            return f"{REQUESTS_MAX} requests are open already"
        return f"the node is {self.link.value}"

    # --- what others ask of the node

    def _stop_asked(self, body: bytes) -> list[Effect]:
        try:
            stop = decode_body(body, NodeStop)
        except WireError:
            return []
        return [StopAsked(stop.reason, max(0.0, stop.drain_s), stop.discard_sessions)]

    def answer(self, asked: Header, body: Any, now: float) -> list[Effect]:
        """Answer a request that was delivered; an ErrorBody goes as an error."""
        kind = Kind.ERROR if isinstance(body, ErrorBody) else Kind.REPLY
        head = header(kind, BROKER, asked.topic, lane=asked.lane, correlation=asked.correlation)
        return [Transmit(head, encode_body(body), now + EVENT_TTL_S)]

    def _next_correlation(self) -> int:
        self._correlation += 1
        return self._correlation

    def _move(self, event: str) -> bool:
        after = TRANSITIONS.get((self.link, event))
        if after is None:
            return False
        changed, self.link = after is not self.link, after
        return changed


def _nobody(head: Header) -> ErrorBody:
    return ErrorBody("E_NO_HANDLER", f"nothing on this node answers {head.topic}")
