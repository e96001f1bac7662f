"""Hears messages and guild joins; one handler is slow, another fails."""
import asyncio
import os

import disnake
from disnake.ext import commands

intents = disnake.Intents.all()
bot = commands.AutoShardedBot(command_prefix="!", intents=intents, help_command=None)


@bot.listen("on_message")
async def slow(message):
    await asyncio.sleep(0.05)


@bot.listen("on_message")
async def failing(message):
    raise RuntimeError("a handler's own trouble")


@bot.event
async def on_guild_join(guild):
    print("joined", guild.id, flush=True)


@bot.event
async def on_ready():
    print("ready [listener]", flush=True)


bot.run(os.environ["DISCORD_TOKEN"])
