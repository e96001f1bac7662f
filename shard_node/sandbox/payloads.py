"""Builders of Discord's objects, API v10: plain dicts with every field a strict library reads.

Identifiers go in as integers and come out as strings. disnake needs a role's ``colors`` with
three keys, hikari needs ``flags`` in a message, discord.py reads ``flags`` of members.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shard_node.sandbox.snowflake import EPOCH_MS, TIME_SHIFT

Payload = dict[str, Any]

APPLICATION_FLAGS = (1 << 12) | (1 << 14) | (1 << 18) | (1 << 23)
"""Presence, members and content intents granted, and commands registered."""

TEXT, VOICE, CATEGORY, DIRECT = 0, 2, 4, 1
PUBLIC_THREAD = 11
THREADS = frozenset({10, PUBLIC_THREAD, 12})

VIEW_CHANNEL, SEND_MESSAGES = 1 << 10, 1 << 11
EVERYONE_PERMISSIONS = (
    VIEW_CHANNEL
    | SEND_MESSAGES
    | 1 << 0  # create invites
    | 1 << 6  # add reactions
    | 1 << 14  # embed links
    | 1 << 15  # attach files
    | 1 << 16  # read history
    | 1 << 18  # external emojis
    | 1 << 20  # connect
    | 1 << 21  # speak
    | 1 << 26  # change nickname
    | 1 << 31  # use application commands
)
ADMINISTRATOR = 1 << 3


def timestamp(ms: int) -> str:
    """Unix milliseconds as Discord writes a moment: ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="microseconds")


def created_at(identifier: int) -> str:
    """The moment inside a snowflake."""
    return timestamp((identifier >> TIME_SHIFT) + EPOCH_MS)


def user(
    identifier: int, username: str, *, avatar: str | None = None, bot: bool = False
) -> Payload:
    """A user object."""
    return {
        "id": str(identifier),
        "username": username,
        "discriminator": "0" if not bot else "0001",
        "global_name": None if bot else username.capitalize(),
        "avatar": avatar,
        "avatar_decoration_data": None,
        "banner": None,
        "accent_color": None,
        "bot": bot,
        "system": False,
        "public_flags": 0,
        "primary_guild": None,
        "collectibles": None,
    }


def bot_user(identifier: int, username: str, avatar: str | None) -> Payload:
    """The bot's own user object, with what only its owner sees."""
    return {
        **user(identifier, username, avatar=avatar, bot=True),
        "flags": 0,
        "mfa_enabled": True,
        "verified": True,
        "email": None,
        "locale": "en-US",
        "premium_type": 0,
        "bio": "",
    }


def member(user_payload: Payload, *, roles: list[str], joined_at: str) -> Payload:
    """A guild member object with its user."""
    return {
        "user": user_payload,
        "nick": None,
        "avatar": None,
        "banner": None,
        "roles": roles,
        "joined_at": joined_at,
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "flags": 0,
        "pending": False,
        "communication_disabled_until": None,
        "avatar_decoration_data": None,
    }


def role(
    identifier: int,
    name: str,
    *,
    position: int = 0,
    permissions: int = 0,
    color: int = 0,
    bot_id: int | None = None,
) -> Payload:
    """A role object; one with ``bot_id`` is that bot's managed role."""
    payload: Payload = {
        "id": str(identifier),
        "name": name,
        "description": None,
        "color": color,
        "colors": {"primary_color": color, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "icon": None,
        "unicode_emoji": None,
        "position": position,
        "permissions": str(permissions),
        "managed": bot_id is not None,
        "mentionable": False,
        "flags": 0,
    }
    if bot_id is not None:
        payload["tags"] = {"bot_id": str(bot_id)}
    return payload


def channel(
    identifier: int,
    guild_id: int,
    name: str,
    *,
    kind: int = TEXT,
    position: int = 0,
    parent_id: int | None = None,
) -> Payload:
    """A guild channel object: text, voice or category."""
    payload: Payload = {
        "id": str(identifier),
        "type": kind,
        "guild_id": str(guild_id),
        "name": name,
        "position": position,
        "permission_overwrites": [],
        "parent_id": None if parent_id is None else str(parent_id),
        "flags": 0,
        "nsfw": False,
    }
    if kind == TEXT:
        payload |= {"topic": None, "last_message_id": None, "rate_limit_per_user": 0}
        payload |= {"last_pin_timestamp": None, "default_auto_archive_duration": 1440}
    elif kind == VOICE:
        payload |= {"bitrate": 64_000, "user_limit": 0, "rtc_region": None}
        payload |= {"last_message_id": None, "rate_limit_per_user": 0, "status": None}
    return payload


def thread(
    identifier: int, guild_id: int, parent_id: int, owner_id: int, name: str, created_at: str
) -> Payload:
    """A public thread that its owner has joined."""
    return {
        "id": str(identifier),
        "guild_id": str(guild_id),
        "parent_id": str(parent_id),
        "owner_id": str(owner_id),
        "name": name,
        "type": PUBLIC_THREAD,
        "last_message_id": None,
        "message_count": 0,
        "member_count": 1,
        "total_message_sent": 0,
        "rate_limit_per_user": 0,
        "flags": 0,
        "applied_tags": [],
        "thread_metadata": {
            "archived": False,
            "archive_timestamp": created_at,
            "auto_archive_duration": 1440,
            "locked": False,
            "create_timestamp": created_at,
        },
        "member": {
            "id": str(identifier),
            "user_id": str(owner_id),
            "join_timestamp": created_at,
            "flags": 0,
        },
    }


def dm_channel(identifier: int, recipient: Payload) -> Payload:
    """A direct message channel object."""
    return {
        "id": str(identifier),
        "type": DIRECT,
        "flags": 0,
        "last_message_id": None,
        "last_pin_timestamp": None,
        "recipients": [recipient],
    }


def emoji(identifier: int, name: str, creator: Payload) -> Payload:
    """A custom emoji object."""
    return {
        "id": str(identifier),
        "name": name,
        "roles": [],
        "user": creator,
        "require_colons": True,
        "managed": False,
        "animated": False,
        "available": True,
    }


def presence(user_id: int, guild_id: int, status: str) -> Payload:
    """A presence update object without activities."""
    return {
        "user": {"id": str(user_id)},
        "guild_id": str(guild_id),
        "status": status,
        "activities": [],
        "client_status": {} if status == "offline" else {"desktop": status},
    }


def voice_state(
    user_id: int,
    guild_id: int,
    channel_id: int | None,
    *,
    session_id: str,
    member_payload: Payload,
    self_mute: bool = False,
    self_deaf: bool = False,
) -> Payload:
    """A voice state object; ``channel_id`` None means that the user left."""
    return {
        "guild_id": str(guild_id),
        "channel_id": None if channel_id is None else str(channel_id),
        "user_id": str(user_id),
        "member": member_payload,
        "session_id": session_id,
        "deaf": False,
        "mute": False,
        "self_deaf": self_deaf,
        "self_mute": self_mute,
        "self_video": False,
        "self_stream": False,
        "suppress": False,
        "request_to_speak_timestamp": None,
    }


def message(
    identifier: int,
    channel_id: int,
    author: Payload,
    content: str,
    *,
    guild_id: int | None = None,
    member_payload: Payload | None = None,
) -> Payload:
    """A message object as MESSAGE_CREATE carries it (``member`` without its user)."""
    payload: Payload = {
        "id": str(identifier),
        "channel_id": str(channel_id),
        "author": author,
        "content": content,
        "timestamp": created_at(identifier),
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": [],
        "embeds": [],
        "components": [],
        "pinned": False,
        "type": 0,
        "flags": 0,
        "channel_type": DIRECT if guild_id is None else TEXT,
    }
    if guild_id is not None:
        payload["guild_id"] = str(guild_id)
    if member_payload is not None:
        payload["member"] = {k: v for k, v in member_payload.items() if k != "user"}
    return payload


def guild(
    identifier: int, name: str, owner_id: int, *, joined_at: str, member_count: int
) -> Payload:
    """A guild object's own fields; the caller adds roles, channels, members and the rest."""
    return {
        "id": str(identifier),
        "name": name,
        "icon": None,
        "icon_hash": None,
        "splash": None,
        "discovery_splash": None,
        "home_header": None,
        "owner_id": str(owner_id),
        "region": "us-east",
        "afk_channel_id": None,
        "afk_timeout": 300,
        "widget_enabled": False,
        "widget_channel_id": None,
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "features": [],
        "mfa_level": 0,
        "application_id": None,
        "system_channel_id": None,
        "system_channel_flags": 0,
        "rules_channel_id": None,
        "max_presences": None,
        "max_members": 500_000,
        "max_video_channel_users": 25,
        "max_stage_video_channel_users": 50,
        "vanity_url_code": None,
        "description": None,
        "banner": None,
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "preferred_locale": "en-US",
        "public_updates_channel_id": None,
        "nsfw": False,
        "nsfw_level": 0,
        "premium_progress_bar_enabled": False,
        "safety_alerts_channel_id": None,
        "incidents_data": None,
        "stickers": [],
        "joined_at": joined_at,
        "large": False,
        "member_count": member_count,
        "voice_states": [],
        "threads": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
    }
