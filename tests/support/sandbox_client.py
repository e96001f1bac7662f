"""A sandbox in this process and a bare client of it: real HTTP, real websockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from shard_node.sandbox import intents
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.server import SandboxServer
from shard_node.sandbox.state import SandboxState

WAIT_S = 5.0


class Answer:
    """Status, headers and decoded body of one response."""

    def __init__(self, status: int, headers: Any, raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw
        is_json = headers.get("Content-Type") == "application/json"
        self.json: Any = json.loads(raw) if is_json else None

    @property
    def fault(self) -> tuple[int, int]:
        """HTTP status and Discord's code."""
        return self.status, self.json["code"]


class GatewayClient:
    """Identifies as one shard and keeps what it is sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def until(self, event: str, count: int = 1) -> dict[str, Any]:
        """Read on until ``count`` more dispatches of this name came; the last one's data."""
        data: dict[str, Any] = {}
        async with asyncio.timeout(WAIT_S):
            while count:
                payload = json.loads((await self._socket.receive()).data)
                if payload["op"] != 0:
                    continue
                self.events.append((payload["t"], payload["d"]))
                if payload["t"] == event:
                    count, data = count - 1, payload["d"]
        return data


class Box:
    """One running sandbox with a client."""

    def __init__(self, state: SandboxState, http: aiohttp.ClientSession) -> None:
        self.state = state
        self.http = http
        self.world = state.world
        self.guild = state.world.guild(state.world.guild_ids()[0]) if len(state.world) else None
        self.app = str(state.world.application_id)

    @property
    def channel(self) -> int:
        """A text channel of the first guild."""
        assert self.guild is not None
        return self.guild.text_channels()[0]

    @property
    def user(self) -> int:
        """A member of the first guild that is neither bot nor owner."""
        assert self.guild is not None
        ours = (self.world.application_id, self.guild.owner_id)
        return next(user for user in self.guild.members if user not in ours)

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any
    ) -> Answer:
        """One REST request with the bot's token (or another)."""
        headers = {"Authorization": f"Bot {token or self.world.token}"} | more.pop("headers", {})
        if body is not None:
            more["json"] = body
        url = self.state.rest_url + path
        async with self.http.request(method, url, headers=headers, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """One request of the control surface."""
        url = self.state.info()["control_url"] + path
        async with self.http.request(method, url, json=body) as response:
            return Answer(response.status, response.headers, await response.read())

    async def play(self, kind: str, **args: Any) -> Answer:
        """POST play in the first guild, unless ``guild`` says another."""
        assert self.guild is not None
        return await self.ask("POST", "/play", {"kind": kind, "guild": str(self.guild.id)} | args)

    async def audit(self, *, reset: bool = False) -> dict[str, int]:
        """The audit's report."""
        report: dict[str, int] = (await self.ask("GET", f"/audit?reset={int(reset)}")).json
        return report

    async def witness(self, *reports: dict[str, Any]) -> None:
        """POST reports."""
        await self.ask("POST", "/witness", list(reports))

    @asynccontextmanager
    async def gateway(self, bits: int = intents.ALL, shard: tuple[int, int] = (0, 1)) -> Any:
        """A connected client that has had READY and its guilds."""
        async with self.http.ws_connect(f"{self.state.gateway_url}/?v=10&encoding=json") as socket:
            await socket.receive()
            properties = {"os": "linux", "browser": "test", "device": "test"}
            identify = {
                "token": self.world.token,
                "intents": bits,
                "properties": properties,
                "shard": shard,
            }
            await socket.send_json({"op": 2, "d": identify})
            client = GatewayClient(socket)
            ready = await client.until("READY")
            if bits & intents.GUILDS and ready["guilds"]:
                await client.until("GUILD_CREATE", len(ready["guilds"]))
            client.events.clear()
            yield client


def in_sandbox(**settings: Any) -> Callable[[Callable[[Box], Awaitable[None]]], Callable[[], None]]:
    """Run an async test with a sandbox of these settings."""

    def decorate(test: Callable[[Box], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            asyncio.run(_run(test, settings))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


async def _run(test: Callable[[Box], Awaitable[None]], settings: dict[str, Any]) -> None:
    config = SandboxConfig(**{"guilds": 2, "shards": 1, "identify_window_s": 0.0} | settings)
    async with SandboxServer(config) as server, aiohttp.ClientSession() as http:
        await test(Box(server.state, http))
