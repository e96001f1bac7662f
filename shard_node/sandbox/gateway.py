"""The gateway's websocket shell: connections, their writers, and the watch over heartbeats."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from aiohttp import ClientConnectionResetError, WSMsgType, web

from shard_node.sandbox import compression
from shard_node.sandbox.codes import REASONS, Close
from shard_node.sandbox.compression import Pack
from shard_node.sandbox.config import API_VERSION
from shard_node.sandbox.protocol import GatewayConnection
from shard_node.sandbox.state import RESUME_PATH, SandboxState

GOING_AWAY: Final = 1001
CLOSE_WAIT_S: Final = 2.0
"""How long a close waits for the client's half before the connection is dropped."""

MESSAGE_BYTES_MAX: Final = 1 << 20

WELCOME: Final = (
    "shardctl sandbox: a stand-in for Discord's gateway (websocket, API v10) and REST.\n"
    "GET /sandbox/info tells rest_url, gateway_url and the token.\n"
)


class WebSocketLink:
    """The sending half of a websocket: a bounded queue that one task empties."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        *,
        pack: Pack | None,
        outbox_bytes_max: int,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._pack = pack
        self._outbox: deque[str] = deque()
        self._outbox_bytes = 0
        self._outbox_bytes_max = outbox_bytes_max
        self._delayed: deque[tuple[float, str]] = deque()
        self._changed = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._aborted = False
        self._loop = asyncio.get_running_loop()
        self.pump: Callable[[], bool] = lambda: False

    @property
    def closed_by_server(self) -> bool:
        """Whether this side began the close."""
        return self._closing is not None

    def send(self, text: str, delay_s: float | None = None) -> None:
        """Queue a payload; see `Link`. A client that reads too slowly is dropped."""
        if self._closing is not None:
            return
        if self._outbox_bytes + len(text) > self._outbox_bytes_max:
            self.abort()
            return
        self._outbox_bytes += len(text)
        if delay_s is None or (delay_s == 0.0 and not self._delayed):
            self._outbox.append(text)
            self._changed.set()
        else:
            self._delay(text, delay_s)

    def _delay(self, text: str, delay_s: float) -> None:
        due = self._loop.time() + delay_s
        if self._delayed:
            due = max(due, self._delayed[-1][0])
        self._delayed.append((due, text))
        if len(self._delayed) == 1:
            self._loop.call_at(due, self._release)

    def _release(self) -> None:
        now = self._loop.time()
        while self._delayed and self._delayed[0][0] <= now:
            self._outbox.append(self._delayed.popleft()[1])
        self._changed.set()
        if self._delayed:
            self._loop.call_at(self._delayed[0][0], self._release)

    def close(self, code: int, reason: str = "") -> None:
        """Close once the queue is out; drop the connection if that takes too long."""
        if self._closing is None:
            self._closing = (code, reason)
            self._changed.set()
            self._loop.call_later(CLOSE_WAIT_S, self._transport.abort)

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._closing = self._closing or (Close.UNKNOWN_ERROR, "")
        self._aborted = True
        self._outbox.clear()
        self._changed.set()
        self._transport.abort()

    def wake(self) -> None:
        """There is more to pump."""
        self._changed.set()

    async def run(self) -> None:
        """Send what is queued until the connection is to be closed, or breaks."""
        with suppress(ConnectionError, ClientConnectionResetError):
            while await self._send_queued():
                if self.pump():
                    await asyncio.sleep(0)  # other connections' turn between two guilds
                    continue
                if not self._outbox and self._closing is None:
                    await self._changed.wait()
                self._changed.clear()

    async def _send_queued(self) -> bool:
        """Empty the queue; False once the connection is to be closed."""
        while self._outbox:
            text = self._outbox.popleft()
            self._outbox_bytes -= len(text)
            await self._write(text)
        return self._closing is None

    async def finish(self) -> None:
        """Do the close that was asked for, and wait for the client's half of it."""
        if self._closing is not None and not self._aborted:
            code, reason = self._closing
            await self._ws.close(code=code, message=reason.encode())

    async def _write(self, text: str) -> None:
        if self._pack is None:
            await self._ws.send_str(text)
        else:
            await self._ws.send_bytes(self._pack(text))


class Gateway:
    """All connections of one sandbox."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._connections: dict[GatewayConnection, WebSocketLink] = {}
        self._changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """``GET /`` or the resume URL: a websocket, or a word to a browser."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(text=WELCOME)
        if self._state.resume_is_dead and request.path.startswith(RESUME_PATH):
            return self._refuse(request)
        ws = web.WebSocketResponse(
            compress=False, max_msg_size=MESSAGE_BYTES_MAX, timeout=CLOSE_WAIT_S
        )
        await ws.prepare(request)
        refusal = _refusal(request)
        if refusal is not None:
            await ws.close(code=Close.INVALID_API_VERSION, message=refusal.encode())
            return ws
        await self._serve(ws, request)
        return ws

    def _refuse(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _serve(self, ws: web.WebSocketResponse, request: web.Request) -> None:
        state, transport = self._state, request.transport
        if transport is None:
            return
        kind, pack = compression.new(request.query.get("compress", ""))
        state.audit.counters[f"connections_{kind}"] += 1
        link = WebSocketLink(
            ws,
            transport,
            pack=pack,
            outbox_bytes_max=state.config.outbox_bytes_max,
        )
        connection = self._connect(link)
        halves = [asyncio.create_task(self._read(ws, connection)), asyncio.create_task(link.run())]
        try:
            await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(halves)
            del self._connections[connection]
            connection.ended(None if link.closed_by_server else ws.close_code, state.now())
            self._changed.set()
        await link.finish()

    def _connect(self, link: WebSocketLink) -> GatewayConnection:
        state = self._state
        connection = GatewayConnection(
            config=state.config,
            world=state.world,
            hub=state.hub,
            gate=state.gate,
            counters=state.audit.counters,
            link=link,
            now=state.now(),
        )
        link.pump = connection.pump
        self._connections[connection] = link
        self._changed.set()
        connection.hello()
        return connection

    async def _read(self, ws: web.WebSocketResponse, connection: GatewayConnection) -> None:
        async for message in ws:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                connection.receive(message.data, self._state.now())

    # -- Time

    async def watch(self, _app: web.Application) -> AsyncIterator[None]:
        """Cleanup context: overdue heartbeats and expired sessions, as long as the server runs."""
        task = asyncio.create_task(self._watch())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _watch(self) -> None:
        state = self._state
        while True:
            now = state.now()
            for connection in list(self._connections):
                connection.overdue(now)
            state.hub.expire(now)
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._until_next(now)):
                    await self._changed.wait()

    def _until_next(self, now: float) -> float | None:
        deadlines = [d for d in (c.deadline() for c in self._connections) if d is not None]
        deadlines += self._state.hub.expiries()
        return max(0.0, min(deadlines) - now) if deadlines else None

    async def close_all(self, _app: web.Application) -> None:
        """On shutdown: say 1001 to every client."""
        for link in list(self._connections.values()):
            link.close(GOING_AWAY, "The sandbox stops.")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel what still runs, wait for it, and let a bug of ours show."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


def _refusal(request: web.Request) -> str | None:
    """Why a client cannot be served: it must ask for v10, and for JSON. None: it can.

    Discord speaks ETF too; to a client that insists on it 4012 says not to try again.
    """
    if request.query.get("v", "") != str(API_VERSION):
        return REASONS[Close.INVALID_API_VERSION]
    encoding = request.query.get("encoding", "json")
    return None if encoding == "json" else f"The sandbox speaks encoding=json, not {encoding[:20]}."


def routes(state: SandboxState) -> tuple[Gateway, list[web.RouteDef]]:
    """The gateway and the paths it answers."""
    gateway = Gateway(state)
    paths = ("/", "/gateway", RESUME_PATH, f"{RESUME_PATH}/")
    return gateway, [web.get(path, gateway.handle) for path in paths]
