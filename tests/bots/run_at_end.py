"""A bot as most are written: everything at the top level, bot.run at the end."""
import asyncio
import os

import disnake
from disnake.ext import commands

intents = disnake.Intents.default()
intents.message_content = True
bot = commands.AutoShardedBot(command_prefix="!", intents=intents, help_command=None)
hooked = []


@bot.before_slash_command_invoke
async def before(inter):
    pass


@bot.slash_command()
async def ping(inter):
    await inter.response.send_message("pong")


@bot.slash_command()
async def slow(inter):
    await inter.response.defer()
    print("slow handler begins", flush=True)
    await asyncio.sleep(2)
    await inter.edit_original_response("slow pong")
    print("slow handler ends", flush=True)


@bot.slash_command()
async def leave(inter):
    await inter.response.send_message("bye")
    await bot.close()


@bot.slash_command()
async def broken(inter):
    raise RuntimeError(f"the token is {bot.http.token}")


@bot.event
async def on_ready():
    import shard_node

    node = shard_node.node
    print("ready", bot.shard_ids, bot.shard_count, len(bot.guilds), node.name, node.epoch)


@bot.event
async def on_shard_resumed(shard_id):
    print("resumed", shard_id, flush=True)


bot.run(os.environ.get("MY_TOKEN", "the-author-s-own-token-1234567890"))
print("after run: the farewell", flush=True)
