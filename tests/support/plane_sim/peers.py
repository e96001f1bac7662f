"""Nodes and clients: the real ``Node`` and ``Client`` on loops of their own, and what they do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shard_node.errors import BrokerUnavailable, ShardNodeError
from shard_node.peer.api import Peer
from shard_node.peer.connect import Client
from shard_node.runtime import Node
from shard_node.settings import NodeSettings
from shard_node.wire.targets import Node as NodeTarget
from shard_node.wire.targets import Target
from tests.support.plane_sim.book import SLACK_S, Say, answer_of
from tests.support.plane_sim.loop import LoopProcess

if TYPE_CHECKING:
    from tests.support.plane_sim.fleet import Fleet

MESSAGE, SERVICE, UNHEARD, ROLL = "word", "question", "nobody listens", "roll call"
TOPICS = ("t0", "t1")
NESTED_TIMEOUT_S = 1.0
ROLL_TIMEOUT_S = 2.0
LINGER_S = 0.05


class HandlerFailed(Exception):
    """A handler raises."""


class PeerProcess(LoopProcess):
    """A process that talks. ``called`` is what others know it by."""

    def __init__(self, fleet: Fleet, name: str, called: str, identity: bytes) -> None:
        super().__init__(fleet.world, name, fleet.net.signalled)
        self.fleet, self.called, self.identity = fleet, called, identity
        self.peer: Peer | None = None
        self.turn_s = fleet.world.random.uniform(5e-6, 100e-6)
        self.slowness = fleet.world.random.choice((0.0, 0.0, 2e-6, 20e-6, 200e-6))
        self.loop.call_soon(self._begin)
        self.stopping = False
        self._tasks: set[Any] = set()

    @property
    def up(self) -> bool:
        """Whether it is registered with a broker."""
        return self.peer is not None and bool(self.peer.broker_up)  # type: ignore[attr-defined]

    def _begin(self) -> None:
        raise NotImplementedError

    def _listen(self, peer: Peer) -> None:
        self.peer = peer
        peer.on(MESSAGE, self._heard)
        peer.serve(SERVICE, self._heard)
        peer.serve(ROLL, lambda message: self.called)
        for topic in TOPICS:
            if self.world.random.random() < self.fleet.listening:
                peer.on(topic, self._heard)

    def task(self, coro: Any) -> None:
        """Runs something on this process's loop."""
        if not self.alive:
            coro.close()
            return
        task = self.loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- handlers

    def _heard(self, message: Any) -> Any:
        uid = message.body[0]
        say = self.fleet.book.started(uid, self)
        self.burn(self.slowness)
        behaviour = say.behaviour if say is not None else "now"
        if behaviour == "raise":
            self.fleet.book.finished(uid, "raised")
            raise HandlerFailed
        if behaviour == "tell":
            self.task(self.publish([self.fleet.new_event(self)]))
        if behaviour in ("now", "burn", "tell"):
            self.burn(0.002 if behaviour == "burn" else 0.0)
            self.fleet.book.finished(uid, "ok")
            return answer_of(uid)
        assert say is not None
        return self._slowly(say)

    async def _slowly(self, say: Say) -> list[int]:
        random, book = self.world.random, self.fleet.book
        how = "died"
        try:
            if say.behaviour == "yield":
                await asyncio.sleep(0)
            elif say.behaviour == "ask":
                await self._ask_on(say)
            else:
                await asyncio.sleep(random.choice((0.001, 0.01, 0.05, 0.3)))
            how = "ok"
        finally:
            if say.behaviour == "late raise":
                how = "raised"
            book.finished(say.uid, how)
        if how == "raised":
            raise HandlerFailed
        return answer_of(say.uid)

    async def _ask_on(self, first: Say) -> None:
        """A handler that talks itself."""
        say = self.fleet.new_say(self, "request", "now")
        await self.request(say, first.sender.called, NESTED_TIMEOUT_S)

    # --- what it says

    async def send(self, say: Say, target: Target, timeout_s: float) -> None:
        assert self.peer is not None
        say.target = target
        self.fleet.book.said(say, timeout_s)
        topic = UNHEARD if say.behaviour == "nobody" else MESSAGE
        body = [say.uid, self.fleet.padding()]
        await self._await(say, self.peer.send(target, topic, body, lane=say.lane, ttl_s=timeout_s))

    async def request(self, say: Say, name: str | Target, timeout_s: float) -> None:
        assert self.peer is not None
        target = NodeTarget(name) if isinstance(name, str) else name
        say.target = target
        self.fleet.book.said(say, timeout_s)
        topic = UNHEARD if say.behaviour == "nobody" else SERVICE
        body = [say.uid, self.fleet.padding()]
        asked = self.peer.request(target, topic, body, lane=say.lane, timeout_s=timeout_s)
        await self._await(say, asked)

    async def _await(self, say: Say, ending: Any) -> None:
        try:
            result = await ending
        except ShardNodeError as error:
            if self.stopping:
                self.fleet.book.open.pop(say.uid, None)
            else:
                self.fleet.book.failed(say, error)
        else:
            self.fleet.book.answered(say, result)

    async def publish(self, says: list[Say]) -> None:
        assert self.peer is not None
        for say in says:
            self.fleet.book.said(say, 0.0)
            body = [say.uid, self.fleet.padding()]
            try:
                await self.peer.publish(say.target, body, lane=say.lane)
            except BrokerUnavailable:
                if not self.stopping:
                    raise

    async def call_roll(self) -> None:
        """Every planned node is among the replies or among the errors."""
        assert self.peer is not None
        begun, lost_s = self.loop.time(), self.lost_s
        try:
            found = await self.peer.gather(ROLL, timeout_s=ROLL_TIMEOUT_S)
        except ShardNodeError as error:
            if not self.stopping:
                self.fleet.book.no_roll(error)
        else:
            self.fleet.book.rolled(found, self.fleet.planned())
        late_s = self.loop.time() - begun - ROLL_TIMEOUT_S - (self.lost_s - lost_s)
        if late_s > SLACK_S:
            self.world.fault(f"{self.name} gathers {late_s:.3f} s beyond its deadline")

    # --- its end

    def kill(self) -> None:
        """kill -9: its sockets close, and what was in the kernel's hands may still arrive."""
        self.end()
        for dealer in list(self.fleet.net.dealers.values()):
            mine = dealer.process is self or dealer.identity == self.identity + b"!hb"
            if mine:
                self.fleet.watch.gone(dealer.identity)
            if mine and not dealer.closed:
                dealer.closed = True
                if dealer.connection is not None:
                    dealer.connection.tear(0.0, self.world.random.uniform(0.0, 0.03))


class NodeProcess(PeerProcess):
    """A bot's process."""

    def __init__(self, fleet: Fleet, line: dict[str, Any], pid: int) -> None:
        self.line, self.pid, self.epoch = line, pid, line["epoch"]
        called = line["name"].removeprefix("node:")
        name = f"{called}#{self.epoch}"
        super().__init__(fleet, name, called, name.encode())
        self.born_at = fleet.world.now

    def _begin(self) -> None:
        line = self.line
        node = Node(
            NodeSettings(
                "sim", self.fleet.endpoint, self.called, line["index"], self.epoch,
                tuple(line["shards"]), line["num_shards"], Path("/"), "main.py", False, "", False,
                "", 1.0, None,
            )
        )  # fmt: skip
        self._listen(node)
        node.on_stop = lambda stop: self.loop.call_soon(self._stop, node)
        node.start()
        node.attach(self.loop)
        self.fleet.began(self)

    def _stop(self, node: Node) -> None:
        """The broker asked for it: the descriptor is given back in order."""
        if not self.alive:
            return
        self.stopping = True
        node.detach()
        self.world.after(LINGER_S, self.fleet.exited, self, 0, None)


class ClientProcess(PeerProcess):
    """A program outside a bot."""

    def __init__(self, fleet: Fleet, short: str) -> None:
        self.short = short
        super().__init__(fleet, short, short, b"")

    def _begin(self) -> None:
        self.task(self._enter())

    async def _enter(self) -> None:
        while True:
            client = Client(self.fleet.endpoint, self.short)
            self._listen(client)
            try:
                await client.open()
            except BrokerUnavailable:
                continue
            break
        self.identity = self.fleet.client_identity(self)
        self.called = self.name = self.identity.decode()
        self.fleet.began(self)
