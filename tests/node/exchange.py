"""A broker played by the test that also passes on what nodes say to each other, and lets the test
speak as a node of its own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from msgspec import structs

from shard_node.wire import batch, bodies, targets
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.credit import Forwarded
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.topics import TOPICS
from tests.node.fake_broker import FakeBroker
from tests.support.waiting import wait_for

TEST = "t#1"
"""The node that the test is."""


class Exchange(FakeBroker):
    """``holders`` says who holds a shard. ``lost`` may have a frame vanish between two nodes: it
    gets the sender, the header and the messages."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.holders: dict[int, str] = {}
        self.lost: Callable[[str, Header, list[batch.Message]], bool] | None = None
        self.said: list[tuple[str, str, Any]] = []
        """Sender, topic and body of all requests and messages between nodes."""
        self._answers: dict[int, Any] = {}
        self._numbers, self._seqs = itertools.count(1), itertools.count(1)
        self._raw: list[list[bytes]] = []

    def ask(self, who: str, topic: str, body: Any, timeout_s: float = 5.0) -> Any:
        """A request of the test's to a node; the reply's body."""
        return self.answered(self.begin(who, topic, body), topic, timeout_s)

    def begin(self, who: str, topic: str, body: Any) -> int:
        """The same, without waiting."""
        number, spec = next(self._numbers), TOPICS[topic]
        message = batch.Message(int(Kind.REQUEST), topic, encode_body(body), number, 30_000)
        head = Header(
            1, Kind.BATCH, targets.Node(who), "", spec.lane, ttl_ms=30_000, sender=TEST,
            seq=next(self._seqs), flags=int(batch.Flag.KEPT), low=number, sent_at=time.time(),
        )  # fmt: skip
        self._raw.append([who.encode(), encode_header(head), batch.encode_batch([message])])
        return number

    def answered(self, number: int, topic: str, timeout_s: float = 5.0) -> Any:
        """The reply to one that was begun."""
        found = wait_for(f"a reply to {topic}", lambda: self._answers.get(number), timeout_s)
        kind, data = found
        assert kind is Kind.REPLY, decode_body(data, bodies.ErrorBody)
        return decode_body(data, TOPICS[topic].reply)

    # --- the socket

    def _between(self, socket: Any) -> None:
        while self._raw:
            socket.send_multipart(self._raw.pop(0))

    def _take(self, parts: list[bytes]) -> None:
        head = decode_header(parts[1])
        if head.kind is not Kind.BATCH:
            super()._take(parts)
            return
        sender, messages = parts[0].decode(), batch.decode_batch(parts[2])
        for one in messages:
            if one.kind in (Kind.REQUEST, Kind.MESSAGE):
                self.said.append((sender, one.topic, decode_body(one.body, TOPICS[one.topic].body)))
        to = self._process(head.target)
        if to == TEST:
            for one in messages:
                self._answers[one.number] = (Kind(one.kind), one.body)
        elif to and not (self.lost is not None and self.lost(sender, head, messages)):
            passed = structs.replace(head, sender=sender)
            self._raw.append([to.encode(), encode_header(passed), parts[2]])
        elif not to:
            back = structs.replace(header(Kind.BOUNCE, targets.BROKER, ""), lane=head.lane)
            gone = bodies.ErrorBody("E_UNREACHABLE", "nobody there")
            back = structs.replace(back, seq=head.seq)
            self._raw.append([parts[0], encode_header(back), encode_body(gone)])
            return
        credit = encode_body(Forwarded([(int(head.lane), head.seq, to)]))
        self._raw.append([parts[0], encode_header(header(Kind.CREDIT, targets.BROKER, "")), credit])

    def _process(self, target: targets.Target) -> str:
        if isinstance(target, targets.Shard):
            return self.holders.get(target.id, "")
        if not isinstance(target, targets.Node):
            return ""
        name = target.name
        if name.partition("#")[0] == TEST.partition("#")[0]:
            return TEST
        known = [one.decode() for one in self.registered]
        if "#" in name:
            return name if name in known else ""
        return max((one for one in known if one.partition("#")[0] == name), default="")
