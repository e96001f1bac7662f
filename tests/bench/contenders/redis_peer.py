"""redis-server's pub/sub and redis-py with hiredis, over a Unix socket, publishing in pipelines."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio

from tests.bench.contenders.base import BODY, Inbox, ReadsInBackground, decode, encode
from tests.support.waiting import wait_for

PIPELINE_MESSAGES = 100


class Server:
    """Keeps nothing on disk, and does not hang up on a slow subscriber."""

    def start(self) -> str:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "redis.sock"
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: make bench says how to install it"
        settings = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        limit = ["--client-output-buffer-limit", "pubsub 0 0 0", "--dir", self._folder.name]
        self._process = subprocess.Popen([binary, *settings, *limit], stdout=subprocess.DEVNULL)
        self.pid = self._process.pid
        wait_for("redis-server", path.exists)
        return str(path)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


class Peer(ReadsInBackground):
    """One connection for what it sends and one for what it hears, as redis-py wants it."""

    async def open(self, address: str, name: str) -> None:
        self._sends = redis.asyncio.Redis(unix_socket_path=address)
        self._hears = redis.asyncio.Redis(unix_socket_path=address)
        await self._sends.ping()
        self._name = name
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: AsyncIterator[Any] | None = None

    async def _listen(self, channel: str) -> AsyncIterator[Any]:
        pubsub = self._hears.pubsub()
        await pubsub.subscribe(channel)
        messages: AsyncIterator[Any] = pubsub.listen()
        await anext(messages)
        return messages

    async def subscribe(self, inbox: Inbox) -> None:
        messages = await self._listen(self._name)

        async def read() -> None:
            async for message in messages:
                inbox.take(decode(message["data"]))

        self._tasks.append(asyncio.create_task(read()))

    async def publish(self, targets: Sequence[str], count: int) -> None:
        many = len(targets)
        for start in range(0, count, PIPELINE_MESSAGES):
            pipeline = self._sends.pipeline(transaction=False)
            for place in range(start, min(count, start + PIPELINE_MESSAGES)):
                pipeline.publish(targets[place % many], encode(BODY))
            await pipeline.execute()

    async def serve(self) -> None:
        messages = await self._listen(f"{self._name}.ask")

        async def answer() -> None:
            async for message in messages:
                decode(message["data"])
                await self._sends.publish(f"{self._name}.reply", encode(BODY))

        self._tasks.append(asyncio.create_task(answer()))

    async def request(self, target: str) -> None:
        """One at a time only: pub/sub has no correlation of its own."""
        if self._replies is None:
            self._replies = await self._listen(f"{target}.reply")
        await self._sends.publish(f"{target}.ask", encode(BODY))
        decode((await anext(self._replies))["data"])

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sends.aclose()
        await self._hears.aclose()
