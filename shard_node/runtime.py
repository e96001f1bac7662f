"""The node that this process is: its settings, its heartbeat, its line to the broker.

Knows nothing of disnake; the bridge attaches it to the loop that the bot runs on.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import zmq

from shard_node.client import BrokerClient
from shard_node.effects import Deliver, Link, StopAsked
from shard_node.errors import BrokerUnavailable
from shard_node.heartbeat import HeartbeatThread, Vitals
from shard_node.peer.api import Peer
from shard_node.session import NodeSession
from shard_node.settings import SUCCESSOR, NodeSettings
from shard_node.shards import ShardTable
from shard_node.wire.bodies import (
    ErrorBody,
    HeartbeatAck,
    NodeFatal,
    Register,
    ShardReport,
    ShardState,
)
from shard_node.wire.codec import decode_body
from shard_node.wire.handover import Phase
from shard_node.wire.header import Header, Kind
from shard_node.wire.identity import heartbeat_id, node_id
from shard_node.wire.targets import BROKER, Target
from shard_node.wire.topics import FATAL, TOPICS

_log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S: Final = 5.0
FLUSH_TIMEOUT_S: Final = 2.0
GUILD_QUIET_S: Final = 2.0
"""A shard whose guilds stop arriving for so long is ready: the rest is in an outage.
The same time as disnake's ``guild_ready_timeout``."""

_current: Node | None = None


def current() -> Node | None:
    """The node that this process is; None where it is no node."""
    return _current


class Fatal:
    """What ended the node for good: a close code, what it means, what to do."""

    __slots__ = ("code", "hint", "reason")

    def __init__(self, code: int, reason: str, hint: str) -> None:
        self.code, self.reason, self.hint = code, reason, hint


class Node(Peer):
    """A bot's process as a member of its fleet; ``Peer`` is how it talks to the others.

    ``name``, ``index``, ``epoch``, ``shards`` and ``num_shards`` say which one;
    ``broker_up`` whether the broker answers now; ``ask`` asks the broker.
    """

    def __init__(self, settings: NodeSettings, disnake_version: str = "") -> None:
        super().__init__(settings.epoch, settings.name, settings.state_dir)
        self.settings = settings
        self._plane.debug = settings.debug
        self._shards = settings.shards
        self.table = ShardTable(settings.shards, settings.num_shards, GUILD_QUIET_S)
        if settings.role == SUCCESSOR:
            for shard in settings.shards:
                self.table.phased(shard, Phase.WARMING, "")
        self.vitals = Vitals(self.table.reports({}, {}, {}))
        self.disnake_version = disnake_version
        self.fatal: Fatal | None = None
        self.stop_asked: StopAsked | None = None
        self.on_stop: Callable[[StopAsked], None] | None = None
        self.report: Callable[[], tuple[ShardReport, ...]] | None = None
        self.flaws: dict[str, int] = {}
        """Troubles that stay, each by its name."""
        self.serves: dict[str, Callable[[bytes], Any]] = {}
        """Who answers the requests of a topic: a body in, the reply's or an ErrorBody out, at
        once or awaited."""
        self.hears: dict[str, Callable[[Any], None]] = {}
        """Who is told of the broker's events of a topic, each with its body."""
        self.welcomed: list[Callable[[], None]] = []
        """Called after each registration: a new broker knows nothing yet."""
        self._answering: set[asyncio.Task[None]] = set()
        self.client: BrokerClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = time.monotonic()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._heartbeat = HeartbeatThread(
            self._context,
            settings.endpoint,
            heartbeat_id(settings.name, settings.epoch),
            self.vitals,
            on_ack=self._ack_from_thread,
            ask_touch=self._ask_touch_from_thread,
            on_orphaned=self._orphaned_from_thread,
            lifeline_fd=settings.lifeline_fd,
            hang_s=settings.hang_s,
        )

    @property
    def name(self) -> str:
        """The stable name, such as ``a``."""
        return self.settings.name

    @property
    def index(self) -> int:
        """The place among the fleet's nodes, from 0."""
        return self.settings.index

    @property
    def epoch(self) -> int:
        """Counts the starts of this node's processes."""
        return self.settings.epoch

    @property
    def shards(self) -> tuple[int, ...]:
        """The gateway shards that this process holds, or is to take."""
        return self._shards

    @shards.setter
    def shards(self, shards: Iterable[int]) -> None:
        """They come and go while it runs."""
        self._shards = tuple(sorted(shards))

    @property
    def num_shards(self) -> int:
        """The shard count of the fleet."""
        return self.settings.num_shards

    @property
    def broker_up(self) -> bool:
        """Whether the node is registered and the broker answers."""
        return self.client is not None and self.client.session.link is Link.REGISTERED

    @property
    def debug(self) -> bool:
        """Whether who asked gets the traceback of what a handler raised."""
        return self._plane.debug

    @property
    def shard_states(self) -> dict[int, ShardState]:
        """The state of each shard."""
        return {shard: self.table.state(shard) for shard in self.shards}

    def start(self) -> None:
        """Begin to beat: from before the bot's import, which may take long."""
        global _current
        _current = self
        self._heartbeat.start()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect to the broker on the loop that runs the bot. Twice does nothing."""
        if self.client is not None:
            return
        self._loop = loop
        now = time.monotonic()
        self.client = BrokerClient(
            self.settings.endpoint,
            node_id(self.name, self.epoch),
            NodeSession(self._introduction(now), now, self.serves.keys()),
            on_stop=self.ask_stop,
            on_deliver=self._deliver,
            on_link=self._link_changed,
            on_told=self._state_told,
            plane=self._plane,
        )
        self._fleet_state.open()
        self.client.open(loop)

    def detach(self) -> None:
        """Leave the loop, before it closes. The heartbeat goes on until ``end``."""
        client, self.client, self._loop = self.client, None, None
        if client is not None:
            self._fleet_state.close()
            client.close()

    def end(self) -> None:
        """The process ends."""
        global _current
        self.detach()
        self._heartbeat.stop()
        self._context.destroy()
        _current = None

    async def ask(
        self,
        topic: str,
        body: Any,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        target: Target = BROKER,
        renew: bool = False,
    ) -> Any:
        """Ask the broker (or ``target`` through it) and wait for the reply's body.

        Raises RequestTimeout or BrokerUnavailable (retryable), or RequestFailed.
        """
        if self.client is None:
            raise BrokerUnavailable(f"{topic}: this node is not connected")
        return await self.client.request(
            topic, body, timeout_s=timeout_s, target=target, renew=renew
        )

    def send_event(self, topic: str, body: Any, *, target: Target = BROKER) -> None:
        """Tell the broker (or ``target``), at most once."""
        if self.client is not None:
            self.client.send_event(topic, body, target=target)

    def ask_stop(self, stop: StopAsked) -> None:
        """Stop gracefully; with a drain of 0 s, also while it stops, quickly."""
        first, self.stop_asked = self.stop_asked, self.stop_asked or stop
        if first is None:
            _log.info("stopping: %s", stop.reason)
        if self.on_stop is not None:
            self.on_stop(stop)

    def die(self, code: int, reason: str, hint: str) -> None:
        """Tell the fleet that no restart mends this, once."""
        if self.fatal is None:
            self.fatal = Fatal(code, reason, hint)
            self.send_event(FATAL, NodeFatal(code, reason, hint))

    async def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Let what was told last reach the broker, before the process ends."""
        if self.client is not None and not await self.client.flush(timeout_s):
            _log.warning("the broker did not take the node's last words")

    def touch(self) -> None:
        """The loop turns."""
        self.vitals.touched_at = time.monotonic()
        self.refresh()
        if self.client is not None:
            self.client.tidy()

    def refresh(self) -> None:
        """Bring up to date what heartbeats and registrations carry."""
        if self.report is not None:
            self.vitals.shards = self.report()
        if self.client is not None:
            self.vitals.queue = self.client.queue
            self.vitals.troubles = {**self.flaws, **self.client.troubles}
            self.client.session.shards = self.vitals.shards

    # --- from the heartbeat's thread

    def _ack_from_thread(self, ack: HeartbeatAck) -> None:
        self._from_thread(self._acknowledged, ack)

    def _ask_touch_from_thread(self) -> bool:
        return self._from_thread(self.touch)

    def _orphaned_from_thread(self) -> None:
        """The supervisor is gone: stop as if it had asked, sessions kept."""
        _log.warning("the supervisor is gone; stopping")
        os.kill(os.getpid(), signal.SIGTERM)

    def _from_thread(self, call: Callable[..., None], *args: Any) -> bool:
        loop = self._loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop closed meanwhile
            return False
        return True

    def _acknowledged(self, ack: HeartbeatAck) -> None:
        if self.client is not None:
            self.client.heartbeat_answered(ack)

    def _deliver(self, frame: Deliver) -> None:
        topic = frame.header.topic
        if frame.header.kind is Kind.REQUEST:
            self._serve(frame)
        elif frame.header.kind is not Kind.EVENT:
            return
        elif (hear := self.hears.get(topic)) is not None and not frame.header.sender:
            hear(decode_body(frame.body, TOPICS[topic].body))
        elif not self._state_event(frame.header, frame.body):
            self._plane.event(frame.header, frame.body)

    def _serve(self, frame: Deliver) -> None:
        serve = self.serves.get(frame.header.topic)
        if serve is None or self.client is None:
            return
        answer = serve(frame.body)
        if not inspect.isawaitable(answer):
            self.client.answer(frame.header, answer)
            return
        task = asyncio.ensure_future(self._answer_later(frame.header, answer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer_later(self, asked: Header, answer: Awaitable[Any]) -> None:
        try:
            body = await answer
        except Exception as error:
            _log.exception("%s could not be answered", asked.topic)
            body = ErrorBody("E_REMOTE", f"{type(error).__name__}: {error}")
        if self.client is not None:
            self.client.answer(asked, body)

    def _topics_changed(self) -> None:
        if self.client is not None:
            self.client.subscribe(self._plane.handlers.topics)

    def _link_changed(self, link: Link) -> None:
        if self.client is not None:
            self._state_link(link, self.client.session)
        said = {
            Link.REGISTERED: "the broker is there",
            Link.AWAY: "the broker is silent; the bot goes on without it",
            Link.UNREGISTERED: "the broker is gone; the bot goes on and waits for the next one",
        }
        _log.info("%s", said.get(link, link.value))
        if link is Link.REGISTERED:
            for call in self.welcomed:
                call()

    def _introduction(self, now: float) -> Register:
        return Register(
            name=self.name,
            epoch=self.epoch,
            pid=os.getpid(),
            num_shards=self.num_shards,
            shards=self.vitals.shards,
            topics=self._plane.handlers.topics,
            disnake=self.disnake_version,
            uptime_s=now - self._started_at,
        )
