"""What a guild looks like to a process that does not have it: a copy, of the moment in which it was
asked for."""

from __future__ import annotations

from shard_node.wire.bodies import Body


class GuildAsk(Body, frozen=True):
    """Asks the guild's owner for a GuildView."""

    guild: int


class ChannelView(Body, frozen=True):
    """A channel or thread; ``type`` is Discord's number. ``topic`` is left out of all where they
    would make the view too large."""

    id: int
    name: str
    type: int
    parent_id: int | None = None
    position: int = 0
    topic: str | None = None
    nsfw: bool = False


class RoleView(Body, frozen=True):
    """A role; ``color`` is 0xRRGGBB, ``permissions`` Discord's bit set."""

    id: int
    name: str
    color: int
    position: int
    permissions: int
    hoist: bool = False
    managed: bool = False
    mentionable: bool = False


class GuildView(Body, frozen=True):
    """A guild. ``node`` handles it, ``shard`` of ``num_shards`` gets its events; ``me_roles`` are
    those of the bot. ``joined_at_s`` is in seconds since 1970, 0: unknown."""

    id: int
    name: str
    icon: str | None
    owner_id: int
    member_count: int
    description: str | None
    features: tuple[str, ...]
    locale: str
    premium_tier: int
    joined_at_s: float
    shard: int
    num_shards: int
    node: str
    channels: tuple[ChannelView, ...]
    threads: tuple[ChannelView, ...]
    roles: tuple[RoleView, ...]
    me_roles: tuple[int, ...]
    emojis_count: int

    def channel(self, channel_id: int) -> ChannelView | None:
        """One of its channels or threads."""
        both = (*self.channels, *self.threads)
        return next((one for one in both if one.id == channel_id), None)

    def role(self, role_id: int) -> RoleView | None:
        """One of its roles."""
        return next((one for one in self.roles if one.id == role_id), None)
