"""asyncio.run(main()) with start in it, and a hook of the author's own."""
import asyncio
import os

import disnake
from disnake.ext import commands


class Bot(commands.AutoShardedInteractionBot):
    async def before_identify_hook(self, shard_id, *, initial=False):
        print("author's hook", shard_id, flush=True)
        await super().before_identify_hook(shard_id, initial=initial)

    async def close(self):
        await super().close()
        await asyncio.sleep(0.1)
        print("author's close", flush=True)


async def main():
    bot = Bot(intents=disnake.Intents.default(), shard_ids=[5], shard_count=9)

    @bot.slash_command()
    async def ping(inter):
        await inter.response.send_message("pong")

    @bot.listen()
    async def on_ready():
        print("ready", bot.shard_ids, bot.shard_count, flush=True)

    try:
        await bot.login(os.environ["DISCORD_TOKEN"])
        await bot.connect()
    finally:
        print("author's finally", flush=True)


asyncio.run(main())
