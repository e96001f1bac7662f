"""Who does something, and where: members and channels drawn for the players. Pure."""

from __future__ import annotations

from typing import Final

from shard_node.sandbox.gestures import Dice, Unplayable
from shard_node.sandbox.world import SandboxGuild, World

_MEMBER_CACHE_MAX: Final = 4096


class Crowd:
    """Everybody but the bot."""

    def __init__(self, world: World, dice: Dice) -> None:
        self._world = world
        self._dice = dice
        self._users_of: dict[int, tuple[int, list[int]]] = {}

    def any_guild(self) -> int:
        """One of the bot's guilds. Raises Unplayable."""
        ids = self._world.guild_ids()
        if not ids:
            raise Unplayable("the bot is in no guild", "shardctl sandbox add-guilds 1")
        return self._dice.choice(ids)

    def any_user(self, guild: SandboxGuild) -> int:
        """A member that is not the bot; the list is rebuilt when the members have changed."""
        count, users = self._users_of.get(guild.id, (-1, []))
        if count != len(guild.members):
            users = [u for u in guild.members if u != self._world.application_id]
            if len(self._users_of) >= _MEMBER_CACHE_MAX:
                self._users_of.clear()
            self._users_of[guild.id] = (len(guild.members), users)
        if not users:
            raise Unplayable(f"guild {guild.id} has no member but the bot")
        chosen = self._dice.choice(users)
        if chosen in guild.members:
            return chosen
        del self._users_of[guild.id]
        return self.any_user(guild)

    def any_channel(self, guild: SandboxGuild) -> int:
        """A text channel. Raises Unplayable."""
        channels = guild.text_channels()
        if not channels:
            raise Unplayable(f"guild {guild.id} has no text channel")
        return self._dice.choice(channels)
