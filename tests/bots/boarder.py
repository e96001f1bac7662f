"""Writes down what it handles, and does what a message says: hang, speak, members."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import disnake
from disnake.ext import commands

RECORD = os.open(
    Path(__file__).with_name("record.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
)

bot = commands.AutoShardedInteractionBot(
    intents=disnake.Intents(
        guilds=True, guild_messages=True, message_content=True, voice_states=True, members=True
    ),
    max_messages=None,
    chunk_guilds_at_startup=False,
)


def note(*words: object) -> None:
    os.write(RECORD, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())


@bot.event
async def on_message(message: disnake.Message) -> None:
    assert message.guild is not None
    note("message", message.guild.id, message.id)
    if message.content == "hang":
        await asyncio.Event().wait()
    elif message.content == "speak":
        await message.guild.change_voice_state(channel=message.guild.voice_channels[0])
    elif message.content == "members":
        found = await message.guild.query_members("", limit=3)
        note("members", message.guild.id, len(found))


@bot.event
async def on_guild_role_update(_before: disnake.Role, after: disnake.Role) -> None:
    note("role", after.guild.id, after.name)


@bot.event
async def on_guild_join(guild: disnake.Guild) -> None:
    note("join", guild.id)


@bot.event
async def on_guild_remove(guild: disnake.Guild) -> None:
    note("remove", guild.id)


@bot.slash_command(description="the roles that the guild has here")
async def roles(inter: disnake.ApplicationCommandInteraction) -> None:
    assert inter.guild is not None
    await inter.response.send_message(f"{len(inter.guild.roles)} roles, shard {inter.guild.shard_id}")


bot.run(os.environ["DISCORD_TOKEN"])
