"""A loop that must tick on one node only, decorated either way."""
import os

import disnake
from disnake.ext import commands, tasks

import shard_node

bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())


@tasks.loop(seconds=0.1)
@shard_node.once_per_fleet
async def inner():
    print("inner tick", flush=True)


@shard_node.once_per_fleet(name="outer")
@tasks.loop(seconds=0.1)
async def outer():
    print("outer tick", flush=True)


@bot.event
async def on_ready():
    print("ready [reminder]", flush=True)
    inner.start()
    outer.start()


shard_node.run(bot)
