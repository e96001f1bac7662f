"""disnake's websocket and shard, held: when they IDENTIFY, RESUME and close."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from disnake.errors import ConnectionClosed
from disnake.gateway import DiscordWebSocket, ReconnectWebSocket
from disnake.shard import EventItem, EventType, Shard

from shard_node.bridge import alive
from shard_node.bridge.permits import Permit
from shard_node.bridge.tap import Tap
from shard_node.reconnect import FATAL

if TYPE_CHECKING:
    from shard_node.bridge.connecting import Last
    from shard_node.bridge.hold import Hold

CLOSE_TIMEOUT_S: Final = 1.5
"""How long a peer may take to answer a close frame; disnake's own limit is 30 s."""
RESUMABLE_CODE: Final = 4000
ENDING_CODE: Final = 1000
HOLD_KEY: Final = "_shardctl_hold"


def hold_of(client: Any) -> Hold | None:
    """The hold on ``client``; None for a client that is not this node's bot."""
    found: Hold | None = client.__dict__.get(HOLD_KEY)
    return found


class Attempt:
    """One try to connect: its permit, and the socket once it is made."""

    def __init__(self, permit: Permit | None, *, held_back: bool = False) -> None:
        self.permit = permit
        self.held_back = held_back
        """It waits behind its HELLO until it is told to go on."""
        self.ws: NodeWebSocket | None = None

    async def abandon(self) -> None:
        """Close what was opened; stock disnake would leave it to the collector."""
        if self.ws is not None:
            await self.ws.abandon()


attempt_now: ContextVar[Attempt | None] = ContextVar("shardctl_attempt", default=None)
"""The attempt that the socket under construction belongs to."""


class NodeWebSocket(DiscordWebSocket):
    """Reports when its IDENTIFY really left, and keeps its session on a close."""

    def __init__(self, socket: Any, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(socket, loop=loop)
        self.discard_session = False
        self.raw = ""
        """The text of the frame that came last, until it is parsed."""
        self.heard: dict[str, int] = {}
        """Events by type, since somebody looked last."""
        self.beat_at = time.perf_counter()
        self._attempt = attempt_now.get()
        if self._attempt is not None:
            self._attempt.ws = self

    @property  # type: ignore[override]
    def _discord_parsers(self) -> Mapping[str, Any] | Tap:
        return self._parsers

    @_discord_parsers.setter
    def _discord_parsers(self, parsers: Mapping[str, Any]) -> None:
        """disnake sets them when it makes the connection."""
        hold = hold_of(self._connection._get_client())
        self._parsers: Mapping[str, Any] | Tap = parsers
        if hold is not None and hold.keeping is not None:
            self._parsers = Tap(hold.keeping, hold.passing, self, parsers)

    def log_receive(self, data: str, /) -> None:
        """What came, before disnake reads it."""
        self.raw = data

    def debug_log_receive(self, data: str, /) -> None:
        """The same, where the bot has debug events."""
        self.raw = data
        super().debug_log_receive(data)

    async def send_as_json(self, data: Any) -> None:
        """Send; of an IDENTIFY, tell the permit."""
        if data.get("op") == self.HEARTBEAT:
            self.beat_at = time.perf_counter()
            data = {**data, "d": self._acknowledged()}
        permit = self._attempt.permit if self._attempt is not None else None
        if permit is None or data.get("op") != self.IDENTIFY:
            await super().send_as_json(data)
            return
        permit.leaving()
        await super().send_as_json(data)
        permit.sent()

    async def resume(self) -> None:
        """Send a RESUME, where this is not to wait."""
        if self._attempt is None or not self._attempt.held_back:
            await super().resume()

    def continues(self, last: Last) -> None:
        """It is to RESUME from where ``last`` was."""
        self.session_id, self.sequence = last.session_id, last.sequence
        self.resume_gateway = last.resume_gateway

    async def go_on(self) -> None:
        """RESUME now."""
        await super().resume()

    async def send_heartbeat(self, data: Any) -> None:
        """Send a beat of the keep-alive thread, if the last one was acknowledged."""
        if not await alive.answers(self):
            await alive.give_up(hold_of(self._connection._get_client()), self)
            return
        self.beat_at = time.perf_counter()
        data["d"] = self._acknowledged()
        await super().send_heartbeat(data)

    def _acknowledged(self) -> int | None:
        connection = self.__dict__.get("_connection")  # none before disnake has made it
        hold = None if connection is None else hold_of(connection._get_client())
        return self.sequence if hold is None else alive.acknowledges(hold, self)

    async def close(self, code: int = RESUMABLE_CODE) -> None:
        """Close within CLOSE_TIMEOUT_S. 1000 would end the session, so it becomes 4000.

        Discord's documentation, Gateway, "Initiating a disconnect".
        """
        if code == ENDING_CODE and self.session_id is not None and not self.discard_session:
            code = RESUMABLE_CODE
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(super().close(code), CLOSE_TIMEOUT_S)

    async def abandon(self) -> None:
        """Close what is left of a lost connection; faults of it matter to nobody."""
        with contextlib.suppress(Exception):
            await self.close(ENDING_CODE if self.discard_session else RESUMABLE_CODE)

    @property
    def code(self) -> int:
        """The close code that ended the connection; 0 where none was seen."""
        return int(self._close_code or self.socket.close_code or 0)

    def forget_session(self) -> None:
        """The next connection IDENTIFYs."""
        self.session_id = self.sequence = self.resume_gateway = None


class NodeShard(Shard):
    """Recovers in a task of its own, so that one shard that waits holds up no other."""

    ws: NodeWebSocket

    async def reidentify(self, exc: ReconnectWebSocket) -> None:
        """The client's event loop says: connect again."""
        hold = hold_of(self._client)
        if hold is None:
            await super().reidentify(exc)
        else:
            hold.recover(self, resume=exc.resume)

    async def reconnect(self) -> None:
        """The author says: connect again. Returns when the shard is connected."""
        hold = hold_of(self._client)
        if hold is None:
            await super().reconnect()
            return
        task = hold.recover(self, resume=True)
        if task is not None:
            await asyncio.wait({task})

    async def disconnect(self) -> None:
        """The author, or the node's stop, says: close."""
        hold = hold_of(self._client)
        await super().disconnect()
        if hold is not None:
            hold.shard_closed(self)

    async def _handle_disconnect(self, e: Exception) -> None:
        hold = hold_of(self._client)
        if hold is None or not self._reconnect:
            await super()._handle_disconnect(e)
            return
        if hold.stopping or self._client.is_closed():
            return
        if isinstance(e, ConnectionClosed) and e.code in FATAL:
            hold.fatal(self.id, e.code)
            await super()._handle_disconnect(e)
            return
        again = ReconnectWebSocket(self.id, resume=True)
        self._queue_put(EventItem(EventType.resume, self, again))
