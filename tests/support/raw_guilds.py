"""A rich guild as Discord sends it, every event that changes one, and disnake's caches of both."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
from typing import Any

import disnake
from disnake.state import AutoShardedConnectionState, ChunkRequest
from disnake.user import ClientUser

GUILD = 1_000
OWN = 7
WHEN = "2026-01-02T03:04:05.678000+00:00"
LATER = "2126-01-02T03:04:05.678000+00:00"
"""disnake forgets a timeout that is over at the first look at it."""
Payload = dict[str, Any]


def user(number: int, name: str = "user", **more: Any) -> Payload:
    return {
        "id": str(number), "username": f"{name}{number}", "discriminator": "0", "avatar": None,
        "global_name": None, "public_flags": 0, **more,
    }  # fmt: skip


def member(number: int, **more: Any) -> Payload:
    told = {"user": user(number), "roles": [], "joined_at": WHEN, "nick": None, "pending": False}
    return {**told, "premium_since": None, "avatar": None, "flags": 0, **more}


def role(number: int, position: int, **more: Any) -> Payload:
    colors = {"primary_color": number, "secondary_color": None, "tertiary_color": None}
    told = {"id": str(number), "name": f"role{number}", "permissions": "8", "position": position}
    return {**told, "colors": colors, "hoist": False, "managed": False, "flags": 0, **more}


def channel(number: int, kind: int = 0, **more: Any) -> Payload:
    overwrites = [{"id": str(GUILD), "type": 0, "allow": "1", "deny": "2"}]
    return {
        "id": str(number), "type": kind, "guild_id": str(GUILD), "name": f"c{number}",
        "position": number % 10, "parent_id": None, "topic": None, "nsfw": False,
        "permission_overwrites": overwrites, **more,
    }  # fmt: skip


def thread(number: int, parent: int, **more: Any) -> Payload:
    metadata = {
        "archived": False, "auto_archive_duration": 60, "archive_timestamp": WHEN, "locked": False,
    }  # fmt: skip
    return {
        "id": str(number), "type": 11, "guild_id": str(GUILD), "parent_id": str(parent),
        "owner_id": "20", "name": f"t{number}", "last_message_id": None, "message_count": 2,
        "total_message_sent": 2, "member_count": 1, "rate_limit_per_user": 0,
        "thread_metadata": metadata, **more,
    }  # fmt: skip


def thread_member(thread_id: int, number: int) -> Payload:
    return {"id": str(thread_id), "user_id": str(number), "join_timestamp": WHEN, "flags": 1}


def emoji(number: int, **more: Any) -> Payload:
    told = {"id": str(number), "name": f"e{number}", "roles": [], "require_colons": True}
    return {**told, "managed": False, "animated": False, "available": True, **more}


def sticker(number: int) -> Payload:
    return {
        "id": str(number), "name": f"s{number}", "description": "", "tags": "x", "type": 2,
        "format_type": 1, "available": True, "guild_id": str(GUILD), "sort_value": 1,
    }  # fmt: skip


def sound(number: int, **more: Any) -> Payload:
    told = {"sound_id": str(number), "name": f"b{number}", "volume": 0.5, "emoji_id": None}
    return {**told, "emoji_name": "x", "guild_id": str(GUILD), "available": True, **more}


def voice(number: int, place: int | None, **more: Any) -> Payload:
    told = {"user_id": str(number), "channel_id": place and str(place), "session_id": "s"}
    return {**told, "guild_id": str(GUILD), "self_mute": False, "self_deaf": False, **more}


def presence(number: int, status: str = "idle", **more: Any) -> Payload:
    told = {"user": {"id": str(number)}, "guild_id": str(GUILD), "status": status}
    activity = {"type": 0, "name": "game", "created_at": 1}
    return {**told, "activities": [activity], "client_status": {"web": status}, **more}


def stage(number: int, place: int, **more: Any) -> Payload:
    told = {"id": str(number), "guild_id": str(GUILD), "channel_id": str(place), "topic": "t"}
    return {**told, "privacy_level": 2, "discoverable_disabled": False, **more}


def event(number: int, place: int | None, **more: Any) -> Payload:
    return {
        "id": str(number), "guild_id": str(GUILD), "channel_id": place and str(place),
        "creator_id": "20", "name": f"ev{number}", "description": None, "entity_type": 2,
        "scheduled_start_time": WHEN, "scheduled_end_time": None, "privacy_level": 2,
        "status": 1, "entity_id": None, "entity_metadata": None, "image": None, **more,
    }  # fmt: skip


def guild(**more: Any) -> Payload:
    """Members 20-24 and the bot, a channel of every kind, two threads, one of everything else."""
    return {
        "id": str(GUILD), "name": "guild", "unavailable": False, "member_count": 6, "large": False,
        "owner_id": "20", "afk_channel_id": "102", "afk_timeout": 60, "icon": None, "banner": None,
        "verification_level": 1, "default_message_notifications": 0, "premium_tier": 1,
        "explicit_content_filter": 0, "features": ["NEWS"], "mfa_level": 0, "nsfw_level": 0,
        "system_channel_id": "100", "system_channel_flags": 1, "preferred_locale": "de",
        "description": "d", "max_members": 9, "vanity_url_code": None, "incidents_data": None,
        "roles": [role(GUILD, 0), role(30, 1), role(31, 2), role(32, 3, tags={"bot_id": "7"})],
        "emojis": [emoji(40), emoji(41)], "stickers": [sticker(50)],
        "soundboard_sounds": [sound(60), sound(61)],
        "channels": [
            channel(100), channel(101, 5), channel(102, 2), channel(103, 13), channel(104, 4),
            channel(105, 15, available_tags=[]), channel(106, 2),
        ],
        "threads": [thread(200, 100), thread(201, 105, member=thread_member(201, OWN))],
        "members": [member(OWN), *(member(number) for number in range(20, 25))],
        "presences": [presence(20), presence(21, "dnd")],
        "voice_states": [voice(20, 102), voice(21, 106)],
        "stage_instances": [stage(70, 103)],
        "guild_scheduled_events": [event(80, 102), event(81, None)],
        **more,
    }  # fmt: skip


def _ids(**more: Any) -> Payload:
    return {"guild_id": str(GUILD), **more}


def _updated() -> Payload:
    kept = ("channels", "members", "threads", "presences", "voice_states", "member_count", "large")
    lists = (*kept, "stage_instances", "guild_scheduled_events", "unavailable")
    told = {key: value for key, value in guild(name="renamed").items() if key not in lists}
    return {**told, "roles": [role(GUILD, 0), role(30, 1)], "emojis": [emoji(42)]}


def _presence_with_user(number: int) -> Payload:
    return presence(number, "online", user=user(number, "shown", bot=False))


CHANGES: dict[str, list[Payload]] = {
    "CHANNEL_CREATE": [channel(110), channel(111, 2), channel(112, 16), channel(100, name="new")],
    "CHANNEL_DELETE": [channel(100), channel(102, 2), channel(103, 13), channel(999)],
    "CHANNEL_PINS_UPDATE": [
        _ids(channel_id="100", last_pin_timestamp=WHEN), _ids(channel_id="100"),
        _ids(channel_id="200", last_pin_timestamp=WHEN), _ids(channel_id="999"),
        _ids(channel_id="102", last_pin_timestamp=WHEN),
    ],
    "CHANNEL_UPDATE": [
        channel(100, name="other", topic="t", last_message_id="5"), channel(102, 2, bitrate=9),
        channel(101, 0), channel(999), channel(105, 15, available_tags=[
            {"id": "1", "name": "tag", "moderated": False, "emoji_id": None, "emoji_name": "x"},
        ]), {k: v for k, v in channel(104, 4).items() if k != "permission_overwrites"},
    ],
    "GUILD_CREATE": [
        guild(), guild(unavailable=True), guild(channels=[channel(120)], members=[member(25)]),
        guild(presences=[presence(24)], voice_states=[voice(22, 106)], threads=[thread(200, 100)]),
        {k: v for k, v in guild(roles=[role(GUILD, 0)]).items() if k != "unavailable"},
    ],
    "GUILD_DELETE": [{"id": str(GUILD), "unavailable": True}],
    "GUILD_EMOJIS_UPDATE": [_ids(emojis=[emoji(41), emoji(43)]), _ids(emojis=[])],
    "GUILD_MEMBERS_CHUNK": [
        _ids(members=[member(26), member(20, nick="x")], presences=[presence(26), presence(20)],
             nonce="n", chunk_index=0, chunk_count=2),
        _ids(members=[], nonce="n", chunk_index=0, chunk_count=2),
    ],
    "GUILD_MEMBER_ADD": [_ids(**member(27)), _ids(**member(20, roles=["30"]))],
    "GUILD_MEMBER_REMOVE": [_ids(user=user(20)), _ids(user=user(21)), _ids(user=user(99))],
    "GUILD_MEMBER_UPDATE": [
        _ids(**member(20, nick="n", roles=["30", "31"], flags=2, joined_at=None)),
        _ids(user=user(21, "renamed", bot=True), roles=["32"]),
        _ids(user=user(22), roles=[], premium_since=WHEN, communication_disabled_until=LATER),
        _ids(**member(28, nick="late")),
    ],
    "GUILD_ROLE_CREATE": [_ids(role=role(33, 1)), _ids(role=role(34, 2))],
    "GUILD_ROLE_DELETE": [_ids(role_id="31"), _ids(role_id="30"), _ids(role_id="999")],
    "GUILD_ROLE_UPDATE": [_ids(role=role(30, 5, hoist=True)), _ids(role=role(999, 1))],
    "GUILD_SCHEDULED_EVENT_CREATE": [event(82, 102), event(83, None, user_count=4)],
    "GUILD_SCHEDULED_EVENT_DELETE": [event(80, 102), event(999, None)],
    "GUILD_SCHEDULED_EVENT_UPDATE": [event(80, 106, name="other"), event(999, None)],
    "GUILD_SOUNDBOARD_SOUNDS_UPDATE": [_ids(soundboard_sounds=[sound(61), sound(63)])],
    "GUILD_SOUNDBOARD_SOUND_CREATE": [sound(62)],
    "GUILD_SOUNDBOARD_SOUND_DELETE": [_ids(sound_id="60"), _ids(sound_id="999")],
    "GUILD_SOUNDBOARD_SOUND_UPDATE": [sound(61, name="other"), sound(999)],
    "GUILD_STICKERS_UPDATE": [_ids(stickers=[sticker(51)])],
    "GUILD_UPDATE": [_updated(), {**_updated(), "afk_channel_id": "106", "member_count": 6}],
    "PRESENCE_UPDATE": [presence(22, "dnd"), presence(20, "offline", activities=[]),
                        presence(999), _presence_with_user(23)],
    "STAGE_INSTANCE_CREATE": [stage(71, 103)],
    "STAGE_INSTANCE_DELETE": [stage(70, 103), stage(999, 103)],
    "STAGE_INSTANCE_UPDATE": [stage(70, 103, topic="other"), stage(999, 103)],
    "THREAD_CREATE": [thread(202, 100), thread(203, 105, newly_created=True), thread(200, 101)],
    "THREAD_DELETE": [thread(200, 100), thread(999, 100)],
    "THREAD_LIST_SYNC": [
        _ids(channel_ids=["100"], threads=[thread(204, 100)], members=[thread_member(204, 21)]),
        _ids(threads=[thread(201, 105)], members=[]), _ids(channel_ids=["105"], threads=[]),
    ],
    "THREAD_MEMBERS_UPDATE": [
        _ids(id="200", member_count=3, added_members=[thread_member(200, 21)]),
        _ids(id="200", member_count=3, added_members=[thread_member(200, 22)],
             removed_member_ids=["21"]),
        _ids(id="201", member_count=3, added_members=[thread_member(201, OWN)]),
        _ids(id="201", member_count=3, removed_member_ids=[str(OWN)]),
        _ids(id="999", member_count=3, added_members=[]),
    ],
    "THREAD_MEMBER_UPDATE": [_ids(**thread_member(200, OWN)), _ids(**thread_member(999, OWN))],
    "THREAD_UPDATE": [
        thread(200, 100, name="other", rate_limit_per_user=9, applied_tags=["1"], message_count=9),
        thread(205, 100), thread(201, 100, flags=2),
    ],
    "VOICE_STATE_UPDATE": [
        voice(20, None), voice(20, 106, self_mute=True), voice(22, 102), voice(29, 102),
        voice(28, 106, member=member(28)), voice(28, None, member=member(28)), voice(24, 999),
    ],
}  # fmt: skip
"""Payloads of every event that changes a guild, those that change nothing among them."""


def caches(intents: disnake.Intents, loop: asyncio.AbstractEventLoop) -> AutoShardedConnectionState:
    """disnake's caches, without a client."""
    state = AutoShardedConnectionState(
        dispatch=lambda *_: None, handlers={}, hooks={}, http=None, loop=loop, intents=intents
    )  # type: ignore[arg-type]
    state.user = ClientUser(state=state, data=user(OWN))  # type: ignore[arg-type]
    state._users[OWN] = state.user  # type: ignore[assignment]
    return state


def live(state: AutoShardedConnectionState, name: str, data: Payload) -> None:
    """An event as it comes; data is not touched."""
    data = json.loads(json.dumps(data))
    if name == "GUILD_CREATE":  # without the tasks of a join
        if not data.get("unavailable"):
            state._get_create_guild(data)
        return
    if name == "GUILD_MEMBERS_CHUNK":
        request = ChunkRequest(GUILD, state.loop, state._get_guild, cache=True)
        request.nonce = "n"
        state._chunk_requests["n"] = request
    state.parsers[name](data)


def plain(value: Any, inside: bool = False) -> Any:
    """An object of disnake by its attributes, other objects with ids by these."""
    if isinstance(value, dict):
        return {str(key): plain(one, inside) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one, inside) for one in value]
    if isinstance(value, enum.Enum | datetime.datetime | str | int | float | None):
        return repr(value)
    if inside and isinstance(value, disnake.Guild | disnake.abc.GuildChannel | disnake.Thread):
        return f"{type(value).__name__} {value.id}"
    names = dict.fromkeys(
        name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())
    )
    names.update(dict.fromkeys(getattr(value, "__dict__", ())))
    found = {"": type(value).__name__}
    for name in names:
        if name in _NOT_COMPARED or name.startswith(("_cs_", "__")):
            continue
        one = getattr(value, name, "(none)")
        owned = name in ("_channels", "_threads")
        found[name] = plain(one, inside=not owned)
    return found


_NOT_COMPARED = frozenset({
    "_state", "guild", "parent",
    "_large",  # of the moment when the guild came
    "creator",  # whoever of an event's creators was cached at that moment
})  # fmt: skip


def looks(state: AutoShardedConnectionState) -> Any:
    """Everything that is kept of the guild, but for channels that the library forgot to let go
    of and emojis of which a GUILD_UPDATE took no leave."""
    found = state._get_guild(GUILD)
    assert found is not None
    for one in found._voice_states.values():
        one.channel = one.channel and found.get_channel(one.channel.id)
    found.afk_channel = found.afk_channel and found.get_channel(found.afk_channel.id)
    emojis = [one.id in state._emojis for one in found.emojis]
    stickers = [one.id in state._stickers for one in found.stickers]
    sounds = [one.id in state._soundboard_sounds for one in found.soundboard_sounds]
    return plain(found), emojis, stickers, sounds
