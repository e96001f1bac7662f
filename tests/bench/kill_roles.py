"""A member of a fleet whose broker is killed: it sends at a rate, asks, publishes, and keeps
account of what it was told and what it handled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import shard_node
from shard_node.errors import ShardNodeError
from shard_node.runtime import Node
from shardctl.bench.measure import now_ns
from shardctl.bench.worker import Link
from tests.bench.contenders.node_peer import settings_of
from tests.bench.tally import EVENTS, Heard, ranges

TICK_S: Final = 0.01
ASK_EVERY: Final = 100
"""Messages for each request, and for each event."""
TTL_S: Final = 20.0
SETTLE_MAX_S: Final = 25.0
REGISTER_MAX_S: Final = 10.0
LANES: Final = ("normal", "normal", "high", "low")
PAD: Final = "x" * 200
TARGETS: Final[dict[str, Callable[[str], Any]]] = {
    "node": shard_node.Node,
    "shard": lambda text: shard_node.Shard(int(text)),
    "guild": lambda text: shard_node.Guild(int(text)),
}


def target_of(text: str) -> Any:
    """Of ``node:b``, ``shard:3``, ``guild:81384788765712384``."""
    kind, _, value = text.partition(":")
    return TARGETS[kind](value)


class Talk:
    """All that a member says, each in a stream of its own that is numbered from 1."""

    def __init__(self, node: Any, name: str, targets: Sequence[str]) -> None:
        self._node, self._name, self._targets = node, name, targets
        self._said: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.acked: dict[str, list[int]] = {}
        self.replied: dict[str, list[int]] = {}
        self.ended: Counter[str] = Counter()
        self.served: list[tuple[int, int]] = []
        """Of each tick: when its messages were sent, when the first of them was acknowledged."""

    async def at_rate(self, rate_s: float) -> None:
        """Sends ``rate_s`` messages a second, until it is cancelled."""
        start, sent = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - start) * rate_s)
            tick = [now_ns(), 0]
            for place in range(sent, due):
                self._say(place, tick)
            sent = due
            await asyncio.sleep(TICK_S)

    def _say(self, place: int, tick: list[int]) -> None:
        target = self._targets[place % len(self._targets)]
        lane = LANES[place // len(self._targets) % len(LANES)]
        self._begin(self._send(target, lane, tick))
        if place % ASK_EVERY == 0:
            self._begin(self._ask(target))
            self._begin(self._publish())

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _body(self, stream: str) -> dict[str, Any]:
        self._said[stream] += 1
        return {"stream": stream, "n": self._said[stream], "pad": PAD}

    async def _send(self, target: str, lane: str, tick: list[int]) -> None:
        body = self._body(f"{self._name}>{target}>{lane}")
        work = self._node.send(target_of(target), "kill.message", body, lane=lane, ttl_s=TTL_S)
        if await self._done(work, self.acked, body) and not tick[1]:
            tick[1] = now_ns()
            self.served.append((tick[0], tick[1]))

    async def _ask(self, target: str) -> None:
        body = self._body(f"{self._name}?{target}")
        work = self._node.request(target_of(target), "kill.ask", body)
        await self._done(work, self.replied, body)

    async def _publish(self) -> None:
        await self._done(self._node.publish("kill.event", self._body(self._name + EVENTS)), {}, {})

    async def _done(
        self, work: Awaitable[Any], where: dict[str, list[int]], body: dict[str, Any]
    ) -> bool:
        try:
            await work
        except ShardNodeError as error:
            self.ended[f"{type(error).__name__} {error.code}"] += 1
            return False
        if body:
            where.setdefault(body["stream"], []).append(body["n"])
        return True

    async def settle(self) -> int:
        """Waits until all has ended; how much has not."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SETTLE_MAX_S)
        return len(self._tasks)


async def member(
    link: Link,
    endpoint: str,
    name: str,
    targets: Sequence[str],
    rate_s: float,
    node: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """``node``: the broker's line about the node that this is; None: a program.

    Says {} when registered, talks when told, until told; says what it was told, waits for
    word, and ends with what it handled.
    """
    heard = Heard()

    async def take(message: Any) -> None:
        heard.take(message.body["stream"], message.body["n"])

    async def answer(message: Any) -> int:
        await take(message)
        await asyncio.sleep(0)
        return int(message.body["n"])

    async with _joined(endpoint, name, node) as peer:
        for topic in ("kill.message", "kill.event"):
            peer.on(topic, take)
        peer.serve("kill.ask", answer)
        link.say({})
        await link.hear()
        talk = Talk(peer, name, targets)
        talking = asyncio.create_task(talk.at_rate(rate_s))
        await link.hear()
        talking.cancel()
        left = await talk.settle()
        link.say(
            {
                "acked": {stream: ranges(found) for stream, found in talk.acked.items()},
                "replied": {stream: ranges(found) for stream, found in talk.replied.items()},
                "ended": talk.ended,
                "served": talk.served,
                "left": left,
            }
        )
        await link.hear()
        return heard.report()


@contextlib.asynccontextmanager
async def _joined(endpoint: str, name: str, node: dict[str, Any] | None) -> AsyncIterator[Any]:
    if node is None:
        async with shard_node.connect(endpoint, name) as client:
            yield client
        return
    peer = Node(settings_of(endpoint, node))
    peer.start()
    try:
        peer.attach(asyncio.get_running_loop())
        async with asyncio.timeout(REGISTER_MAX_S):
            while not peer.broker_up:
                await asyncio.sleep(TICK_S)
        yield peer
    finally:
        peer.end()
