"""Gateway addresses, the bot's own user and application, other users."""

from __future__ import annotations

from typing import Any, Final

from shard_node.sandbox import faults
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.payloads import APPLICATION_FLAGS, Payload
from shard_node.sandbox.rest.call import Call, Reply, Route, parse_id

GUILDS_PAGE_MAX: Final = 200
_NAME_MAX_CHARS: Final = 32


def get_gateway(call: Call) -> Payload:
    """GET /gateway."""
    return {"url": call.state.gateway_url}


def get_gateway_bot(call: Call) -> Payload:
    """GET /gateway/bot: recommended shards and the session start limit."""
    return call.state.gateway_bot()


def get_me(call: Call) -> Payload:
    """GET /users/@me."""
    return call.state.world.bot_user


def edit_me(call: Call) -> Payload:
    """PATCH /users/@me: the name; the avatar is left as it is."""
    name = call.form().get("username")
    if name is not None:
        if not isinstance(name, str) or not 2 <= len(name) <= _NAME_MAX_CHARS:
            raise invalid_field(
                "username", "BASE_TYPE_BAD_LENGTH", "Must be between 2 and 32 in length."
            )
        call.state.world.bot_user["username"] = name
        call.dispatch([("USER_UPDATE", call.state.world.bot_user)], None)
    return call.state.world.bot_user


def get_user(call: Call) -> Payload:
    """GET /users/{user}."""
    return call.user(call.id("user"))


def open_direct(call: Call) -> Payload:
    """POST /users/@me/channels."""
    user_id = parse_id("recipient_id", call.form().get("recipient_id"))
    if user_id == call.state.world.application_id:
        raise ApiError(faults.UNKNOWN_USER)
    call.user(user_id)
    return call.state.memory.open_direct(user_id)


def list_guilds(call: Call) -> list[Payload]:
    """GET /users/@me/guilds, in the order of ids, by ``before``, ``after`` and ``limit``."""
    limit = call.limit(GUILDS_PAGE_MAX, GUILDS_PAGE_MAX)
    before, after = call.query_id("before"), call.query_id("after")
    ids = sorted(call.state.world.guild_ids())
    if after is not None:
        ids = [guild_id for guild_id in ids if guild_id > after]
    if before is not None:
        ids = [guild_id for guild_id in ids if guild_id < before][-limit:]
    return [_partial_guild(call, guild_id) for guild_id in ids[:limit]]


def leave_guild(call: Call) -> Reply:
    """DELETE /users/@me/guilds/{guild}."""
    guild = call.guild()
    call.state.world.remove_guild(guild.id)
    call.state.hub.guild_left(guild.id)
    return Reply()


def get_application(call: Call) -> Payload:
    """GET /applications/@me and /oauth2/applications/@me."""
    world = call.state.world
    return {
        "id": str(world.application_id),
        "name": world.bot_user["username"],
        "icon": None,
        "description": "",
        "summary": "",
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": f"{world.application_id:064x}",
        "owner": world.user(world.user_ids()[0]),
        "team": None,
        "flags": APPLICATION_FLAGS,
        "bot": world.user(world.application_id),
        "tags": [],
        "redirect_uris": [],
        "rpc_origins": [],
        "interactions_endpoint_url": None,
        "role_connections_verification_url": None,
        "integration_types_config": {"0": {}},
        "approximate_guild_count": len(world),
        "approximate_user_install_count": 0,
    }


def _partial_guild(call: Call, guild_id: int) -> dict[str, Any]:
    guild = call.state.world.guild(guild_id)
    return {
        "id": str(guild_id),
        "name": guild.name,
        "icon": None,
        "banner": None,
        "owner": guild.owner_id == call.state.world.application_id,
        "permissions": str((1 << 50) - 1),
        "features": [],
    }


ROUTES: Final = (
    Route("GET", "/gateway", get_gateway, needs_token=False),
    Route("GET", "/gateway/bot", get_gateway_bot),
    Route("GET", "/users/@me", get_me),
    Route("PATCH", "/users/@me", edit_me),
    Route("GET", "/users/@me/guilds", list_guilds),
    Route("DELETE", "/users/@me/guilds/{guild}", leave_guild),
    Route("POST", "/users/@me/channels", open_direct),
    Route("GET", "/users/{user}", get_user),
    Route("GET", "/applications/@me", get_application),
    Route("GET", "/oauth2/applications/@me", get_application),
)
