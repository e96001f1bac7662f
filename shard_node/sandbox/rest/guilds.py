"""Guilds and channels."""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import changes, faults, payloads
from shard_node.sandbox.changes import Event
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.call import Call, Route, parse_id
from shard_node.sandbox.world import SandboxGuild

NAME_MAX_CHARS: Final = 100


def get_guild(call: Call) -> Payload:
    """GET; with ``with_counts`` how many members and how many online."""
    guild = call.guild()
    payload = guild.summary()
    if call.flag("with_counts"):
        payload["approximate_member_count"] = len(guild.members)
        payload["approximate_presence_count"] = len(guild.presences)
    return payload


def edit_guild(call: Call) -> Payload:
    """PATCH: the name."""
    guild = call.guild()
    guild.name = check_name(call.form().get("name", guild.name))
    payload = guild.summary()
    call.dispatch([("GUILD_UPDATE", payload)], guild.id)
    return payload


def list_emojis(call: Call) -> list[Payload]:
    """GET emojis."""
    return list(call.guild().emojis.values())


def get_emoji(call: Call) -> Payload:
    """GET one emoji."""
    emoji = call.guild().emojis.get(call.id("emoji"))
    if emoji is None:
        raise ApiError(faults.UNKNOWN_EMOJI)
    return emoji


def list_channels(call: Call) -> list[Payload]:
    """GET channels."""
    return list(call.guild().channels.values())


def create_channel(call: Call) -> Payload:
    """POST a channel: CHANNEL_CREATE."""
    guild, given = call.guild(), call.form()
    check_name(given.get("name"))
    _check_parent(guild, given)
    channel_id = call.state.world.snowflakes.next()
    call.dispatch(changes.create_channel(guild, channel_id, given), guild.id)
    return guild.channels[channel_id]


def get_channel(call: Call) -> Payload:
    """GET a channel."""
    return call.channel()[0]


def edit_channel(call: Call) -> Payload:
    """PATCH a channel or thread: CHANNEL_UPDATE, THREAD_UPDATE."""
    channel, guild = _of_guild(call)
    given = call.form()
    if "name" in given:
        check_name(given["name"])
    _check_parent(guild, given)
    change = changes.update_thread if _is_thread(channel) else changes.update_channel
    call.dispatch(change(guild, int(channel["id"]), given), guild.id)
    return channel


def delete_channel(call: Call) -> Payload:
    """DELETE a channel or thread: CHANNEL_DELETE, THREAD_DELETE. A direct one is only closed."""
    channel, guild_id = call.channel()
    if guild_id is not None:
        guild, channel_id = call.state.world.guild(guild_id), int(channel["id"])
        delete = changes.delete_thread if _is_thread(channel) else changes.delete_channel
        call.dispatch(delete(guild, channel_id), guild_id)
        call.state.memory.archive.remove_channel(channel_id)
    return channel


def set_overwrite(call: Call) -> None:
    """PUT a channel's permission overwrite: CHANNEL_UPDATE."""
    channel, guild = _of_guild(call)
    given = call.form()
    overwrite = {
        "id": str(call.id("overwrite")),
        "type": int(given.get("type", 0)),
        "allow": str(given.get("allow") or 0),
        "deny": str(given.get("deny") or 0),
    }
    _replace_overwrite(call, channel, guild, [overwrite])


def delete_overwrite(call: Call) -> None:
    """DELETE a channel's permission overwrite: CHANNEL_UPDATE."""
    channel, guild = _of_guild(call)
    _replace_overwrite(call, channel, guild, [])


def _replace_overwrite(
    call: Call, channel: Payload, guild: SandboxGuild, new: list[Payload]
) -> None:
    identifier = str(call.id("overwrite"))
    if _is_thread(channel):
        raise ApiError(faults.UNKNOWN_CHANNEL)
    kept = [old for old in channel["permission_overwrites"] if old["id"] != identifier]
    given = {"permission_overwrites": kept + new}
    events: list[Event] = changes.update_channel(guild, int(channel["id"]), given)
    call.dispatch(events, guild.id)


def _is_thread(channel: Payload) -> bool:
    return channel["type"] in payloads.THREADS


def _of_guild(call: Call) -> tuple[Payload, SandboxGuild]:
    channel, guild_id = call.channel()
    if guild_id is None:
        raise ApiError(faults.MISSING_ACCESS)
    return channel, call.state.world.guild(guild_id)


def _check_parent(guild: SandboxGuild, given: Payload) -> None:
    if given.get("parent_id") is None:
        return
    parent = guild.channels.get(parse_id("parent_id", given["parent_id"]))
    if parent is None or parent["type"] != payloads.CATEGORY:
        raise invalid_field("parent_id", "CHANNEL_PARENT_INVALID", "Category does not exist")


def check_name(name: object) -> str:
    """A name of 1 to 100 characters. Raises 50035."""
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_MAX_CHARS:
        raise invalid_field(
            "name", "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {NAME_MAX_CHARS} in length."
        )
    return name


_OVERWRITE: Final = "/channels/{channel}/permissions/{overwrite}"
ROUTES: Final = (
    Route("GET", "/guilds/{guild}", get_guild),
    Route("PATCH", "/guilds/{guild}", edit_guild),
    Route("GET", "/guilds/{guild}/emojis", list_emojis),
    Route("GET", "/guilds/{guild}/emojis/{emoji}", get_emoji),
    Route("GET", "/guilds/{guild}/channels", list_channels),
    Route("POST", "/guilds/{guild}/channels", create_channel),
    Route("GET", "/channels/{channel}", get_channel),
    Route("PATCH", "/channels/{channel}", edit_channel),
    Route("DELETE", "/channels/{channel}", delete_channel),
    Route("PUT", _OVERWRITE, set_overwrite),
    Route("DELETE", _OVERWRITE, delete_overwrite),
)
