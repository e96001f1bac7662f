"""Writes down every message that it handles, and never answers some requests."""

import asyncio
import os

import shard_node
from shard_node.examples.bot import bot

NODE = os.environ["SHARDCTL_NODE"]
begun = 0
heard = open(f"heard-{NODE}-{os.getpid()}", "a")
node = shard_node.node


@node.on("chaos.message")
async def message(message):
    heard.write(f"{message.body['stream']} {message.body['n']}\n")
    heard.flush()


@node.serve("chaos.hang")
async def hang(message):
    global begun
    begun += 1
    await asyncio.Event().wait()


@node.serve("chaos.begun")
async def how_many(message):
    return begun


bot.run(os.environ["DISCORD_TOKEN"])
