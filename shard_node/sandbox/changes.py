"""Changes of a guild and the gateway events that tell of them, for REST and players. Pure.

Each function changes the guild in place and returns the events, in Discord's order.
"""

from __future__ import annotations

from typing import Any, Final

from shard_node.sandbox import payloads
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.world import SandboxGuild

Event = tuple[str, Payload]

MEMBER_FIELDS: Final = ("nick", "roles", "mute", "deaf", "communication_disabled_until", "flags")
ROLE_FIELDS: Final = ("name", "permissions", "color", "hoist", "mentionable", "unicode_emoji")
CHANNEL_FIELDS: Final = (
    "name",
    "position",
    "topic",
    "nsfw",
    "rate_limit_per_user",
    "bitrate",
    "user_limit",
    "permission_overwrites",
    "parent_id",
    "flags",
    "default_auto_archive_duration",
)
THREAD_FIELDS: Final = ("name", "rate_limit_per_user", "flags", "applied_tags")
THREAD_METADATA_FIELDS: Final = ("archived", "auto_archive_duration", "locked", "invitable")


def add_member(guild: SandboxGuild, user: Payload, joined_at: str) -> list[Event]:
    """Somebody joins."""
    member = payloads.member(user, roles=[], joined_at=joined_at)
    guild.members[int(user["id"])] = member
    return [("GUILD_MEMBER_ADD", _with_guild(guild, member))]


def update_member(guild: SandboxGuild, user_id: int, changes: Payload) -> list[Event]:
    """Nick, roles, mute, deaf or timeout of a member change."""
    member = guild.members[user_id]
    member.update((key, changes[key]) for key in MEMBER_FIELDS if key in changes)
    return [("GUILD_MEMBER_UPDATE", _with_guild(guild, member))]


def remove_member(guild: SandboxGuild, user_id: int) -> list[Event]:
    """Somebody leaves or is kicked."""
    member = guild.members.pop(user_id)
    guild.presences.pop(user_id, None)
    guild.voice_states.pop(user_id, None)
    return [("GUILD_MEMBER_REMOVE", {"guild_id": str(guild.id), "user": member["user"]})]


def ban(guild: SandboxGuild, user: Payload, reason: str | None) -> list[Event]:
    """A user is banned; a member leaves by it."""
    user_id = int(user["id"])
    guild.bans[user_id] = {"reason": reason, "user": user}
    events: list[Event] = [("GUILD_BAN_ADD", {"guild_id": str(guild.id), "user": user})]
    if user_id in guild.members:
        events += remove_member(guild, user_id)
    return events


def unban(guild: SandboxGuild, user_id: int) -> list[Event]:
    """A ban is lifted."""
    banned = guild.bans.pop(user_id)
    return [("GUILD_BAN_REMOVE", {"guild_id": str(guild.id), "user": banned["user"]})]


def create_role(guild: SandboxGuild, role_id: int, given: Payload) -> list[Event]:
    """A role appears, just above @everyone."""
    everyone = guild.roles[guild.id]
    role = payloads.role(role_id, "new role", position=1, permissions=int(everyone["permissions"]))
    for other in guild.roles.values():
        other["position"] += other["position"] > 0
    guild.roles[role_id] = _edited_role(role, given)
    return [_role_event("GUILD_ROLE_CREATE", guild, role)]


def update_role(guild: SandboxGuild, role_id: int, given: Payload) -> list[Event]:
    """Fields of a role change."""
    role = _edited_role(guild.roles[role_id], given)
    return [_role_event("GUILD_ROLE_UPDATE", guild, role)]


def move_role(guild: SandboxGuild, role_id: int, position: int) -> list[Event]:
    """A role gets another position."""
    guild.roles[role_id]["position"] = position
    return [_role_event("GUILD_ROLE_UPDATE", guild, guild.roles[role_id])]


def delete_role(guild: SandboxGuild, role_id: int) -> list[Event]:
    """A role goes; its members lose it without an event of their own."""
    del guild.roles[role_id]
    for member in guild.members.values():
        if str(role_id) in member["roles"]:
            member["roles"] = [role for role in member["roles"] if role != str(role_id)]
    gone = {"guild_id": str(guild.id), "role_id": str(role_id)}
    return [("GUILD_ROLE_DELETE", gone)]


def create_channel(guild: SandboxGuild, channel_id: int, given: Payload) -> list[Event]:
    """A channel appears, below the others."""
    kind = int(given.get("type") or payloads.TEXT)
    channel = payloads.channel(
        channel_id, guild.id, str(given["name"]), kind=kind, position=len(guild.channels)
    )
    channel.update((key, given[key]) for key in CHANNEL_FIELDS if given.get(key) is not None)
    guild.channels[channel_id] = channel
    return [("CHANNEL_CREATE", channel)]


def update_channel(guild: SandboxGuild, channel_id: int, given: Payload) -> list[Event]:
    """Fields of a channel change."""
    channel = guild.channels[channel_id]
    channel.update((key, given[key]) for key in CHANNEL_FIELDS if key in given)
    return [("CHANNEL_UPDATE", channel)]


def delete_channel(guild: SandboxGuild, channel_id: int) -> list[Event]:
    """A channel goes, and its threads with it, without an event of their own."""
    for thread in list(guild.threads.values()):
        if thread["parent_id"] == str(channel_id):
            del guild.threads[int(thread["id"])]
    return [("CHANNEL_DELETE", guild.channels.pop(channel_id))]


def create_thread(guild: SandboxGuild, thread: Payload) -> list[Event]:
    """A thread is started."""
    guild.threads[int(thread["id"])] = thread
    return [("THREAD_CREATE", {**thread, "newly_created": True})]


def update_thread(guild: SandboxGuild, thread_id: int, given: Payload) -> list[Event]:
    """Fields of a thread change; those of its metadata are given beside the others."""
    thread = guild.threads[thread_id]
    thread.update((key, given[key]) for key in THREAD_FIELDS if key in given)
    metadata = thread["thread_metadata"]
    metadata.update((key, given[key]) for key in THREAD_METADATA_FIELDS if key in given)
    return [("THREAD_UPDATE", thread)]


def delete_thread(guild: SandboxGuild, thread_id: int) -> list[Event]:
    """A thread goes."""
    thread = guild.threads.pop(thread_id)
    gone = {key: thread[key] for key in ("id", "guild_id", "parent_id", "type")}
    return [("THREAD_DELETE", gone)]


def set_presence(guild: SandboxGuild, user_id: int, status: str) -> list[Event]:
    """A member goes online, idle, busy or offline."""
    presence = payloads.presence(user_id, guild.id, status)
    if status == "offline":
        guild.presences.pop(user_id, None)
    else:
        guild.presences[user_id] = presence
    return [("PRESENCE_UPDATE", presence)]


def _edited_role(role: Payload, given: Payload) -> Payload:
    role.update((key, given[key]) for key in ROLE_FIELDS if given.get(key) is not None)
    role["permissions"] = str(role["permissions"])
    colors: Any = given.get("colors")
    if isinstance(colors, dict):
        role["colors"] = {**role["colors"], **colors}
        role["color"] = int(role["colors"]["primary_color"] or 0)
    else:
        role["colors"] = {**role["colors"], "primary_color": role["color"]}
    return role


def _role_event(event: str, guild: SandboxGuild, role: Payload) -> Event:
    return event, {"guild_id": str(guild.id), "role": role}


def _with_guild(guild: SandboxGuild, member: Payload) -> Payload:
    return {"guild_id": str(guild.id), **member}
