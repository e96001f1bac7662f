"""One broker without sockets or disk, whose state's commits are done when a test says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgspec

from broker.core.effects import Effects, Erase, KeepState, Log, ResetState
from broker.core.events import (
    Event,
    FrameReceived,
    Process,
    StateCommitted,
    StateSettled,
    SupervisorHello,
    Tick,
)
from broker.core.logtime import LogClock, LogMark
from broker.core.settings import Settings
from broker.core.stateport import ERASED, MemoryPort, SharedState
from broker.services.machine import Broker
from shard_node.state.tx import Actor, Tx
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, Register, ShardReport, ShardState, Subscribe
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import node_id, operator_id
from shard_node.wire.state import StateDo, StateDone, StateOutcome
from shard_node.wire.targets import BROKER
from store.records import Durable

A, B, OP = node_id("a", 1), node_id("b", 1), operator_id(1, 1)
WALL_MS = 1_700_000_000_000


@dataclass
class Heard:
    """A frame that a peer got."""

    peer: bytes
    head: Header
    body: bytes

    def read(self) -> Any:
        spec = topics.TOPICS[self.head.topic]
        if self.head.kind is Kind.ERROR:
            return decode_body(self.body, ErrorBody)
        return decode_body(
            self.body, (spec.reply or spec.up) if self.head.kind is Kind.REPLY else spec.body
        )


class StateWorld:
    """``auto``: each commit ends at once. Otherwise ``commit`` and ``fail`` end the oldest."""

    def __init__(self, port: MemoryPort | None = None, *, auto: bool = False) -> None:
        self.auto = auto
        self.now = 100.0
        self.port = port or MemoryPort()
        clock = LogClock(LogMark(), self.now, boot_id="boot", wall_ms=WALL_MS)
        self.shared = SharedState(self.port, clock=clock)
        settings = Settings("f", application="app", boot_id="boot")
        self.broker = Broker(settings, Durable(), self.now, self.shared)
        self.keeps: deque[KeepState] = deque()
        self.errors: list[str] = []
        self.erases: deque[Erase] = deque()
        self.resets = 0
        self.heard: list[Heard] = []
        self._numbers = count(1)
        self._ids = count(1)
        processes = tuple(
            Process(name, 1, 10 + place, place, (2 * place, 2 * place + 1), 4, 1.0)
            for place, name in enumerate("ab")
        )
        self.give(SupervisorHello(1, processes))
        for place, name in enumerate("ab"):
            shards = tuple(ShardReport(2 * place + n, ShardState.READY) for n in (0, 1))
            self.send(node_id(name, 1), topics.REGISTER, Register(name, 1, 1, 4, shards))
        self.heard.clear()

    # --- events in, effects out

    def give(self, event: Event) -> None:
        effects: Effects = self.broker.on(event, self.now)
        for effect in effects:
            match effect:
                case KeepState():
                    self.keeps.append(effect)
                case Erase():
                    self.erases.append(effect)
                case ResetState():
                    self.resets += 1
                case Log(level="ERROR", text=text):
                    self.errors.append(text)
        self._drain()
        while self.auto and self.keeps:
            self.commit()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.give(Tick())

    def commit(self) -> None:
        """The oldest commit is durable, and the file shows it."""
        keep = self.durable()
        self.settle(keep)

    def durable(self) -> KeepState:
        """The oldest commit is durable; the file does not show it."""
        keep = self.keeps.popleft()
        self.give(StateCommitted(keep.token))
        return keep

    def settle(self, keep: KeepState) -> None:
        """The file shows it."""
        self.port.commit(keep.writes, keep.entries)
        self.give(StateSettled(keep.token))

    def fail(self, code: str = "E_STORE_FULL", error: str = "no room") -> None:
        """The oldest commit failed; the writer fails the others as well."""
        failed, self.keeps = list(self.keeps), deque()
        for keep in failed:
            self.give(StateCommitted(keep.token, code, error, "make room"))

    def erase(self) -> None:
        """The oldest erasing is durable."""
        effect = self.erases.popleft()
        self.port.erase(effect.lsns)
        self.give(StateCommitted(ERASED))

    # --- peers

    def send(self, peer: bytes, topic: str, body: Any, *, ttl_ms: int = 0) -> int:
        """A request or event of a peer; its correlation."""
        spec, number = topics.TOPICS[topic], next(self._numbers)
        kind = spec.kind if spec.up is None else Kind.REQUEST
        head = header(kind, BROKER, topic, lane=spec.lane, correlation=number, ttl_ms=ttl_ms)
        data = body if isinstance(body, bytes) else encode_body(body)
        self.give(FrameReceived(peer, encode_header(head), data))
        return number

    def answer(self, number: int) -> Any:
        """What a request was answered with; None: nothing yet."""
        for frame in self.heard:
            if frame.head.correlation == number and frame.head.kind in (Kind.REPLY, Kind.ERROR):
                return frame.read()
        return None

    def ask(self, topic: str, body: Any, peer: bytes = A) -> Any:
        return self.answer(self.send(peer, topic, body))

    def subscribe(self, peer: bytes, *names: str) -> None:
        self.send(peer, topics.SUBSCRIBE, Subscribe(names))

    def events(self, topic: str, peer: bytes | None = None) -> list[Any]:
        """The bodies of the events of a topic that were heard, by one peer or by all."""
        return [
            frame.read()
            for frame in self.heard
            if frame.head.topic == topic
            and frame.head.kind is Kind.EVENT
            and peer in (None, frame.peer)
        ]

    def tx(self, *ops: Any, actor: Actor | None = None, op_id: int = 0) -> bytes:
        """A transaction's bytes, as no honest sender may have checked them."""
        number = op_id or next(self._ids) + (1 << 64)
        return msgspec.msgpack.encode(
            Tx(number.to_bytes(16, "big"), number.to_bytes(16, "big"), ops, actor or Actor())
        )

    def do(self, *txs: bytes, peer: bytes = A) -> int:
        """A request of several transactions; its correlation."""
        return self.send(peer, topics.STATE_DO, StateDo(txs))

    def outcome(self, *ops: Any, **how: Any) -> StateOutcome | ErrorBody | None:
        """What became of one transaction of its own."""
        answer = self.answer(self.do(self.tx(*ops, **how)))
        return answer.outcomes[0] if isinstance(answer, StateDone) else answer

    def _drain(self) -> None:
        outbox = self.broker.outbox
        for peer in outbox.waiting():
            while (entry := outbox.head(peer)) is not None:
                outbox.sent(peer, entry[0])
                self.heard.append(Heard(peer, decode_header(entry[1].header), entry[1].body))
