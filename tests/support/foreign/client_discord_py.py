"""A plain discord.py bot that reports what it sees: a JSON line an event on stdout."""

import asyncio
import functools
import json
import os
import sys

import discord
import discord.gateway
import discord.http
import yarl


def emit(event: str, **fields: object) -> None:
    print(json.dumps({"ev": event, **fields}), flush=True)


class Client(discord.AutoShardedClient):
    async def on_shard_ready(self, shard_id: int) -> None:
        emit("shard_ready", shard=shard_id)

    async def on_ready(self) -> None:
        emit("ready", guilds=[g.id for g in self.guilds], user=self.user.id)

    async def on_shard_resumed(self, shard_id: int) -> None:
        emit("resumed", shard=shard_id)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        emit("guild_join", guild=guild.id)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        emit("guild_remove", guild=guild.id)

    async def on_voice_state_update(
        self, member: discord.Member, before: object, after: discord.VoiceState
    ) -> None:
        emit("voice", user=member.id, channel=after.channel and after.channel.id)

    async def on_message(self, message: discord.Message) -> None:
        guild = message.guild
        emit("message", content=message.content, guild=guild and guild.id)
        if message.content == "!members" and guild:
            found = await guild.query_members("user", limit=5, cache=False)
            emit("members", count=len(found))
        elif message.content == "!presence":
            await self.change_presence(status=discord.Status.dnd)
        elif message.content == "!voice" and guild:
            await guild.change_voice_state(channel=guild.voice_channels[0])


async def main(rest_url: str, compress: bool) -> None:
    discord.http.Route.BASE = rest_url
    socket = discord.gateway.DiscordWebSocket
    socket.DEFAULT_GATEWAY = yarl.URL(sys.argv[3])
    if not compress:
        socket.from_client = functools.partial(socket.from_client, compress=False)
    client = Client(intents=discord.Intents.all())
    running = asyncio.create_task(client.start(os.environ["DISCORD_TOKEN"]))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2] == "zlib"))
