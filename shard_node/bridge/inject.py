"""Events that another process has passed on, parsed as if they had come from the gateway."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from shard_node.wire.lingering import WAITERS, LingerEvent

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)


def inject(hold: Hold, told: LingerEvent) -> None:
    """Parse it: for everybody, or for those alone who wait. What a parser raises is told as
    disnake tells it; the event counts as handled. Raises ValueError for what is no event."""
    data = json.loads(told.raw)["d"]
    client, state = hold.client, hold.client._connection
    # Who watches the others' parsers has seen the event at the holder.
    parsers: Any = state.parsers if told.event == "INTERACTION_CREATE" else hold.stock
    parser = parsers.get(told.event)
    if parser is None:
        text = f"nobody parses {told.event}"
        raise ValueError(text)
    try:
        if told.mode == WAITERS:
            with hold.mute.waiters_only(client):
                hold.stock[told.event](data)
        else:
            parser(data)
    except Exception as error:
        report = client._dispatch_gateway_error(told.event, data, told.shard, error)
        asyncio.get_running_loop().create_task(report, name="shardctl: gateway error")


def remember(hold: Hold, message: Any) -> None:
    """A message that this process has sent while it lingers: nobody else tells it of that, and
    who waits for a reaction needs it in the cache."""
    channel = hold.client.get_channel(int(message["channel_id"]))
    guild = getattr(channel, "guild", None)
    if guild is not None:
        with hold.mute.silence():
            hold.stock["MESSAGE_CREATE"]({**message, "guild_id": str(guild.id)})
