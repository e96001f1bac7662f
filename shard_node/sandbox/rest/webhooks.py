"""Interactions: callback, ``@original`` and followups. None of them needs the token of the bot.

Source: Discord documentation, "Interactions: Receiving and Responding".
"""

from __future__ import annotations

from typing import Any, Final

from shard_node.sandbox import faults
from shard_node.sandbox.answers import Answer
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.interactions import Interaction, looks_like_token
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest import compose, hooks
from shard_node.sandbox.rest.call import Call, Reply, Route

PONG, MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE = 1, 4, 5, 6, 7
CHOICES, MODAL = 8, 9
COMMAND, COMPONENT, AUTOCOMPLETE, SUBMIT = 2, 3, 4, 5
ALLOWED: Final = {
    COMMAND: frozenset({PONG, MESSAGE, DEFERRED, MODAL}),
    COMPONENT: frozenset({PONG, MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE, MODAL}),
    AUTOCOMPLETE: frozenset({PONG, CHOICES}),
    SUBMIT: frozenset({PONG, MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE}),
}
"""Callback types that each interaction type may be answered with."""
CHAT_INPUT_COMMAND: Final = 20
CHOICES_MAX: Final = 25
MODAL_ROWS_MAX: Final = 5


def acknowledge(call: Call) -> Reply:
    """POST the callback: first in time, once. Raises 10062 (late, unknown), 40060 (again)."""
    interaction = _named(call)
    given = call.form()
    kind, data = given.get("type"), given.get("data") or {}
    if kind not in ALLOWED[interaction.kind] or not isinstance(data, dict):
        raise invalid_field("type", "BASE_TYPE_CHOICES", "This callback type is not allowed here.")
    fields = _checked(call, interaction, kind, data)
    answer = call.state.audit.interactions.acknowledge(interaction, kind, call.now)
    if answer is Answer.AGAIN:
        raise ApiError(faults.ALREADY_ACKNOWLEDGED)
    if answer is not Answer.FIRST:
        raise ApiError(faults.UNKNOWN_INTERACTION)
    message = _carry_out(call, interaction, kind, fields)
    if not call.flag("with_response"):
        return Reply()
    return Reply(200, _callback_response(interaction, kind, message))


def _named(call: Call) -> Interaction:
    interaction = call.state.audit.interactions.find(
        call.id("interaction"), call.params["token"], call.now
    )
    if interaction is None:
        raise ApiError(faults.UNKNOWN_INTERACTION)
    return interaction


def _checked(call: Call, interaction: Interaction, kind: int, data: dict[str, Any]) -> Payload:
    """Message fields of the callback, checked before it counts."""
    if kind == MESSAGE:
        return compose.fields_of(call, data)
    if kind == UPDATE:
        source = _source(call, interaction)
        return compose.fields_of(call, data, old=source.payload)
    if kind == DEFERRED:
        return {"flags": int(data.get("flags") or 0) & compose.EPHEMERAL | compose.LOADING}
    if kind == CHOICES and not isinstance(data.get("choices"), list):
        raise invalid_field("choices", "BASE_TYPE_REQUIRED", "This field is required")
    if kind == CHOICES and len(data["choices"]) > CHOICES_MAX:
        raise invalid_field("choices", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
    return _modal(data) if kind == MODAL else {}


def _modal(data: dict[str, Any]) -> Payload:
    for name in ("custom_id", "title", "components"):
        if not data.get(name):
            raise invalid_field(name, "BASE_TYPE_REQUIRED", "This field is required")
    shown = compose.objects("components", data["components"], MODAL_ROWS_MAX)
    compose.number_components(shown)
    return {"custom_id": str(data["custom_id"]), "components": shown}


def _carry_out(call: Call, interaction: Interaction, kind: int, fields: Payload) -> Entry | None:
    if kind in (MESSAGE, DEFERRED):
        entry = _reply(call, interaction, fields)
        interaction.original_id = entry.id
        return entry
    if kind == UPDATE:
        source = _source(call, interaction)
        compose.edit(call.state, source, fields)
        return source
    if kind == MODAL:
        call.state.memory.modals.show(interaction, fields)
    return None


def _reply(call: Call, interaction: Interaction, fields: Payload) -> Entry:
    extra = {
        "type": CHAT_INPUT_COMMAND if interaction.kind == COMMAND else compose.REPLY,
        "webhook_id": call.state.world.bot_id,
        "application_id": call.state.world.bot_id,
        "interaction_metadata": _metadata(call, interaction),
    }
    channel_id, guild_id = interaction.channel_id, interaction.guild_id
    if guild_id is not None and guild_id not in call.state.world:
        raise ApiError(faults.UNKNOWN_CHANNEL)
    return compose.publish(call.state, channel_id, guild_id, extra | fields)


def _metadata(call: Call, interaction: Interaction) -> Payload:
    owners = {"0": str(interaction.guild_id or 0)}
    return {
        "id": str(interaction.id),
        "type": interaction.kind,
        "user": call.state.world.user(interaction.user_id),
        "authorizing_integration_owners": owners,
        **({"name": interaction.name} if interaction.name else {}),
    }


def _callback_response(interaction: Interaction, kind: int, message: Entry | None) -> Payload:
    response: Payload = {"interaction": {"id": str(interaction.id), "type": interaction.kind}}
    if message is not None:
        response["interaction"] |= {
            "response_message_id": str(message.id),
            "response_message_loading": kind == DEFERRED,
            "response_message_ephemeral": message.hidden,
        }
        shown = compose.rest_view(message.payload)
        response["resource"] = {"type": kind, "message": shown}
    return response


def _source(call: Call, interaction: Interaction) -> Entry:
    entry = None
    if interaction.source_id is not None:
        entry = call.state.memory.archive.find(interaction.channel_id, interaction.source_id)
    if entry is None:
        raise ApiError(faults.UNKNOWN_MESSAGE)
    return entry


# -- The webhook that an interaction's token opens


def send_followup(call: Call) -> Payload | Reply:
    """POST: the reply that a deferral owes, else one more message; or a webhook's message."""
    if _is_hook(call):
        return hooks.execute(call)
    interaction = _of_token(call)
    fields = compose.fields_of(call, call.form())
    if interaction.deferred and interaction.original_id is not None:
        entry = _original(call, interaction)
        _complete(call, interaction, entry, fields)
    else:
        entry = _reply(call, interaction, fields)
    return compose.rest_view(entry.payload)


def get_webhook_message(call: Call) -> Payload:
    """GET ``@original`` or a followup."""
    if _is_hook(call):
        return compose.rest_view(hooks.message_of(call, hooks.find(call)).payload)
    return compose.rest_view(_webhook_message(call, _of_token(call)).payload)


def edit_webhook_message(call: Call) -> Payload:
    """PATCH ``@original`` or a followup; or a webhook's message."""
    if _is_hook(call):
        sent = hooks.message_of(call, hooks.find(call))
        compose.edit(call.state, sent, compose.fields_of(call, call.form(), old=sent.payload))
        return compose.rest_view(sent.payload)
    interaction = _of_token(call)
    entry = _webhook_message(call, interaction)
    fields = compose.fields_of(call, call.form(), old=entry.payload)
    if entry.id == interaction.original_id:
        _complete(call, interaction, entry, fields)
    else:
        compose.edit(call.state, entry, fields)
    return compose.rest_view(entry.payload)


def delete_webhook_message(call: Call) -> Reply:
    """DELETE ``@original`` or a followup; or a webhook's message."""
    if _is_hook(call):
        compose.delete(call.state, hooks.message_of(call, hooks.find(call)))
        return Reply()
    interaction = _of_token(call)
    entry = _webhook_message(call, interaction)
    compose.delete(call.state, entry)
    if entry.id == interaction.original_id:
        interaction.original_id = None
        call.state.audit.interactions.complete(interaction)
    return Reply()


def _is_hook(call: Call) -> bool:
    """Whether the path names a channel's webhook, and not the application."""
    return call.id("application") in call.state.memory.hooks


def _complete(call: Call, interaction: Interaction, entry: Entry, fields: Payload) -> None:
    """Edit the original; the flags of a deferral (ephemeral or not) are settled by then."""
    if "flags" in fields:
        fixed = entry.payload["flags"] & (compose.EPHEMERAL | compose.LOADING)
        fields["flags"] = fields["flags"] & ~compose.EPHEMERAL | fixed
    call.state.audit.interactions.complete(interaction)
    compose.edit(call.state, entry, fields)


def _of_token(call: Call) -> Interaction:
    """The interaction that opened this webhook. Raises 10015; 50027 for an old one."""
    token = call.params["token"]
    interaction = call.state.audit.interactions.of_token(token, call.now)
    if call.id("application") != call.state.world.application_id:
        raise ApiError(faults.UNKNOWN_WEBHOOK)
    if interaction is None and looks_like_token(token):
        raise ApiError(faults.INVALID_WEBHOOK_TOKEN)
    if interaction is None or not interaction.acknowledged:
        raise ApiError(faults.UNKNOWN_WEBHOOK)
    return interaction


def _webhook_message(call: Call, interaction: Interaction) -> Entry:
    if call.params["message"] == "@original":
        return _original(call, interaction)
    entry = call.state.memory.archive.find(interaction.channel_id, call.id("message"))
    metadata = entry.payload.get("interaction_metadata", {}) if entry else {}
    if entry is None or metadata.get("id") != str(interaction.id):
        raise ApiError(faults.UNKNOWN_MESSAGE)
    return entry


def _original(call: Call, interaction: Interaction) -> Entry:
    entry = None
    if interaction.original_id is not None:
        channel_id = interaction.channel_id
        entry = call.state.memory.archive.find(channel_id, interaction.original_id)
    if entry is None:
        raise ApiError(faults.UNKNOWN_MESSAGE)
    return entry


_HOOK: Final = "/webhooks/{application}/{token}"
_ONE: Final = _HOOK + "/messages/{message}"
_CALLBACK: Final = "/interactions/{interaction}/{token}/callback"
ROUTES: Final = (
    Route("POST", _CALLBACK, acknowledge, needs_token=False, exempt=True),
    Route("POST", _HOOK, send_followup, needs_token=False, exempt=True),
    Route("GET", _ONE, get_webhook_message, needs_token=False, exempt=True),
    Route("PATCH", _ONE, edit_webhook_message, needs_token=False, exempt=True),
    Route("DELETE", _ONE, delete_webhook_message, needs_token=False, exempt=True),
)
