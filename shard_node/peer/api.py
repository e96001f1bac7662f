"""What a bot's author calls: handlers, events, messages, requests."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, overload

import msgspec

from shard_node.errors import (
    BrokerUnavailable,
    NoHandler,
    RequestFailed,
    RequestTimeout,
    ShardNodeError,
)
from shard_node.peer.addresses import check_receiver
from shard_node.peer.answers import DELIVERED
from shard_node.peer.asks import Ask
from shard_node.peer.encoding import UNENCODABLE, encode, encode_any, too_large, unencodable
from shard_node.peer.frames import Line
from shard_node.peer.handlers import Decode, Message, TopicName, decoder, lane_number, topic_name
from shard_node.peer.lines import LINES_MAX
from shard_node.peer.plane import Plane
from shard_node.peer.turns import A_TURN, Room
from shard_node.shared.member import StateMember
from shard_node.wire import batch
from shard_node.wire.bodies import NodesReply, NodesRequest
from shard_node.wire.guildview import GuildAsk, GuildView
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import BATCH_MAX_BYTES, BODY_MAX_BYTES, TTL_MAX_MS
from shard_node.wire.targets import Broker, Guild, Node, Target, Topic
from shard_node.wire.topics import GUILD_VIEW, NODES, TOPICS

Call = TypeVar("Call", bound=Callable[[Message], Any])

PUBLISH_BURST: Final = 256
"""Events published in one turn of the loop; the next one lets the loop turn."""
GATHER_TIMEOUT_S: Final = 5.0
GATHER_IN_FLIGHT_MAX: Final = 256
"""Nodes that one ``gather`` has asked and that have not answered yet."""
REQUEST_TIMEOUT_S: Final = 5.0
SEND_TTL_S: Final = 30.0
ASK_HINT: Final = "what the broker answers is in the manual page shard-protocol(7)"
BATCH_FULL_BYTES: Final = BATCH_MAX_BYTES // 2
"""A batch of events is full already at half the limit, so that no body has to be looked at
before it is added; the limit on a body is that of its frame."""
DECODERS_CACHED: Final = 1024
_EVENT: Final = int(Kind.EVENT)
_MESSAGE: Final = int(Kind.MESSAGE)
_REQUEST: Final = int(Kind.REQUEST)
_HIGH: Final = int(Lane.HIGH)
_NORMAL: Final = int(Lane.NORMAL)


class Receipt(NamedTuple):
    """What became of a message: ``delivered`` (its handlers returned on the owner that it was
    sent to first) or ``rerouted`` (on another one, since the first one had died)."""

    outcome: str

    @property
    def rerouted(self) -> bool:
        """Whether another owner than the first one handled it."""
        return self.outcome != DELIVERED


class Gathered(NamedTuple):
    """What every node answered: each node's name is in one of the two."""

    replies: dict[str, Any]
    errors: dict[str, ShardNodeError]


class Peer(StateMember):
    """A member of the fleet that others can talk to: a bot's node, or a program's client.
    ``state_dir`` is the folder of the shared state's file, if this process can have it."""

    def __init__(self, epoch: int, name: str = "", state_dir: Path | None = None) -> None:
        super().__init__(Plane(epoch), name, state_dir)
        self.viewed: Callable[[int], GuildView | None] = lambda _: None
        """What a guild looks like that this process handles itself."""

    # --- handlers

    @overload
    def on(self, topic: TopicName) -> Callable[[Call], Call]: ...
    @overload
    def on(self, topic: TopicName, handler: Call) -> Call: ...
    def on(self, topic: TopicName, handler: Call | None = None) -> Any:
        """Call ``handler`` with every Message of a topic: ``node.on("x", f)`` or ``@node.on("x")``.

        ``topic`` is a name, or a msgspec.Struct type, whose instances the bodies then are.
        Handlers start in the order of the messages of one sender, target and lane. Raises
        ValueError for a name that is empty or too long.
        """
        if handler is None:
            return lambda call: self.on(topic, call)
        if self._plane.handlers.listen(topic, handler):
            self._state_topics()
            self._topics_changed()
        return handler

    def off(self, topic: TopicName, handler: Callable[[Message], Any]) -> None:
        """Call ``handler`` for this topic no longer."""
        if self._plane.handlers.unlisten(topic, handler):
            self._state_topics()
            self._topics_changed()

    @overload
    def serve(self, name: TopicName) -> Callable[[Call], Call]: ...
    @overload
    def serve(self, name: TopicName, handler: Call) -> Call: ...
    def serve(self, name: TopicName, handler: Call | None = None) -> Any:
        """Answer the requests of a name with what ``handler`` returns.

        Raises ValueError where something serves that name already.
        """
        if handler is None:
            return lambda call: self.serve(name, call)
        self._plane.handlers.serve(name, handler)
        return handler

    def unserve(self, name: TopicName, handler: Callable[[Message], Any]) -> None:
        """Answer the requests of a name no longer."""
        self._plane.handlers.unserve(name, handler)

    def hear_peers(self, topic: str, handler: Callable[[Message], Any]) -> None:
        """Call ``handler`` with the messages that shardctl's own processes send each other under
        a topic of the protocol."""
        self._plane.handlers.inner(topic, handler)

    # --- saying something

    def publish(self, topic: TopicName, body: Any, *, lane: str | None = None) -> Awaitable[None]:
        """Tell all who listen to a topic, at most once.

        Always ``await`` it; it is no coroutine, so ``create_task`` does not take it. It has left
        this call already when it returns; awaiting it waits where the fleet is
        slower than its caller (at most ROOM_TIMEOUT_S, then the oldest events are dropped
        and counted). ``lane``: the topic's own where it has one, else ``"normal"``.
        Raises TypeError or ValueError for a body that cannot be sent, BrokerUnavailable
        before the node is connected.
        """
        plane = self._plane
        try:
            data = encode_any(body)
        except UNENCODABLE as error:
            raise unencodable(body, error) from None
        line = plane.outbox.topics.get((topic, lane)) or self._topic_line(topic, lane)
        size = len(data)
        if size > BODY_MAX_BYTES:
            raise too_large(size)
        messages = line.batch
        messages.append(batch.Message(_EVENT, line.topic, data))
        line.size += size
        if not line.queued:
            plane.outbox.enqueue(line)
            plane.wake()
        if len(messages) >= line.look or line.size >= line.look_bytes:
            return self._looked(line)
        assert plane.done is not None
        return plane.done

    async def send(
        self,
        target: Target,
        topic: TopicName,
        body: Any,
        *,
        lane: str | None = None,
        ttl_s: float = SEND_TTL_S,
    ) -> Receipt:
        """Deliver a message once to the owner of ``target``, and wait for its receipt.

        Raises Undeliverable (``reason``), QueueFull (``retry_after_s``), NoHandler or
        RemoteError (its handler raised), and TypeError or ValueError for a target, a topic, a
        time or a body that cannot be sent.
        """
        ask = self._begin(_MESSAGE, target, topic, body, lane, ttl_s)
        try:
            return Receipt(await ask.waiter)
        finally:
            self._plane.answers.end(ask)

    async def request(
        self,
        target: Target,
        name: TopicName,
        body: Any = None,
        *,
        lane: str | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
        reply: Any = Any,
    ) -> Any:
        """Ask the owner of ``target`` and wait for the reply, decoded as ``reply``; without it,
        as the built-in topic's own (COMMAND_EXEC: a CommandResult), if it has one.

        ``lane`` is ``"high"`` where the topic has none of its own. Raises RequestTimeout,
        NoHandler, RemoteError, Undeliverable or QueueFull.
        """
        if isinstance(target, Broker):
            topic = topic_name(name)
            spec = TOPICS.get(topic)
            if spec is None or spec.reply is None:
                raise NoHandler(f"{topic}: the broker answers no such request", hint=ASK_HINT)
            if not 0.0 <= timeout_s < math.inf:
                raise _no_time(timeout_s)
            return await self.ask(topic, body, timeout_s=timeout_s)
        ask = self._begin(_REQUEST, target, name, body, lane, timeout_s)
        try:
            data = await ask.waiter
        finally:
            if ask.open:
                self._plane.answers.end(ask)
        try:
            return _reply_decoder(ask.message.topic, reply)(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
            text = f"{topic_name(name)}: the reply cannot be read: {error}"
            raise ShardNodeError(text, code="E_BAD_BODY") from None

    async def gather(
        self,
        name: TopicName,
        body: Any = None,
        *,
        timeout_s: float = GATHER_TIMEOUT_S,
        reply: Any = Any,
    ) -> Gathered:
        """Ask all nodes of the fleet, this one too: replies and errors by node.

        A node that is planned and not there is among the errors. At most GATHER_IN_FLIGHT_MAX
        are asked at a time, those that are registered first. Raises RequestTimeout or
        BrokerUnavailable where the broker does not say which nodes there are.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        nodes = await self._planned(timeout_s)
        names = sorted(nodes, key=nodes.__getitem__, reverse=True)
        room = asyncio.Semaphore(GATHER_IN_FLIGHT_MAX)

        async def ask(node: str) -> Any:
            async with room:
                left_s = deadline - clock()
                if left_s <= 0:
                    raise RequestTimeout(f"{topic_name(name)}: {node} was not asked in time")
                return await self.request(Node(node), name, body, timeout_s=left_s, reply=reply)

        answers = await asyncio.gather(*map(ask, names), return_exceptions=True)
        found = Gathered({}, {})
        for node, answer in zip(names, answers, strict=True):
            if isinstance(answer, ShardNodeError):
                found.errors[node] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.replies[node] = answer
        return found

    async def fetch_guild(
        self, guild_id: int, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> GuildView:
        """What a guild looks like now, whichever process handles it.

        Raises LookupError where the bot is in no such guild, and else what ``request`` raises.
        """
        if (mine := self.viewed(guild_id)) is not None:
            return mine
        try:
            found: GuildView = await self.request(
                Guild(guild_id), GUILD_VIEW, GuildAsk(guild_id), timeout_s=timeout_s
            )
        except RequestFailed as error:
            if error.code == "E_NOT_FOUND":
                raise LookupError(str(error)) from None
            raise
        return found

    async def nodes(self, *, timeout_s: float = REQUEST_TIMEOUT_S) -> list[str]:
        """The names of all nodes that the fleet is planned to have."""
        return list(await self._planned(timeout_s))

    async def ask(
        self,
        topic: str,
        body: Any,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        renew: bool = False,
    ) -> Any:
        """Ask the broker itself; with ``renew``, also one that comes after it."""
        raise NotImplementedError

    # --- within

    async def _planned(self, timeout_s: float) -> dict[str, bool]:
        """The planned nodes by name, and whether they are registered."""
        reply: NodesReply = await self.ask(NODES, NodesRequest(), timeout_s=timeout_s)
        return dict(reply.nodes)

    def _topics_changed(self) -> None:
        """The set of topics that the broker sends has changed."""

    def _begin(
        self,
        kind: int,
        target: Target,
        topic: TopicName,
        body: Any,
        lane: str | None,
        timeout_s: float,
    ) -> Ask:
        plane = self._plane
        data = encode(body)
        line, name = plane.outbox.ways.get((target, topic, lane, kind)) or self._way(
            target, topic, lane, kind
        )
        if not 0.0 <= timeout_s < math.inf:
            raise _no_time(timeout_s)
        ttl_ms = int(timeout_s * 1000)
        if not 1 <= ttl_ms <= TTL_MAX_MS:
            ttl_ms = 1 if ttl_ms < 1 else TTL_MAX_MS
        return plane.begin(line, batch.Message(kind, name, data, 0, ttl_ms), timeout_s)

    def _way(
        self, target: Target, topic: TopicName, lane: str | None, kind: int
    ) -> tuple[Line, str]:
        """The line and the topic's name of what is said like this."""
        name = topic_name(topic)
        check_receiver(target)
        outbox = self._plane.outbox
        number = lane_number(lane) if lane else _own_lane(name, kind)
        way = outbox.ways[target, topic, lane, kind] = (outbox.line(target, number), name)
        if len(outbox.ways) > LINES_MAX:
            outbox.ways.clear()
        return way

    def _topic_line(self, topic: TopicName, lane: str | None) -> Line:
        if self._plane.loop is None:
            raise BrokerUnavailable(f"{topic_name(topic)}: this node is not connected")
        name = topic_name(topic)
        number = lane_number(lane) if lane else _own_lane(name, _EVENT)
        outbox = self._plane.outbox
        line = outbox.topics[topic, lane] = outbox.line(Topic(name), number)
        return line

    def _looked(self, line: Line) -> Awaitable[None]:
        """A batch has grown; what its publisher awaits."""
        plane, count = self._plane, len(line.batch)
        if plane.outbox.looked(line, BATCH_FULL_BYTES):
            plane.burst += count
            plane.full_batch()
        if not plane.outbox.room(line):
            return Room(plane, line)
        if plane.burst >= PUBLISH_BURST:
            return A_TURN
        assert plane.done is not None
        return plane.done


def _no_time(timeout_s: float) -> ValueError:
    return ValueError(f"{timeout_s!r} is no time to wait: seconds, 0 or more, and not for ever")


@lru_cache(DECODERS_CACHED)
def _reply_decoder(topic: str, reply: Any) -> Decode:
    """What reads a reply: a built-in topic has a type of its own."""
    if reply is Any:
        spec = TOPICS.get(topic)
        reply = Any if spec is None else spec.reply or Any
    return decoder(reply)


def _own_lane(name: str, kind: int) -> int:
    spec = TOPICS.get(name)
    if spec is not None:
        return int(spec.lane)
    return _HIGH if kind == _REQUEST else _NORMAL
