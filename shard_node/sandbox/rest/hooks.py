"""Webhooks of channels: made by the bot, used with their token by anybody.

Their paths are those of interactions' followups, told apart by the first identifier
(`webhooks`). Source: Discord documentation, "Webhook Resource".
"""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import faults, payloads
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.faults import ApiError
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest import compose
from shard_node.sandbox.rest.call import Call, Reply, Route
from shard_node.sandbox.rest.guilds import check_name
from shard_node.sandbox.snowflake import mix

OF_CHANNEL_MAX: Final = 15
"""Discord's limit of webhooks in a channel."""
INCOMING: Final = 1


def create_hook(call: Call) -> Payload:
    """POST: WEBHOOKS_UPDATE. Raises 30007."""
    channel, guild_id = call.channel()
    if guild_id is None or channel["type"] != payloads.TEXT:
        raise ApiError(faults.NOT_A_TEXT_CHANNEL)
    name, state = check_name(call.form().get("name")), call.state
    if len(_of(call, channel["id"])) >= OF_CHANNEL_MAX:
        raise ApiError(faults.WEBHOOKS_FULL)
    hook_id = state.world.snowflakes.next()
    state.memory.hooks[hook_id] = {
        "id": str(hook_id),
        "type": INCOMING,
        "guild_id": str(guild_id),
        "channel_id": channel["id"],
        "application_id": state.world.bot_id,
        "name": name,
        "avatar": None,
        "token": f"{mix(state.config.seed, hook_id):016x}{mix(hook_id, 1):016x}",
        "user": state.world.user(state.world.application_id),
    }
    _tell(call, state.memory.hooks[hook_id])
    return state.memory.hooks[hook_id]


def list_of_channel(call: Call) -> list[Payload]:
    """GET a channel's."""
    return _of(call, call.channel()[0]["id"])


def list_of_guild(call: Call) -> list[Payload]:
    """GET a guild's."""
    guild_id = str(call.guild().id)
    return [hook for hook in call.state.memory.hooks.values() if hook["guild_id"] == guild_id]


def get_hook(call: Call) -> Payload:
    """GET one; with its token in the path it does not show who made it."""
    hook = find(call)
    return {k: v for k, v in hook.items() if k != "user"} if "token" in call.params else hook


def edit_hook(call: Call) -> Payload:
    """PATCH the name: WEBHOOKS_UPDATE."""
    hook = find(call)
    hook["name"] = check_name(call.form().get("name", hook["name"]))
    _tell(call, hook)
    return get_hook(call)


def delete_hook(call: Call) -> Reply:
    """DELETE: WEBHOOKS_UPDATE."""
    hook = find(call)
    del call.state.memory.hooks[int(hook["id"])]
    _tell(call, hook)
    return Reply()


def find(call: Call) -> Payload:
    """The webhook of the path. Raises 10015, and 50027 for a wrong token."""
    hook = call.state.memory.hooks.get(call.id("application"))
    if hook is None or call.state.world.guild_of_channel(int(hook["channel_id"])) is None:
        raise ApiError(faults.UNKNOWN_WEBHOOK)
    if call.params.get("token", hook["token"]) != hook["token"]:
        raise ApiError(faults.INVALID_WEBHOOK_TOKEN)
    return hook


def execute(call: Call) -> Reply:
    """POST a message in the webhook's name; ``wait`` shows it, ``thread_id`` sends it there."""
    hook, given = find(call), call.form()
    channel_id, guild_id = int(hook["channel_id"]), int(hook["guild_id"])
    thread_id = call.query_id("thread_id")
    if thread_id is not None:
        if thread_id not in call.state.world.guild(guild_id).threads:
            raise ApiError(faults.UNKNOWN_CHANNEL)
        channel_id = thread_id
    author = {
        "id": hook["id"],
        "username": str(given.get("username") or hook["name"]),
        "global_name": None,
        "discriminator": "0000",
        "avatar": None,
        "public_flags": 0,
        "bot": True,
    }
    fields = compose.fields_of(call, given) | {"webhook_id": hook["id"]}
    fields["flags"] = fields.get("flags", 0) & ~compose.EPHEMERAL
    entry = compose.publish(call.state, channel_id, guild_id, fields, author=author)
    return Reply(200, compose.rest_view(entry.payload)) if call.flag("wait") else Reply()


def message_of(call: Call, hook: Payload) -> Entry:
    """A message that the webhook has sent. Raises 10008."""
    channel_id = call.query_id("thread_id") or int(hook["channel_id"])
    entry = call.state.memory.archive.find(channel_id, call.id("message"))
    if entry is None or entry.payload.get("webhook_id") != hook["id"]:
        raise ApiError(faults.UNKNOWN_MESSAGE)
    return entry


def _of(call: Call, channel_id: str) -> list[Payload]:
    return [hook for hook in call.state.memory.hooks.values() if hook["channel_id"] == channel_id]


def _tell(call: Call, hook: Payload) -> None:
    told = {"guild_id": hook["guild_id"], "channel_id": hook["channel_id"]}
    call.dispatch([("WEBHOOKS_UPDATE", told)], int(hook["guild_id"]))


_ONE: Final = "/webhooks/{application}"
_WITH_TOKEN: Final = _ONE + "/{token}"
ROUTES: Final = (
    Route("POST", "/channels/{channel}/webhooks", create_hook),
    Route("GET", "/channels/{channel}/webhooks", list_of_channel),
    Route("GET", "/guilds/{guild}/webhooks", list_of_guild),
    Route("GET", _ONE, get_hook),
    Route("PATCH", _ONE, edit_hook),
    Route("DELETE", _ONE, delete_hook),
    Route("GET", _WITH_TOKEN, get_hook, needs_token=False, exempt=True),
    Route("PATCH", _WITH_TOKEN, edit_hook, needs_token=False, exempt=True),
    Route("DELETE", _WITH_TOKEN, delete_hook, needs_token=False, exempt=True),
)
