"""Gateway intents: which event needs which, and what is withheld without one.

Source: Discord's gateway documentation, "List of Intents" and "Message Content Intent".
"""

from __future__ import annotations

from typing import Any

GUILDS = 1 << 0
GUILD_MEMBERS = 1 << 1
GUILD_MODERATION = 1 << 2
GUILD_EXPRESSIONS = 1 << 3
GUILD_INTEGRATIONS = 1 << 4
GUILD_WEBHOOKS = 1 << 5
GUILD_INVITES = 1 << 6
GUILD_VOICE_STATES = 1 << 7
GUILD_PRESENCES = 1 << 8
GUILD_MESSAGES = 1 << 9
GUILD_MESSAGE_REACTIONS = 1 << 10
GUILD_MESSAGE_TYPING = 1 << 11
DIRECT_MESSAGES = 1 << 12
DIRECT_MESSAGE_REACTIONS = 1 << 13
DIRECT_MESSAGE_TYPING = 1 << 14
MESSAGE_CONTENT = 1 << 15
GUILD_SCHEDULED_EVENTS = 1 << 16
AUTO_MODERATION_CONFIGURATION = 1 << 20
AUTO_MODERATION_EXECUTION = 1 << 21
GUILD_MESSAGE_POLLS = 1 << 24
DIRECT_MESSAGE_POLLS = 1 << 25

ALL = (
    sum(1 << bit for bit in range(17))
    | AUTO_MODERATION_CONFIGURATION
    | AUTO_MODERATION_EXECUTION
    | GUILD_MESSAGE_POLLS
    | DIRECT_MESSAGE_POLLS
)
PRIVILEGED = GUILD_MEMBERS | GUILD_PRESENCES | MESSAGE_CONTENT

_IN_GUILDS: dict[int, tuple[str, ...]] = {
    GUILDS: (
        "GUILD_CREATE",
        "GUILD_UPDATE",
        "GUILD_DELETE",
        "GUILD_ROLE_CREATE",
        "GUILD_ROLE_UPDATE",
        "GUILD_ROLE_DELETE",
        "CHANNEL_CREATE",
        "CHANNEL_UPDATE",
        "CHANNEL_DELETE",
        "CHANNEL_PINS_UPDATE",
        "THREAD_CREATE",
        "THREAD_UPDATE",
        "THREAD_DELETE",
        "THREAD_LIST_SYNC",
        "THREAD_MEMBER_UPDATE",
        "THREAD_MEMBERS_UPDATE",
        "STAGE_INSTANCE_CREATE",
        "STAGE_INSTANCE_UPDATE",
        "STAGE_INSTANCE_DELETE",
    ),
    GUILD_MEMBERS: ("GUILD_MEMBER_ADD", "GUILD_MEMBER_UPDATE", "GUILD_MEMBER_REMOVE"),
    GUILD_MODERATION: ("GUILD_AUDIT_LOG_ENTRY_CREATE", "GUILD_BAN_ADD", "GUILD_BAN_REMOVE"),
    GUILD_EXPRESSIONS: ("GUILD_EMOJIS_UPDATE", "GUILD_STICKERS_UPDATE"),
    GUILD_INTEGRATIONS: (
        "GUILD_INTEGRATIONS_UPDATE",
        "INTEGRATION_CREATE",
        "INTEGRATION_UPDATE",
        "INTEGRATION_DELETE",
    ),
    GUILD_WEBHOOKS: ("WEBHOOKS_UPDATE",),
    GUILD_INVITES: ("INVITE_CREATE", "INVITE_DELETE"),
    GUILD_VOICE_STATES: ("VOICE_STATE_UPDATE", "VOICE_CHANNEL_EFFECT_SEND"),
    GUILD_PRESENCES: ("PRESENCE_UPDATE",),
    GUILD_MESSAGES: ("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK"),
    GUILD_MESSAGE_REACTIONS: (
        "MESSAGE_REACTION_ADD",
        "MESSAGE_REACTION_REMOVE",
        "MESSAGE_REACTION_REMOVE_ALL",
        "MESSAGE_REACTION_REMOVE_EMOJI",
    ),
    GUILD_MESSAGE_TYPING: ("TYPING_START",),
    GUILD_SCHEDULED_EVENTS: (
        "GUILD_SCHEDULED_EVENT_CREATE",
        "GUILD_SCHEDULED_EVENT_UPDATE",
        "GUILD_SCHEDULED_EVENT_DELETE",
        "GUILD_SCHEDULED_EVENT_USER_ADD",
        "GUILD_SCHEDULED_EVENT_USER_REMOVE",
    ),
    AUTO_MODERATION_CONFIGURATION: (
        "AUTO_MODERATION_RULE_CREATE",
        "AUTO_MODERATION_RULE_UPDATE",
        "AUTO_MODERATION_RULE_DELETE",
    ),
    AUTO_MODERATION_EXECUTION: ("AUTO_MODERATION_ACTION_EXECUTION",),
    GUILD_MESSAGE_POLLS: ("MESSAGE_POLL_VOTE_ADD", "MESSAGE_POLL_VOTE_REMOVE"),
}
_DIRECT: dict[int, int] = {
    GUILD_MESSAGES: DIRECT_MESSAGES,
    GUILD_MESSAGE_REACTIONS: DIRECT_MESSAGE_REACTIONS,
    GUILD_MESSAGE_TYPING: DIRECT_MESSAGE_TYPING,
    GUILD_MESSAGE_POLLS: DIRECT_MESSAGE_POLLS,
    GUILDS: DIRECT_MESSAGES,
}
_GUILD_INTENT: dict[str, int] = {e: bit for bit, events in _IN_GUILDS.items() for e in events}

_CONTENT_EVENTS = frozenset({"MESSAGE_CREATE", "MESSAGE_UPDATE"})
_CONTENT_BLANKS: tuple[tuple[str, Any], ...] = (
    ("content", ""),
    ("embeds", []),
    ("attachments", []),
    ("components", []),
)


def required(event: str, *, direct: bool) -> int:
    """The intents of which a session needs one to get an event; 0 when it needs none."""
    bit = _GUILD_INTENT.get(event, 0)
    return _DIRECT.get(bit, bit) if direct else bit


def receives(intents: int, event: str, data: dict[str, Any], *, direct: bool, bot_id: str) -> bool:
    """Whether a session with these intents gets an event.

    A member update of the bot itself needs no privileged intent.
    """
    need = required(event, direct=direct)
    if need == 0 or intents & need:
        return True
    return event == "GUILD_MEMBER_UPDATE" and data.get("user", {}).get("id") == bot_id


def content_hidden(event: str, data: dict[str, Any], *, direct: bool, bot_id: str) -> bool:
    """Whether an event's content is blanked for sessions without MESSAGE_CONTENT.

    Direct messages, the bot's own messages and those that mention it keep their content.
    """
    if direct or event not in _CONTENT_EVENTS:
        return False
    if data.get("author", {}).get("id") == bot_id:
        return False
    return all(user.get("id") != bot_id for user in data.get("mentions", ()))


def without_content(data: dict[str, Any]) -> dict[str, Any]:
    """A message's copy with what MESSAGE_CONTENT guards blanked."""
    blanked = dict(data)
    blanked.update((key, value) for key, value in _CONTENT_BLANKS if key in data)
    blanked.pop("poll", None)
    return blanked
