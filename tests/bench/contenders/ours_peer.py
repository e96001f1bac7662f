"""Ours: a real broker daemon, and nodes through the public API."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shard_node
from tests.bench.contenders.base import BODY, Inbox, ReadsInBackground
from tests.support.broker_rig import Rig

REQUEST_S = 10.0


class Server:
    """The broker daemon, with nobody but a supervisor that says nothing."""

    def __init__(self, **record: Any) -> None:
        self._record = record

    def start(self) -> str:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.rig = Rig(self._folder, **{"shards": 1, "nodes": 1, **self._record})
        self.rig.launch()
        self.rig.hear("serving")
        assert self.rig.process is not None
        self.pid = self.rig.process.pid
        return self.rig.endpoint

    def stop(self) -> None:
        self.rig.__exit__(None, None, None)
        shutil.rmtree(self._folder)


class Peer(ReadsInBackground):
    """A program outside a bot, as `shard_node.connect` makes it."""

    async def open(self, address: str, name: str) -> None:
        self._connection = shard_node.connect(address, name)
        self._node = await self._connection.__aenter__()
        self._name = self._topic = name

    def _address(self, name: str) -> str:
        """What the node is called that the harness calls ``name``."""
        return name

    async def subscribe(self, inbox: Inbox) -> None:
        async def handler(message: Any) -> None:
            inbox.take(message.body)

        self._node.on(self._topic, handler)
        await self._known()

    async def _known(self) -> None:
        """The broker takes frames of one lane in order: an answer means it knows the topics."""
        self._node.serve(f"{self._name}.known", _answer)
        await self._node.request(
            shard_node.Node(self._name), f"{self._name}.known", None, timeout_s=REQUEST_S
        )

    async def publish(self, targets: Sequence[str], count: int) -> None:
        publish, many = self._node.publish, len(targets)
        for place in range(count):
            await publish(targets[place % many], BODY)

    async def serve(self) -> None:
        self._node.serve("bench.ask", _answer)
        await self._known()

    async def request(self, target: str) -> None:
        await self._node.request(
            shard_node.Node(self._address(target)), "bench.ask", BODY, timeout_s=REQUEST_S
        )

    async def close(self) -> None:
        await self._connection.__aexit__(None, None, None)


async def _answer(message: Any) -> Any:
    assert message.body is None or message.body["amount"]
    return BODY
