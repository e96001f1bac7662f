"""From a request's body to a message: checks, fields, the archive and its event."""

from __future__ import annotations

import re
from typing import Any, Final

from shard_node.sandbox import faults, payloads
from shard_node.sandbox.answers import Answer
from shard_node.sandbox.archive import Entry, walk
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.call import Call, Upload, parse_id
from shard_node.sandbox.state import SandboxState

CONTENT_MAX_CHARS: Final = 2000
EMBEDS_MAX: Final = 10
ROWS_MAX: Final = 40
EPHEMERAL: Final = 1 << 6
LOADING: Final = 1 << 7
COMPONENTS_V2: Final = 1 << 15
REPLY: Final = 19
_SETTABLE_FLAGS: Final = 1 << 2 | EPHEMERAL | 1 << 12 | COMPONENTS_V2
_USER_MENTION: Final = re.compile(r"<@!?(\d{15,20})>")
_ROLE_MENTION: Final = re.compile(r"<@&(\d{15,20})>")
_ASKED: Final = re.compile(r"\d{15,20}")
_ONLY_IN_EVENTS: Final = ("guild_id", "member", "channel_type")
_LISTS: Final = (("embeds", EMBEDS_MAX), ("components", ROWS_MAX), ("attachments", EMBEDS_MAX))


def fields_of(call: Call, given: dict[str, Any], *, old: Payload | None = None) -> Payload:
    """The message fields that a body sets, checked. Raises 50006, 50035.

    ``old`` is the message that an edit changes: what the body does not name stays.
    """
    fields = _given_fields(given)
    if call.files or "attachments" in fields:
        before: list[Payload] = old["attachments"] if old else []
        kept = fields.get("attachments")
        fields["attachments"] = _attachments(call, before if kept is None else kept, before)
    if "embeds" in fields:
        fields["embeds"] = [{"type": "rich", **embed} for embed in fields["embeds"]]
    if "components" in fields:
        number_components(fields["components"])
    if "content" in fields:
        fields |= _mentions(call.state, fields["content"])
    merged = {**(old or {}), **fields}
    if not any(merged.get(k) for k in ("content", "embeds", "components", "attachments")) and not (
        given.get("sticker_ids") or given.get("poll")
    ):
        raise ApiError(faults.EMPTY_MESSAGE)
    return fields


def _given_fields(given: dict[str, Any]) -> Payload:
    fields: Payload = {}
    if "content" in given:
        fields["content"] = _content(given["content"])
    for name, most in _LISTS:
        if name in given:
            fields[name] = objects(name, given[name], most)
    if "flags" in given:
        fields["flags"] = int(given["flags"] or 0) & _SETTABLE_FLAGS
    if given.get("tts"):
        fields["tts"] = True
    return fields


def _content(value: object) -> str:
    text = "" if value is None else str(value)
    if len(text) > CONTENT_MAX_CHARS:
        raise invalid_field(
            "content",
            "BASE_TYPE_MAX_LENGTH",
            f"Must be {CONTENT_MAX_CHARS} or fewer in length.",
        )
    return text


def objects(name: str, value: object, most: int) -> list[dict[str, Any]]:
    """A list of at most so many objects. Raises 50035."""
    items = [] if value is None else value
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise invalid_field(name, "LIST_TYPE_CONVERT", "Only iterables may be used")
    if len(items) > most:
        raise invalid_field(name, "BASE_TYPE_MAX_LENGTH", f"Must be {most} or fewer in length.")
    return items


def _attachments(call: Call, kept: list[Payload], before: list[Payload]) -> list[Payload]:
    """What stays of the old ones, then the uploads, described by the body where it does."""
    old = {attachment["id"]: attachment for attachment in before}
    described = {str(attachment.get("id")): attachment for attachment in kept}
    stay = [old[key] for key in described if key in old]
    return stay + [
        _attachment(call.state, upload, described.get(str(index), {}))
        for index, upload in enumerate(call.files)
    ]


def _attachment(state: SandboxState, upload: Upload, described: Payload) -> Payload:
    identifier = str(state.world.snowflakes.next())
    filename = described.get("filename") or upload.filename
    url = f"{state.rest_url.removesuffix('/api/v10')}/attachments/{identifier}/{filename}"
    return {
        "id": identifier,
        "filename": filename,
        "description": described.get("description"),
        "content_type": upload.content_type,
        "size": upload.size_bytes,
        "url": url,
        "proxy_url": url,
    }


def number_components(components: list[Payload]) -> None:
    """Give each component the ``id`` that Discord gives where the sender gave none."""
    for number, component in enumerate(walk(components), start=1):
        component.setdefault("id", number)


def _mentions(state: SandboxState, content: str) -> Payload:
    users = []
    for text in dict.fromkeys(_USER_MENTION.findall(content)):
        try:
            users.append(state.world.user(int(text)))
        except KeyError:
            continue
    return {
        "mentions": users,
        "mention_roles": list(dict.fromkeys(_ROLE_MENTION.findall(content))),
    }


def reference_of(call: Call, given: dict[str, Any], channel_id: int) -> Payload:
    """Fields of a reply. Raises 50035 for a message that does not exist."""
    reference = given.get("message_reference")
    if not isinstance(reference, dict):
        return {}
    message_id = parse_id("message_reference", reference.get("message_id"))
    target = call.state.memory.archive.find(channel_id, message_id)
    if target is None:
        if reference.get("fail_if_not_exists", True):
            raise invalid_field("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
        return {}
    link = {"type": 0, "message_id": str(message_id), "channel_id": str(channel_id)}
    if target.guild_id is not None:
        link["guild_id"] = str(target.guild_id)
    shown = {k: v for k, v in target.payload.items() if k != "referenced_message"}
    return {
        "type": REPLY,
        "message_reference": link,
        "referenced_message": rest_view(shown),
    }


def publish(
    state: SandboxState,
    channel_id: int,
    guild_id: int | None,
    fields: Payload,
    *,
    author: Payload | None = None,
) -> Entry:
    """A new message of the bot, or of ``author``: archived, and told unless it is ephemeral."""
    world = state.world
    identifier = world.snowflakes.next()
    member = None
    if guild_id is not None and author is None:
        member = world.guild(guild_id).members.get(world.application_id)
    author = author or world.user(world.application_id)
    payload = payloads.message(
        identifier, channel_id, author, "", guild_id=guild_id, member_payload=member
    )
    payload |= fields
    hidden = bool(payload["flags"] & EPHEMERAL)
    entry = Entry(identifier, channel_id, guild_id, payload, hidden=hidden)
    state.memory.archive.add(entry)
    if not hidden:
        note_last_message(state, channel_id, guild_id, identifier)
        state.hub.dispatch("MESSAGE_CREATE", payload, guild_id=guild_id)
    return entry


def note_last_message(
    state: SandboxState, channel_id: int, guild_id: int | None, message_id: int
) -> None:
    """The channel object names its newest message."""
    if guild_id is None:
        channel = state.memory.direct(channel_id)
    else:
        channel = state.world.guild(guild_id).place(channel_id)
    if channel is not None:
        channel["last_message_id"] = str(message_id)


def edit(state: SandboxState, entry: Entry, fields: Payload) -> None:
    """Change a message and tell; what was loading is edited for the first time."""
    was_loading = entry.payload["flags"] & LOADING
    entry.payload |= fields
    entry.payload["flags"] &= ~LOADING
    if not was_loading:
        entry.payload["edited_timestamp"] = payloads.timestamp(state.clock.wall_ms())
    if not entry.hidden:
        state.hub.dispatch("MESSAGE_UPDATE", entry.payload, guild_id=entry.guild_id)


def delete(state: SandboxState, entry: Entry) -> None:
    """Forget a message and tell."""
    state.memory.archive.remove(entry)
    if entry.hidden:
        return
    data = {"id": str(entry.id), "channel_id": str(entry.channel_id)}
    if entry.guild_id is not None:
        data["guild_id"] = str(entry.guild_id)
    state.hub.dispatch("MESSAGE_DELETE", data, guild_id=entry.guild_id)


def rest_view(payload: Payload) -> Payload:
    """A message as REST gives it: without what only gateway events carry."""
    return {key: value for key, value in payload.items() if key not in _ONLY_IN_EVENTS}


def note_answer(state: SandboxState, payload: Payload, now: float) -> None:
    """Audit a message of the bot as the answer to one that asked.

    The one that it replies to, else the first whose id stands in its content (a player's
    question carries its own id, see `players`).
    """
    reference = payload.get("message_reference") or {}
    named = [reference.get("message_id") or 0, *_ASKED.findall(payload["content"])]
    for text in named:
        if state.audit.messages.answer(int(text), now) is not Answer.UNKNOWN:
            return
    state.audit.counters["messages_unasked"] += 1
