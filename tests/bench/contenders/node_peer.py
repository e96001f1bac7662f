"""Ours again, with bots' nodes in place of programs that connect: what a fleet's nodes do.

The nodes run without a bot; the rig plays their supervisor.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from broker.ports.state import FOLDER
from shard_node.runtime import Node
from shard_node.settings import NodeSettings
from shardctl.bench.worker import END_MAX_S
from tests.bench.contenders import ours_peer

MEMBERS = 8
REGISTERED_POLL_S = 0.01


class Server(ours_peer.Server):
    """A broker that has asked for eight nodes and been told that they run."""

    def __init__(self) -> None:
        super().__init__(nodes=MEMBERS, shards=MEMBERS)

    def start(self) -> str:
        endpoint = super().start()
        lines = [self.rig.hear("spawn") for _ in range(MEMBERS)]
        for line in lines:
            told = {key: line[key] for key in ("name", "epoch")}
            self.rig.say({"ev": "spawned", **told, "pid": os.getpid()})
        state = str(self.rig.data / FOLDER)
        return json.dumps({"endpoint": endpoint, "lines": lines, "state": state})


class Peer(ours_peer.Peer):
    """The node that the broker asked for in place ``n<place>``."""

    async def open(self, address: str, name: str) -> None:
        self._told: dict[str, Any] = json.loads(address)
        node = Node(settings_of(self._told["endpoint"], self._line(name), self._told["state"]))
        node.start()
        node.attach(asyncio.get_running_loop())
        async with asyncio.timeout(END_MAX_S):
            while not node.broker_up:
                await asyncio.sleep(REGISTERED_POLL_S)
        self._node = self.node = node
        self._name = self._address(name)
        self._topic = name

    def _line(self, name: str) -> dict[str, Any]:
        line: dict[str, Any] = self._told["lines"][int(name.removeprefix("n"))]
        return line

    def _address(self, name: str) -> str:
        return str(self._line(name)["name"]).removeprefix("node:")

    async def close(self) -> None:
        self._node.end()


def settings_of(endpoint: str, line: dict[str, Any], state: str = "") -> NodeSettings:
    """Of a node as the broker's word to its supervisor, ``spawn``, describes it."""
    return NodeSettings(
        fleet="test-fleet",
        endpoint=endpoint,
        name=line["name"].removeprefix("node:"),
        index=line["index"],
        epoch=line["epoch"],
        shards=tuple(line["shards"]),
        num_shards=line["num_shards"],
        folder=Path(),
        target="none:none",
        factory=False,
        api_base="",
        sandbox=False,
        witness_url="",
        drain_s=1.0,
        lifeline_fd=None,
        state_dir=Path(state) if state else None,
    )
