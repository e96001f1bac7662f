"""A plain disnake bot that reports what it sees: a JSON line an event on stdout."""

import asyncio
import json
import os
import sys

import disnake
import disnake.http


def emit(event: str, **fields: object) -> None:
    print(json.dumps({"ev": event, **fields}), flush=True)


class Client(disnake.AutoShardedClient):
    async def on_shard_ready(self, shard_id: int) -> None:
        emit("shard_ready", shard=shard_id)

    async def on_ready(self) -> None:
        emit("ready", guilds=[g.id for g in self.guilds], user=self.user.id)

    async def on_shard_resumed(self, shard_id: int) -> None:
        emit("resumed", shard=shard_id)

    async def on_guild_join(self, guild: disnake.Guild) -> None:
        emit("guild_join", guild=guild.id)

    async def on_guild_remove(self, guild: disnake.Guild) -> None:
        emit("guild_remove", guild=guild.id)

    async def on_voice_state_update(
        self, member: disnake.Member, before: object, after: disnake.VoiceState
    ) -> None:
        emit("voice", user=member.id, channel=after.channel and after.channel.id)

    async def on_message(self, message: disnake.Message) -> None:
        guild = message.guild
        emit("message", content=message.content, guild=guild and guild.id)
        if message.content == "!members" and guild:
            found = await guild.query_members("user", limit=5, cache=False)
            emit("members", count=len(found))
        elif message.content == "!presence":
            await self.change_presence(status=disnake.Status.dnd)
        elif message.content == "!voice" and guild:
            await guild.change_voice_state(channel=guild.voice_channels[0])


async def main(rest_url: str, compress: bool) -> None:
    disnake.http.Route.BASE = rest_url
    client = Client(
        intents=disnake.Intents.all(), gateway_params=disnake.GatewayParams(zlib=compress)
    )
    running = asyncio.create_task(client.start(os.environ["DISCORD_TOKEN"]))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2] == "zlib"))
