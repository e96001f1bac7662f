"""An ordinary disnake bot; `shardctl start --sandbox` runs it when no bot is named.

What knows of a fleet in it is `once_per_fleet`, which keeps the reminder loop from firing once
a process, and the commands on shared state: /daily, /pay, /balance, /config, /networkban. It
runs alone as well, with that state in memory: `python -m shard_node.examples.bot`.
"""

from __future__ import annotations

import os

import disnake
import msgspec
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


# --- shared state: the same on every shard, whatever crashes

DAILY = 100


class GuildSettings(msgspec.Struct):
    prefix: str = "!"
    greeting: str = ""


def purse(user: disnake.User | disnake.Member) -> str:
    return f"user:{user.id}"


def coins(user: disnake.User | disnake.Member) -> int:
    try:
        return shard_node.node.economy.balance(purse(user))
    except shard_node.UnknownAccount:
        return 0


@bot.slash_command(description="Take your coins of the day.")
@shard_node.cooldown(1, 24 * 3600, commands.BucketType.user)
async def daily(inter: disnake.ApplicationCommandInteraction) -> None:
    await shard_node.node.economy.deposit(purse(inter.author), DAILY, source="daily")
    await inter.response.send_message(f"{DAILY} coins. You have {coins(inter.author)}.")


@bot.slash_command(description="Give somebody coins.")
async def pay(
    inter: disnake.ApplicationCommandInteraction,
    user: disnake.User,
    amount: int = commands.Param(description="how many"),
) -> None:
    # The same interaction pays once, however often it is tried.
    await shard_node.node.economy.transfer(
        purse(inter.author), purse(user), amount,
        idempotency_key=f"pay:{inter.id}", user=inter.author.id, reason="/pay",
    )  # fmt: skip
    await inter.response.send_message(f"Paid {amount}. You have {coins(inter.author)} left.")


@bot.slash_command(description="Show your coins.")
async def balance(inter: disnake.ApplicationCommandInteraction) -> None:
    await inter.response.send_message(f"You have {coins(inter.author)} coins.")


@bot.slash_command(description="Show the settings of this server, or change one.")
async def config(
    inter: disnake.ApplicationCommandInteraction,
    prefix: str = commands.Param(default="", description="the new prefix"),
) -> None:
    settings = shard_node.node.guild_config(inter.guild_id or 0, GuildSettings)
    if prefix:
        await settings.update(prefix=prefix)
    now = settings.get()
    await inter.response.send_message(f"prefix {now.prefix!r}, greeting {now.greeting!r}")


@bot.slash_command(description="Ban somebody in every server.")
@commands.default_member_permissions(ban_members=True)
async def networkban(
    inter: disnake.ApplicationCommandInteraction,
    user: disnake.User,
    reason: str = commands.Param(description="why"),
) -> None:
    tx = await shard_node.node.moderation.ban(user.id, "global", reason, by=inter.author.id)
    await inter.response.send_message(f"Banned everywhere, transaction {tx.id}.")


@bot.event
async def on_slash_command_error(
    inter: disnake.ApplicationCommandInteraction, error: commands.CommandError
) -> None:
    cause = getattr(error, "original", error)
    if isinstance(cause, commands.CommandOnCooldown):
        text = f"Again in {cause.retry_after:.0f} s."
    elif isinstance(cause, shard_node.ShardNodeError):
        text = f"That did not work: {cause}."
    else:
        raise error
    await inter.response.send_message(text, ephemeral=True)


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
    shard_node.run(bot)
