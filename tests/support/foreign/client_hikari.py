"""A plain hikari bot that reports what it sees: a JSON line an event on stdout."""

import asyncio
import json
import logging
import os
import sys

import hikari
import hikari.impl.shard


def emit(event: str, **fields: object) -> None:
    print(json.dumps({"ev": event, **fields}), flush=True)


logging.basicConfig(level=logging.WARNING)  # to stderr: stdout carries the events


def build(rest_url: str) -> hikari.GatewayBot:
    bot = hikari.GatewayBot(
        os.environ["DISCORD_TOKEN"],
        intents=hikari.Intents.ALL,
        banner=None,
        rest_url=rest_url,
        logs=None,
    )

    @bot.listen()
    async def ready(event: hikari.ShardReadyEvent) -> None:
        emit("shard_ready", shard=event.shard.id)

    @bot.listen()
    async def resumed(event: hikari.ShardResumedEvent) -> None:
        emit("resumed", shard=event.shard.id)

    @bot.listen()
    async def joined(event: hikari.GuildJoinEvent) -> None:
        emit("guild_join", guild=event.guild_id)

    @bot.listen()
    async def left(event: hikari.GuildLeaveEvent) -> None:
        emit("guild_remove", guild=event.guild_id)

    @bot.listen()
    async def voice(event: hikari.VoiceStateUpdateEvent) -> None:
        emit("voice", user=event.state.user_id, channel=event.state.channel_id)

    @bot.listen()
    async def direct(event: hikari.DMMessageCreateEvent) -> None:
        emit("message", content=event.content, guild=None)

    @bot.listen()
    async def message(event: hikari.GuildMessageCreateEvent) -> None:
        emit("message", content=event.content, guild=event.guild_id)
        if event.content == "!members":
            shard = bot.shards[hikari.snowflakes.calculate_shard_id(bot, event.guild_id)]
            with bot.stream(hikari.MemberChunkEvent, timeout=20) as stream:
                await shard.request_guild_members(event.guild_id, query="user", limit=5)
                async for chunk in stream:
                    emit("members", count=len(chunk.members))
                    break
        elif event.content == "!presence":
            await bot.update_presence(status=hikari.Status.DO_NOT_DISTURB)
        elif event.content == "!voice":
            channels = bot.cache.get_guild_channels_view_for_guild(event.guild_id).values()
            (channel,) = (c for c in channels if isinstance(c, hikari.GuildVoiceChannel))
            await bot.update_voice_state(event.guild_id, channel)

    return bot


async def main(rest_url: str, compress: bool) -> None:
    defaults = hikari.impl.shard.GatewayShardImpl.__init__.__kwdefaults__
    zlib_stream = hikari.api.GatewayCompression.TRANSPORT_ZLIB_STREAM
    defaults["compression"] = zlib_stream if compress else None
    bot = build(rest_url)
    guilds: set[int] = set()
    total = asyncio.Event()

    @bot.listen()
    async def available(event: hikari.GuildAvailableEvent) -> None:
        guilds.add(event.guild_id)
        if len(guilds) == int(sys.argv[4]):
            total.set()

    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await bot.start(check_for_updates=False)
    await total.wait()
    emit("ready", guilds=sorted(guilds), user=bot.get_me().id)
    await ended
    await bot.close()


asyncio.run(main(sys.argv[1], sys.argv[2] == "zlib"))
