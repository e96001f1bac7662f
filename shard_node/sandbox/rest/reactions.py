"""Reactions under a message."""

from __future__ import annotations

from typing import Any, Final

from shard_node.sandbox import faults
from shard_node.sandbox.archive import Entry, Reaction
from shard_node.sandbox.faults import ApiError
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.call import Call, Reply, Route

PAGE_DEFAULT: Final = 25
PAGE_MAX: Final = 100


def add_reaction(call: Call) -> Reply:
    """PUT @me."""
    entry, user_id = call.message(), call.state.world.application_id
    emoji = _emoji(call.params["emoji"])
    reaction = entry.reactions.setdefault(_key(emoji), Reaction(emoji))
    if user_id not in reaction.user_ids:
        reaction.user_ids[user_id] = None
        _tell(call, "MESSAGE_REACTION_ADD", entry, emoji, user_id)
    return Reply()


def remove_own(call: Call) -> Reply:
    """DELETE @me."""
    return _remove(call, call.state.world.application_id)


def remove_users(call: Call) -> Reply:
    """DELETE somebody's."""
    return _remove(call, call.id("user"))


def list_users(call: Call) -> list[Payload]:
    """GET who reacted."""
    reaction = _reaction(call.message(), call.params["emoji"])
    limit, after = call.limit(PAGE_DEFAULT, PAGE_MAX), call.query_id("after") or 0
    ids = sorted(user_id for user_id in reaction.user_ids if user_id > after)
    return [call.state.world.user(user_id) for user_id in ids[:limit]]


def clear_emoji(call: Call) -> Reply:
    """DELETE all of one emoji."""
    entry = call.message()
    reaction = _reaction(entry, call.params["emoji"])
    del entry.reactions[_key(reaction.emoji)]
    _tell(call, "MESSAGE_REACTION_REMOVE_EMOJI", entry, reaction.emoji, None)
    return Reply()


def clear(call: Call) -> Reply:
    """DELETE all."""
    entry = call.message()
    entry.reactions.clear()
    _tell(call, "MESSAGE_REACTION_REMOVE_ALL", entry, None, None)
    return Reply()


def _remove(call: Call, user_id: int) -> Reply:
    entry = call.message()
    reaction = _reaction(entry, call.params["emoji"])
    if user_id in reaction.user_ids:
        del reaction.user_ids[user_id]
        if not reaction.user_ids:
            del entry.reactions[_key(reaction.emoji)]
        _tell(call, "MESSAGE_REACTION_REMOVE", entry, reaction.emoji, user_id)
    return Reply()


def _reaction(entry: Entry, text: str) -> Reaction:
    reaction = entry.reactions.get(_key(_emoji(text)))
    if reaction is None:
        raise ApiError(faults.UNKNOWN_EMOJI)
    return reaction


def _emoji(text: str) -> Payload:
    """Partial emoji of ``name:id`` or of a Unicode emoji. Raises 10014."""
    name, separator, identifier = text.rpartition(":")
    if separator:
        if not identifier.isdecimal():
            raise ApiError(faults.UNKNOWN_EMOJI)
        return {"id": identifier, "name": name.removeprefix("a:")}
    if not text or text.isascii():
        raise ApiError(faults.UNKNOWN_EMOJI)
    return {"id": None, "name": text}


def _key(emoji: Payload) -> str:
    return str(emoji["id"] or emoji["name"])


def _tell(call: Call, event: str, entry: Entry, emoji: Payload | None, user_id: int | None) -> None:
    data: dict[str, Any] = {"channel_id": str(entry.channel_id), "message_id": str(entry.id)}
    world = call.state.world
    if entry.guild_id is not None:
        data["guild_id"] = str(entry.guild_id)
    if emoji is not None:
        data["emoji"] = emoji
    if user_id is not None:
        data |= {"user_id": str(user_id), "burst": False, "type": 0}
        if entry.guild_id is not None and event == "MESSAGE_REACTION_ADD":
            data["member"] = world.guild(entry.guild_id).members.get(user_id)
    entry.payload["reactions"] = [_count(r, world.application_id) for r in entry.reactions.values()]
    call.dispatch([(event, data)], entry.guild_id)


def _count(reaction: Reaction, bot_id: int) -> Payload:
    count = len(reaction.user_ids)
    return {
        "emoji": reaction.emoji,
        "count": count,
        "count_details": {"burst": 0, "normal": count},
        "me": bot_id in reaction.user_ids,
        "me_burst": False,
        "burst_colors": [],
    }


_ALL: Final = "/channels/{channel}/messages/{message}/reactions"
_ONE: Final = _ALL + "/{emoji}"
ROUTES: Final = (
    Route("DELETE", _ALL, clear),
    Route("GET", _ONE, list_users),
    Route("DELETE", _ONE, clear_emoji),
    Route("PUT", _ONE + "/@me", add_reaction),
    Route("DELETE", _ONE + "/@me", remove_own),
    Route("DELETE", _ONE + "/{user}", remove_users),
)
