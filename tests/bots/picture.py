"""Writes what it keeps of its guilds into picture-PID when it is ready, and how long that took."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import disnake
from disnake.ext import commands

from tests.support.caches import pictures

BEGAN = time.monotonic()
"""The process is up: the interpreter runs and its modules are there."""
bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.all(), max_messages=None)


@bot.event
async def on_message(message: disnake.Message) -> None:
    with Path(__file__).with_name("messages").open("a") as file:
        file.write(f"{message.id}\n")


@bot.event
async def on_ready() -> None:
    took_s = time.monotonic() - BEGAN
    path = Path(__file__).with_name(f"picture-{os.getpid()}")
    path.with_suffix(".new").write_bytes(pickle.dumps((took_s, pictures(bot))))
    path.with_suffix(".new").rename(path)


bot.run(os.environ["DISCORD_TOKEN"])
