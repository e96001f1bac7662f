"""What the processes of a configuration's change do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from shard_node.peer.connect import Client
from shard_node.shared.changes import GuildConfigChanged
from shardctl.bench.measure import now_ns
from shardctl.bench.worker import Link
from tests.bench.contenders import node_peer

GUILD = 81384788765712384
CHANGE_GAP_S = 0.02
HEARD_MAX_S = 20.0


async def holder(link: Link, address: str, name: str, count: int) -> dict[str, Any]:
    """A bot's node. Says when it was told of each of ``count`` changes and read it."""
    peer = node_peer.Peer()
    await peer.open(address, name)
    config = peer.node.guild_config(GUILD, dict)
    heard_ns = [0] * count
    done = asyncio.Event()

    async def changed(change: GuildConfigChanged) -> None:
        number = change.changed["field_0"]
        if number < 0:
            link.say({})
            return
        assert config.get()["field_0"] >= number
        heard_ns[number] = now_ns()
        if all(heard_ns):
            done.set()

    config.watch(changed)
    link.say({})
    async with asyncio.timeout(HEARD_MAX_S + count * CHANGE_GAP_S):
        await done.wait()
    link.say({"heard_ns": heard_ns})
    await link.hear()
    await peer.close()
    return {}


async def changer(
    link: Link, endpoint: str, state: str, fields: dict[str, Any], count: int
) -> dict[str, Any]:
    """Sets all fields until all have heard of it; then changes one field ``count`` times. Says
    when it called for each change, and when it was told that it is durable."""
    client = Client(endpoint, "changer", Path(state))
    await client.open()
    config = client.guild_config(GUILD, dict)
    link.say({})
    await link.hear()
    await config.update(**fields | {"field_0": -1})
    link.say({})
    await link.hear()
    called_ns, durable_ns = [], []
    for number in range(count):
        called_ns.append(now_ns())
        await config.update(field_0=number)
        durable_ns.append(now_ns())
        await asyncio.sleep(CHANGE_GAP_S)
    client.close()
    return {"called_ns": called_ns, "durable_ns": durable_ns}
