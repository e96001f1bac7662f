"""Any Python process as a client of the fleet: it talks to the nodes and holds no shard."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from shard_node.client import BrokerClient
from shard_node.effects import Deliver, Link, StopAsked
from shard_node.errors import BrokerUnavailable
from shard_node.memory import rss_bytes
from shard_node.peer.api import REQUEST_TIMEOUT_S, Peer
from shard_node.peer.discovery import find_endpoint, find_state
from shard_node.session import NodeSession
from shard_node.wire.bodies import ClientRegister, ErrorBody, Heartbeat
from shard_node.wire.header import Kind
from shard_node.wire.identity import CLIENT_TOKENS, client_id, is_node_name

CONNECT_TIMEOUT_S: Final = 5.0
FLUSH_TIMEOUT_S: Final = 1.0


def _token() -> int:
    return secrets.randbelow(CLIENT_TOKENS)


def connect(
    endpoint: str | None = None, name: str | None = None, *, fleet: str | None = None
) -> Connection:
    """A member of the fleet for ``async with``: ``async with connect() as node: ...``.

    ``endpoint`` is found as the command line finds the fleet: ``fleet`` (its ``--fleet``),
    SHARDCTL_ENDPOINT, SHARDCTL_FLEET, the settings in the working folder, a bot in it.
    ``name`` is what others reach it by, ``Node(name)``; lower-case letters, digits, ``_`` and
    ``-``. Entering raises BrokerUnavailable where no broker answers within CONNECT_TIMEOUT_S.
    """
    return Connection(endpoint, name, fleet)


class Client(Peer):
    """A program of the fleet. ``name`` is what others reach it by."""

    def __init__(self, endpoint: str, name: str, state_dir: Path | None = None) -> None:
        super().__init__(0, name, state_dir)
        self.name = name
        self._plane.debug = os.environ.get("SHARDCTL_DEBUG") == "1"
        self.stop_asked = False
        self._registered = asyncio.Event()
        self._counter = 0
        self._beat_timer: asyncio.TimerHandle | None = None
        now = time.monotonic()
        self._client = BrokerClient(
            endpoint,
            client_id(name, os.getpid(), _token()),
            NodeSession(ClientRegister(name, self._plane.handlers.topics), now),
            on_stop=self._told_to_stop,
            on_deliver=self._deliver,
            on_link=self._link_changed,
            on_refused=self._refused,
            on_told=self._state_told,
            plane=self._plane,
        )

    @property
    def broker_up(self) -> bool:
        """Whether the broker answers now."""
        return self._client.session.link is Link.REGISTERED

    async def ask(
        self,
        topic: str,
        body: Any,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
        renew: bool = False,
    ) -> Any:
        """Ask the broker itself; with ``renew``, also one that comes after it.

        Raises RequestTimeout, BrokerUnavailable or RequestFailed.
        """
        return await self._client.request(topic, body, timeout_s=timeout_s, renew=renew)

    async def open(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect and register."""
        loop = asyncio.get_running_loop()
        self._fleet_state.open()
        self._client.open(loop)
        self._beat_later()
        try:
            async with asyncio.timeout(timeout_s):
                await self._registered.wait()
        except TimeoutError:
            pass
        except BaseException:
            self.close()
            raise
        if not self.broker_up:
            self.close()
            raise self._not_let_in()

    def _not_let_in(self) -> BrokerUnavailable:
        why = self._client.session.refusal
        if why is None:
            return BrokerUnavailable(f"no broker let {self.name!r} in")
        text = f"the broker does not let {self.name!r} in: {why.message}"
        return BrokerUnavailable(text, code=why.code, hint=why.hint, retryable=why.retryable)

    async def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until all that was said has left; False where that took longer."""
        return await self._client.flush(timeout_s)

    def close(self) -> None:
        """Leave the fleet."""
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        self._fleet_state.close()
        self._client.close()

    def _beat(self) -> None:
        self._counter += 1
        client = self._client
        beat = Heartbeat(self._counter, 0.0, rss_bytes(), client.queue, (), client.troubles)
        client.beat(beat)
        client.tidy()
        self._beat_later()

    def _beat_later(self) -> None:
        interval_s = self._client.session.pace.interval_s
        self._beat_timer = asyncio.get_running_loop().call_later(interval_s, self._beat)

    def _topics_changed(self) -> None:
        self._client.subscribe(self._plane.handlers.topics)

    def _deliver(self, frame: Deliver) -> None:
        if frame.header.kind is Kind.EVENT and not self._state_event(frame.header, frame.body):
            self._plane.event(frame.header, frame.body)

    def _link_changed(self, link: Link) -> None:
        self._state_link(link, self._client.session)
        if link is Link.REGISTERED:
            self._registered.set()

    def _refused(self, why: ErrorBody) -> None:
        if not why.retryable:
            self._registered.set()  # asking again does not help

    def _told_to_stop(self, stop: StopAsked) -> None:
        del stop
        self.stop_asked = True


class Connection:
    """What ``connect`` returns."""

    def __init__(self, endpoint: str | None, name: str | None, fleet: str | None = None) -> None:
        if endpoint and fleet:
            raise ValueError("endpoint or fleet, not both")
        self._endpoint, self._fleet = endpoint, fleet or ""
        self._name = name or f"py{os.getpid()}"
        if not is_node_name(self._name):
            msg = f"name={name!r}: lower-case letters, digits, _ and -, a letter first"
            raise ValueError(msg)
        self._client: Client | None = None

    async def __aenter__(self) -> Client:
        endpoint = self._endpoint or find_endpoint(fleet=self._fleet)
        self._client = Client(endpoint, self._name, find_state(endpoint, fleet=self._fleet))
        await self._client.open()
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                if kind is None:
                    await client.flush()
            finally:
                client.close()
