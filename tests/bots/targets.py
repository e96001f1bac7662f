"""A bot as an object, and functions that make one."""
import asyncio

import disnake
from disnake.ext import commands

bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())
not_a_bot = {"a": 1}


@bot.event
async def on_ready():
    print("ready [object]", bot.shard_ids, flush=True)


def make():
    made = commands.AutoShardedInteractionBot(intents=disnake.Intents.default())

    @made.listen()
    async def on_ready():
        print("ready [made]", made.shard_ids, flush=True)

    return made


async def make_async():
    await asyncio.sleep(0)
    return make()
