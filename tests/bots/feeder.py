"""Keeps what Discord tells of members, users and roles for all shards, and says what it hears."""
import os

import disnake
from disnake.ext import commands

import shard_node

intents = disnake.Intents.default()
intents.members = True
bot = commands.AutoShardedBot(command_prefix="!", intents=intents, help_command=None)

node = shard_node.node
node.feed(members=("nick", "roles", "permissions"), users=("name",), permissions=("name", "color"))


@node.on(shard_node.MemberUpdate)
def member(message):
    body = message.body
    changed = {name: getattr(body.changed, name) for name in body.changed.__struct_fields__}
    print("MEMBER", node.name, body.guild, body.user, changed.get("nick"), flush=True)


@node.on(shard_node.GuildInfo)
def guild(message):
    print("ROLES", node.name, message.body.guild, len(message.body.changed.roles), flush=True)


bot.run(os.environ["DISCORD_TOKEN"])
