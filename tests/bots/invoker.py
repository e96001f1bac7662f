"""The example bot with a cog that runs commands on other nodes and hears of shards."""

import os

import disnake
from disnake.ext import commands

import shard_node
from shard_node import CommandExec, CommandResult, Guild
from shard_node.examples.bot import bot

NODE = os.environ.get("SHARDCTL_NODE", "alone")


class Relay(commands.Cog):
    @commands.slash_command()
    async def relay(self, inter: disnake.ApplicationCommandInteraction, guild: str, command: str):
        asked = CommandExec(int(guild), command)
        try:
            result = await shard_node.node.request(
                Guild(asked.guild), "COMMAND_EXEC", asked, reply=CommandResult
            )
        except shard_node.RemoteError as error:
            await inter.response.send_message(f"node {NODE}: {error.code} {error}")
            return
        said = " ".join(reply.content for reply in result.replies)
        await inter.response.send_message(f"node {NODE} asked node {result.node}: {said}")

    @commands.slash_command()
    async def tell(self, inter: disnake.ApplicationCommandInteraction, what: str):
        await shard_node.node.publish("BROADCAST", {"what": what, "from": NODE})
        await inter.response.send_message("told")

    @commands.slash_command()
    async def broken(self, inter: disnake.ApplicationCommandInteraction):
        raise LookupError("nothing here")

    @shard_node.listen("SHARD_READY")
    def ready(self, message: shard_node.Message) -> None:
        print(f"heard: shard {message.body.shard} ready on {message.sender}", flush=True)

    @shard_node.listen("SHARD_DISCONNECT")
    def lost(self, message: shard_node.Message) -> None:
        print(f"heard: shard {message.body.shard} lost on {message.sender}", flush=True)

    @shard_node.serve("see")
    async def see(self, message: shard_node.Message) -> list[object]:
        seen = await shard_node.node.fetch_guild(message.body)
        return [seen.name, len(seen.channels), seen.member_count]

    @shard_node.listen("BROADCAST")
    def told(self, message: shard_node.Message) -> None:
        print(f"heard: {message.body.data['what']} from {message.sender}", flush=True)


bot.add_cog(Relay())
bot.run(os.environ["DISCORD_TOKEN"])
