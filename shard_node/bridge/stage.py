"""The guild, the channel and the user that a command meets when nobody typed it.

All of it comes from disnake's cache; a user that is not in it is asked of Discord. What the
author's code sees: ``author`` is that user's member (the bot's own by default),
``permissions`` and ``app_permissions`` are theirs in the channel, ``locale`` the guild's.
What Discord itself decides before it sends an interaction (who may see a command) is not
decided again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import disnake
from disnake.interactions import ApplicationCommandInteraction

from shard_node.bridge.options import LISTED_MAX, channel_payload, refused
from shard_node.bridge.replies import Run, message_payload

_COMMAND = 2
_CHAT_INPUT = 1
_IN_A_GUILD = 0
"""Interaction type, command type, context: Discord's documentation, Interaction Object."""


class Caller(NamedTuple):
    """In whose name: the member, and its payloads. ``cached``: disnake knows it."""

    member: disnake.Member
    user: dict[str, Any]
    payload: dict[str, Any]
    cached: bool


class Stage(NamedTuple):
    """Where a command runs."""

    client: Any
    guild: disnake.Guild
    channel: Any
    caller: Caller

    async def find(self, user: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The payloads of a member, for an option."""
        found = await find_member(self.client, self.guild, user)
        return None if found is None else (found.user, found.payload)


async def find_member(client: Any, guild: disnake.Guild, user: int) -> Caller | None:
    """A member by its user's id, from the cache or from Discord."""
    member = guild.get_member(user)
    if member is not None:
        payload: dict[str, Any] = {"user": member._user._to_minimal_user_json()}
        return Caller(member, payload["user"], payload, True)
    try:
        raw = await client.http.get_member(guild.id, user)
    except disnake.NotFound:
        return None
    member = disnake.Member(state=client._connection, guild=guild, data=raw)
    return Caller(member, raw["user"], raw, False)


async def set_up(client: Any, guild: disnake.Guild, user: int, channel: int) -> Stage:
    """Raises Refusal where user or channel are not in the guild."""
    caller = await find_member(client, guild, user or client.user.id)
    if caller is None:
        text = f"user {user or client.user.id} is no member of {guild.name}"
        raise refused(text, "give the id of a member", "E_NOT_FOUND")
    return Stage(client, guild, _channel(guild, channel, caller.member), caller)


def _channel(guild: disnake.Guild, wanted: int, member: disnake.Member) -> Any:
    if not wanted:
        return _first_channel(guild, member)
    channel = guild.get_channel_or_thread(wanted)
    if isinstance(channel, disnake.abc.Messageable):
        return channel
    what = "takes no messages" if channel is not None else "is not there"
    names = ", ".join(f"{c.id} #{c.name}" for c in guild.text_channels[:LISTED_MAX])
    raise refused(f"channel {wanted} of {guild.name} {what}", f"there are: {names}", "E_NOT_FOUND")


def _first_channel(guild: disnake.Guild, member: disnake.Member) -> Any:
    """Where the user may write, else the first one."""
    channels = guild.text_channels
    if not channels:
        raise refused(f"{guild.name} has no text channel", "name a channel", "E_NOT_FOUND")
    may = (c for c in channels if c.permissions_for(member).send_messages)
    return next(may, channels[0])


def interaction(stage: Stage, run: Run, data: dict[str, Any]) -> ApplicationCommandInteraction[Any]:
    """A slash command's interaction, as the gateway would bring it."""
    client, guild, channel, caller = stage
    permissions = channel.permissions_for(caller.member).value
    payload: Any = {
        "id": str(run.id),
        "token": run.token,
        "type": _COMMAND,
        "version": 1,
        "application_id": str(client.application_id or client.user.id),
        "guild_id": str(guild.id),
        "channel_id": str(channel.id),
        "channel": channel_payload(channel),
        "member": {**caller.payload, "permissions": str(permissions)},
        "app_permissions": str(channel.permissions_for(guild.me).value),
        "locale": str(guild.preferred_locale),
        "guild_locale": str(guild.preferred_locale),
        "entitlements": [],
        "authorizing_integration_owners": {"0": str(guild.id)},
        "context": _IN_A_GUILD,
        "attachment_size_limit": guild.filesize_limit,
        "data": {"type": _CHAT_INPUT, **data},
    }
    return ApplicationCommandInteraction(data=payload, state=client._connection)


def message(stage: Stage, run: Run, content: str) -> disnake.Message:
    """A user's message, as the gateway would bring it."""
    payload: Any = message_payload(run.id, stage.channel.id, stage.caller.user)
    payload |= {"content": content, "guild_id": stage.guild.id}
    if not stage.caller.cached:
        payload["member"] = stage.caller.payload
    run.trigger = payload
    return disnake.Message(state=stage.client._connection, channel=stage.channel, data=payload)


def me(client: Any) -> dict[str, Any]:
    """The bot's own user as Discord has it."""
    found: dict[str, Any] = client.user._to_minimal_user_json()
    return found
