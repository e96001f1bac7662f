"""An ordinary disnake bot; `shardctl start --sandbox` runs it when no bot is named.

Nothing in it knows of a fleet but `once_per_fleet`, which keeps the reminder loop from
firing once a process. It runs alone as well: `python -m shard_node.examples.bot`.
"""

from __future__ import annotations

import os

import disnake
from disnake.ext import commands, tasks

import shard_node

intents = disnake.Intents.default()
intents.message_content = True
intents.members = True

bot = commands.AutoShardedBot(command_prefix="!", intents=intents, help_command=None)


@bot.slash_command(description="Answer at once, with the shard that did.")
async def ping(inter: disnake.ApplicationCommandInteraction) -> None:
    shard = inter.guild.shard_id if inter.guild else 0
    await inter.response.send_message(
        f"pong from shard {shard} on node {os.environ.get('SHARDCTL_NODE', 'alone')}"
    )


@bot.slash_command(description="Add two numbers.")
async def add(
    inter: disnake.ApplicationCommandInteraction,
    left: int = commands.Param(description="the first number"),
    right: int = commands.Param(description="the second number"),
) -> None:
    await inter.response.send_message(str(left + right))


@bot.slash_command(description="Acknowledge first, answer a moment later.")
async def census(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.defer()
    guilds = inter.bot.guilds
    members = sum(guild.member_count or 0 for guild in guilds)
    await inter.edit_original_response(f"{len(guilds)} guilds and {members} members here")


@bot.slash_command(description="Show a button; press it.")
async def button(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message(
        "Press it.",
        components=disnake.ui.Button(label="Press", custom_id="example:press"),
    )


@bot.listen("on_button_click")
async def pressed(inter: disnake.MessageInteraction) -> None:
    if inter.component.custom_id == "example:press":
        await inter.response.send_message("Pressed.", ephemeral=True)


@bot.command(name="ping")
async def prefix_ping(ctx: commands.Context[commands.AutoShardedBot]) -> None:
    await ctx.reply("pong")


@bot.command(name="roles")
async def roles(ctx: commands.Context[commands.AutoShardedBot]) -> None:
    if ctx.guild is None:
        await ctx.reply("no roles in a direct message")
        return
    await ctx.reply(", ".join(role.name for role in ctx.guild.roles))


@tasks.loop(minutes=1)
@shard_node.once_per_fleet
async def heartbeat() -> None:
    await bot.wait_until_ready()
    print(f"once a fleet, each minute: {len(bot.guilds)} guilds on this node", flush=True)


@bot.event
async def on_ready() -> None:
    if not heartbeat.is_running():
        heartbeat.start()


if __name__ == "__main__":
    bot.run(os.environ["DISCORD_TOKEN"])
