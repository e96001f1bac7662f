"""Messages of a channel: list, get, send, edit, delete, typing."""

from __future__ import annotations

from typing import Any, Final

from shard_node.sandbox import faults, payloads
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest import compose
from shard_node.sandbox.rest.call import Call, Reply, Route, parse_id

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 100
_NONCE_MAX_CHARS: Final = 25
_BULK_MIN, _BULK_MAX = 2, 100


def list_messages(call: Call) -> list[Payload]:
    """GET: newest first, by ``before``, ``after``, ``around`` and ``limit``."""
    channel, _ = call.channel()
    channel_id, limit = int(channel["id"]), call.limit(PAGE_DEFAULT, PAGE_MAX)
    before, after = call.query_id("before"), call.query_id("after")
    around = call.query_id("around")
    page = call.state.memory.archive.page
    if around is not None:
        half = limit // 2
        found = page(channel_id, half, after=around)
        found += page(channel_id, limit - half, before=around + 1)
    else:
        found = page(channel_id, limit, before=before, after=after)
    return [compose.rest_view(entry.payload) for entry in found]


def get_message(call: Call) -> Payload:
    """GET one."""
    return compose.rest_view(call.message().payload)


def send_message(call: Call) -> Payload:
    """POST: a message of the bot. A repeated ``nonce`` with ``enforce_nonce`` sends nothing."""
    channel, guild_id = call.channel()
    if channel["type"] == payloads.CATEGORY:
        raise ApiError(faults.NOT_A_TEXT_CHANNEL)
    channel_id, given = int(channel["id"]), call.form()
    nonce = _nonce(given)
    if nonce is not None and given.get("enforce_nonce"):
        bot_id = call.state.world.bot_id
        sent = call.state.memory.archive.with_nonce(channel_id, bot_id, nonce)
        if sent is not None:
            return compose.rest_view(sent.payload)
    fields = compose.fields_of(call, given) | compose.reference_of(call, given, channel_id)
    fields["flags"] = fields.get("flags", 0) & ~compose.EPHEMERAL
    if nonce is not None:
        fields["nonce"] = nonce
    entry = compose.publish(call.state, channel_id, guild_id, fields)
    compose.note_answer(call.state, entry.payload, call.now)
    return compose.rest_view(entry.payload)


def edit_message(call: Call) -> Payload:
    """PATCH: only the bot's own."""
    entry = call.message()
    if not _is_own(call, entry):
        raise ApiError(faults.NOT_YOUR_MESSAGE)
    compose.edit(call.state, entry, compose.fields_of(call, call.form(), old=entry.payload))
    return compose.rest_view(entry.payload)


def delete_message(call: Call) -> Reply:
    """DELETE: the bot's own, and in guilds anybody's."""
    entry = call.message()
    if entry.guild_id is None and not _is_own(call, entry):
        raise ApiError(faults.MISSING_PERMISSIONS)
    compose.delete(call.state, entry)
    return Reply()


def delete_messages(call: Call) -> Reply:
    """POST bulk-delete: 2 to 100 messages, those unknown left out."""
    channel, guild_id = call.channel()
    given = call.form().get("messages")
    if not isinstance(given, list) or not _BULK_MIN <= len(given) <= _BULK_MAX:
        raise invalid_field(
            "messages", "BASE_TYPE_BAD_LENGTH", "Must be between 2 and 100 in length."
        )
    channel_id, archive = int(channel["id"]), call.state.memory.archive
    found = [archive.find(channel_id, parse_id("messages", text)) for text in given]
    gone = [entry for entry in found if entry is not None]
    for entry in gone:
        archive.remove(entry)
    data: dict[str, Any] = {
        "ids": [str(entry.id) for entry in gone],
        "channel_id": channel["id"],
        "guild_id": str(guild_id),
    }
    call.dispatch([("MESSAGE_DELETE_BULK", data)], guild_id)
    return Reply()


def start_typing(call: Call) -> Reply:
    """POST typing."""
    channel, guild_id = call.channel()
    world = call.state.world
    data: dict[str, Any] = {
        "channel_id": channel["id"],
        "user_id": world.bot_id,
        "timestamp": call.state.clock.wall_ms() // 1000,
    }
    if guild_id is not None:
        data["guild_id"] = str(guild_id)
        data["member"] = world.guild(guild_id).members.get(world.application_id)
    call.dispatch([("TYPING_START", data)], guild_id)
    return Reply()


def _is_own(call: Call, entry: Entry) -> bool:
    return bool(entry.payload["author"]["id"] == call.state.world.bot_id)


def _nonce(given: dict[str, Any]) -> object:
    nonce = given.get("nonce")
    if nonce is not None and len(str(nonce)) > _NONCE_MAX_CHARS:
        raise invalid_field("nonce", "NONCE_TYPE_TOO_LONG", "Nonce must be 25 or fewer")
    return nonce


_MESSAGES: Final = "/channels/{channel}/messages"
ROUTES: Final = (
    Route("GET", _MESSAGES, list_messages),
    Route("POST", _MESSAGES, send_message),
    Route("POST", _MESSAGES + "/bulk-delete", delete_messages),
    Route("GET", _MESSAGES + "/{message}", get_message),
    Route("PATCH", _MESSAGES + "/{message}", edit_message),
    Route("DELETE", _MESSAGES + "/{message}", delete_message),
    Route("POST", "/channels/{channel}/typing", start_typing),
)
