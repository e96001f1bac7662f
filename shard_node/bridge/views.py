"""Answers what a guild of this process looks like: `await node.fetch_guild(id)` elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import msgpack, structs

from shard_node.bridge.guilds import own_guild
from shard_node.bridge.options import Refusal
from shard_node.peer.handlers import Message
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.guildview import ChannelView, GuildAsk, GuildView, RoleView
from shard_node.wire.targets import shard_of_guild
from shard_node.wire.topics import GUILD_VIEW

if TYPE_CHECKING:
    from shard_node.bridge.adopt import Adoption

VIEW_MAX_BYTES: Final = 256 << 10
"""Beyond it the channels' topics are left out."""
LEAST_MAX_BYTES: Final = 900 << 10
"""A body's limit is 1 MiB."""


class Views:
    """Of one process."""

    def __init__(self, adoption: Adoption) -> None:
        self._adoption = adoption

    def install(self) -> None:
        """Others may ask, and this process itself without a message."""
        node = self._adoption.node
        node.serve(GUILD_VIEW, self.serve)
        node.viewed = self.viewed

    async def serve(self, message: Message) -> GuildView | ErrorBody:
        """The guild, or why it is not to be seen here."""
        asked: GuildAsk = message.body
        try:
            return self._view(asked.guild)
        except Refusal as refusal:
            return refusal.body

    def viewed(self, guild_id: int) -> GuildView | None:
        """The same where the guild is handled here; else None."""
        try:
            return self._view(guild_id)
        except Refusal:
            return None

    def _view(self, guild_id: int) -> GuildView:
        node = self._adoption.node
        _, guild, _ = own_guild(self._adoption, guild_id)
        found = view(guild, node.name, node.num_shards)
        if len(msgpack.encode(found)) <= VIEW_MAX_BYTES:
            return found
        bare = tuple(structs.replace(one, topic=None) for one in found.channels)
        found = structs.replace(found, channels=bare)
        size = len(msgpack.encode(found))
        if size <= LEAST_MAX_BYTES:
            return found
        text = f"guild {guild_id} takes {size} bytes; the limit is {LEAST_MAX_BYTES}"
        raise Refusal(ErrorBody("E_TOO_LARGE", text, "ask its node for what you need: node.serve"))


def view(guild: Any, node: str, num_shards: int) -> GuildView:
    """What a disnake Guild shows."""
    me = guild.me
    joined = getattr(me, "joined_at", None)
    return GuildView(
        guild.id,
        guild.name,
        guild.icon.key if guild.icon is not None else None,
        guild.owner_id or 0,
        guild.member_count or 0,
        guild.description,
        tuple(guild.features),
        str(guild.preferred_locale),
        int(guild.premium_tier),
        joined.timestamp() if joined is not None else 0.0,
        shard_of_guild(guild.id, num_shards),
        num_shards,
        node,
        tuple(_channel(one) for one in guild.channels),
        tuple(_channel(one) for one in guild.threads),
        tuple(_role(one) for one in guild.roles),
        tuple(one.id for one in me.roles) if me is not None else (),
        len(guild.emojis),
    )


def _channel(one: Any) -> ChannelView:
    parent = getattr(one, "parent_id", None) or getattr(one, "category_id", None)
    return ChannelView(
        one.id,
        one.name,
        one.type.value,
        parent,
        getattr(one, "position", 0),
        getattr(one, "topic", None),
        bool(getattr(one, "nsfw", False)),
    )


def _role(one: Any) -> RoleView:
    return RoleView(
        one.id,
        one.name,
        one.color.value,
        one.position,
        one.permissions.value,
        one.hoist,
        one.managed,
        one.mentionable,
    )
