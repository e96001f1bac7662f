"""Writes down at once what it is told: a line for each event, in record.txt beside it."""

from __future__ import annotations

import os
from pathlib import Path

import disnake
from disnake.ext import commands

RECORD = os.open(
    Path(__file__).with_name("record.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
)

bot = commands.AutoShardedInteractionBot(
    intents=disnake.Intents(guilds=True, guild_messages=True), max_messages=None
)


def note(*words: object) -> None:
    os.write(RECORD, (" ".join(map(str, (os.getpid(), *words))) + "\n").encode())


@bot.event
async def on_message(message: disnake.Message) -> None:
    assert message.guild is not None
    own = message.author.id == bot.user.id
    note("own" if own else "message", message.guild.id, message.id)


@bot.event
async def on_guild_role_create(role: disnake.Role) -> None:
    note("role", role.guild.id, role.id)


@bot.event
async def on_guild_role_update(_before: disnake.Role, after: disnake.Role) -> None:
    note("role", after.guild.id, after.id, after.name)


@bot.event
async def on_ready() -> None:
    note("ready")


@bot.event
async def on_fleet_ready() -> None:
    note("fleet_ready")


@bot.event
async def on_guild_join(guild: disnake.Guild) -> None:
    note("join", guild.id)


@bot.event
async def on_guild_remove(guild: disnake.Guild) -> None:
    note("remove", guild.id)


@bot.slash_command(description="says hello")
async def hello(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message("hello")


bot.run(os.environ["DISCORD_TOKEN"])
