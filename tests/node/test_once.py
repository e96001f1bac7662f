"""What a bot is told once: `ready` a process, `fleet_ready` a start of the fleet."""

from __future__ import annotations

import asyncio
from typing import Any

import disnake
from disnake.ext import commands

from shard_node.bridge.mute import FleetReadyOnce, Mute
from shard_node.wire.operations import FleetReady


def test_ready_comes_once_a_process_and_nothing_while_it_is_silent() -> None:
    heard: list[str] = []
    mute = Mute(lambda event, *_: heard.append(event))
    with mute.silence():
        mute("ready")
        mute("guild_join")
    for event in ("ready", "message", "ready", "message"):
        mute(event)
    assert heard == ["ready", "message", "message"]


def test_fleet_ready_comes_once_a_start_to_all_listeners() -> None:
    heard: list[str] = []

    async def play() -> None:
        bot: Any = commands.AutoShardedInteractionBot(intents=disnake.Intents.none())

        @bot.event
        async def on_fleet_ready() -> None:
            heard.append("event")

        @bot.listen("on_fleet_ready")
        async def listener() -> None:
            heard.append("listener")

        once = FleetReadyOnce(bot)
        for start in ("s1", "s1", "s2"):
            once.heard(FleetReady(start))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(play())
    assert sorted(heard) == ["event", "event", "listener", "listener"]
