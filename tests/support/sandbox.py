"""The sandbox for tests: its core with a recording link, the real server here or as a process.

async with sandbox(guilds=8) as box:          # in this process, on a free port
    box.state.hub.dispatch(...)               # the core at hand
    async with box.gateway() as ws:           # a raw gateway client
        await ws.identify(shard=(0, 2))

with sandbox_process("--guilds", "8") as info:   # python -m shard_node.sandbox
    info["rest_url"], info["token"]
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from shard_node.sandbox import intents
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.protocol import GatewayConnection
from shard_node.sandbox.server import SandboxServer
from shard_node.sandbox.state import Clock, SandboxState, new_state

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 20.0
WALL_MS = 1_760_000_000_000

# -- The core


class RecordingLink:
    """A link that keeps what it is given."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.delays: list[float | None] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False

    def send(self, text: str, delay_s: float | None = None) -> None:
        self.texts.append(text)
        self.delays.append(delay_s)

    def close(self, code: int, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def wake(self) -> None:
        pass

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.texts]

    def take(self) -> list[dict[str, Any]]:
        """What came since the last call."""
        taken = self.payloads
        self.texts.clear()
        self.delays.clear()
        return taken

    def events(self) -> list[str]:
        """The names of the dispatches since the last call."""
        return [payload["t"] for payload in self.take() if payload["op"] == 0]


@dataclass
class CoreClient:
    """A client of the pure core: sends payloads, keeps what comes."""

    state: SandboxState
    connection: GatewayConnection
    link: RecordingLink
    now: float = 0.0

    def send(self, op: int, data: Any = None) -> list[dict[str, Any]]:
        self.connection.receive(json.dumps({"op": op, "d": data}), self.now)
        return self.link.take()

    def pump(self) -> list[dict[str, Any]]:
        while self.connection.pump():
            pass
        return self.link.take()

    def identify(self, shard: tuple[int, int] | None = (0, 1), **fields: Any) -> dict[str, Any]:
        """Identify, expect READY and let the startup guilds pass."""
        ready = self.send(2, identify_data(self.state, shard, **fields))[0]
        assert ready["t"] == "READY", ready
        self.pump()
        return ready["d"]

    @property
    def close_code(self) -> int | None:
        return self.link.closed[0] if self.link.closed else None


def core_state(**settings: Any) -> SandboxState:
    """A sandbox without a server, on a clock that stands still."""
    return new_state(SandboxConfig(**settings), Clock(lambda: 0.0, lambda: WALL_MS))


def core_client(state: SandboxState, now: float = 0.0) -> CoreClient:
    """A fresh connection to the core, HELLO received."""
    link = RecordingLink()
    connection = GatewayConnection(
        config=state.config,
        world=state.world,
        hub=state.hub,
        gate=state.gate,
        counters=state.audit.counters,
        link=link,
        now=now,
    )
    connection.hello()
    assert link.take()[0]["op"] == 10
    return CoreClient(state, connection, link, now)


def identify_data(
    state: SandboxState, shard: tuple[int, int] | None = (0, 1), **fields: Any
) -> dict[str, Any]:
    """The ``d`` of an IDENTIFY with every intent."""
    data: dict[str, Any] = {
        "token": state.world.token,
        "intents": intents.ALL,
        "properties": {"os": "linux", "browser": "test", "device": "test"},
        **fields,
    }
    if shard is not None:
        data["shard"] = list(shard)
    return data


# -- The server in this process


@dataclass
class GatewayClient:
    """A raw websocket client of the gateway, plain or zlib-stream."""

    ws: aiohttp.ClientWebSocketResponse
    state: SandboxState
    seq: int | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    inflator: Any = field(default_factory=zlib.decompressobj)

    async def receive(self) -> dict[str, Any]:
        """The next payload. AssertionError: the connection closed instead."""
        message = await asyncio.wait_for(self.ws.receive(), WAIT_S)
        if message.type is aiohttp.WSMsgType.BINARY:
            assert message.data.endswith(b"\x00\x00\xff\xff")
            payload = json.loads(self.inflator.decompress(message.data))
        else:
            assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
            payload = json.loads(message.data)
        if payload["s"] is not None:
            assert self.seq is None or payload["s"] > self.seq
            self.seq = payload["s"]
        return payload

    async def until(self, wanted: str | int) -> dict[str, Any]:
        """The next payload of an event's name or an opcode; others pass."""
        while True:
            payload = await self.receive()
            if payload["t" if isinstance(wanted, str) else "op"] == wanted:
                return payload

    async def send(self, op: int, data: Any = None) -> None:
        await self.ws.send_str(json.dumps({"op": op, "d": data}))

    async def identify(self, shard: tuple[int, int] = (0, 1), **fields: Any) -> dict[str, Any]:
        """IDENTIFY and take READY and the startup guilds."""
        await self.send(2, identify_data(self.state, shard, **fields))
        self.ready = (await self.until("READY"))["d"]
        for _ in self.ready["guilds"]:
            await self.until("GUILD_CREATE")
        return self.ready

    async def resume(self, session_id: str, seq: int | None) -> None:
        token = self.state.world.token
        await self.send(6, {"token": token, "session_id": session_id, "seq": seq})

    async def closed(self) -> int | None:
        """Read to the end; the close code."""
        while not self.ws.closed:
            await asyncio.wait_for(self.ws.receive(), WAIT_S)
        return self.ws.close_code


@dataclass
class Sandbox:
    """A sandbox that runs in this process."""

    server: SandboxServer
    http: aiohttp.ClientSession

    @property
    def state(self) -> SandboxState:
        return self.server.state

    @property
    def info(self) -> dict[str, Any]:
        return self.state.info()

    async def trouble(self, kind: str, **args: Any) -> dict[str, Any]:
        """Make trouble; the answer. AssertionError: refused."""
        url = f"{self.info['control_url']}/trouble"
        async with self.http.post(url, json={"kind": kind, **args}) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    @asynccontextmanager
    async def gateway(
        self, url: str | None = None, query: str = "?v=10&encoding=json"
    ) -> AsyncIterator[GatewayClient]:
        """A raw connection, HELLO received."""
        base = url or self.state.gateway_url
        async with self.http.ws_connect(base + query, max_msg_size=0) as ws:
            client = GatewayClient(ws, self.state)
            if not ws.closed:
                hello = await client.receive()
                assert hello["op"] == 10, hello
            yield client


@asynccontextmanager
async def sandbox(**settings: Any) -> AsyncIterator[Sandbox]:
    """The real server in this process on a free port; settings are `SandboxConfig`'s."""
    async with (
        SandboxServer(SandboxConfig(**settings)) as server,
        aiohttp.ClientSession() as http,
    ):
        yield Sandbox(server, http)


async def eventually(condition: Callable[[], bool], what: str = "condition") -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


# -- The server as a process


@contextmanager
def sandbox_process(*argv: str, env: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """``python -m shard_node.sandbox`` on a free port; yields its info file's content."""
    with tempfile.TemporaryDirectory() as folder:
        info_file = Path(folder) / "sandbox.json"
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "shard_node.sandbox", "--port", "0"),
                *("--info-file", str(info_file), *argv),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, **(env or {}), "PYTHONPATH": str(ROOT)},
            text=True,
        )
        try:
            yield _read_info(process, info_file)
        finally:
            process.terminate()
            process.communicate(timeout=WAIT_S)


def _read_info(process: subprocess.Popen[str], info_file: Path) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if info_file.exists():
            return json.loads(info_file.read_text())
        if process.poll() is not None:
            break
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"the sandbox did not come up: {process.communicate()[0]}")


def call(info: dict[str, Any], path: str, body: Any = None, method: str | None = None) -> Any:
    """A control request to a sandbox in another process: POST with a body, else GET."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(info["control_url"] + path, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{path}: {error.code} {error.read()!r}") from None


def application_of(token: str) -> int:
    """The application that a token's first segment names."""
    first = token.split(".")[0]
    return int(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
