"""The same bot for plain disnake and for a node: one message handler, one command."""
import os

import disnake
from disnake.ext import commands

if "BENCH_API_BASE" in os.environ:
    disnake.http.Route.BASE = os.environ["BENCH_API_BASE"]

intents = disnake.Intents.all()
bot = commands.AutoShardedBot(
    command_prefix="!", intents=intents, help_command=None, shard_ids=[0], shard_count=1
)
heard = 0


@bot.slash_command()
async def ping(inter):
    await inter.response.send_message("pong")


@bot.listen("on_message")
async def hear(message):
    global heard
    heard += 1
    if heard % 100 == 0:
        print("a hundred messages", flush=True)


@bot.event
async def on_ready():
    print("ready [bench]", flush=True)


bot.run(os.environ["DISCORD_TOKEN"])
