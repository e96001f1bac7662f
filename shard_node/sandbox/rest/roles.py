"""Roles of a guild."""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import changes, faults
from shard_node.sandbox.changes import Event
from shard_node.sandbox.faults import ApiError
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.call import Call, Reply, Route, parse_id
from shard_node.sandbox.rest.guilds import check_name
from shard_node.sandbox.world import SandboxGuild


def list_roles(call: Call) -> list[Payload]:
    """GET all."""
    return list(call.guild().roles.values())


def get_role(call: Call) -> Payload:
    """GET one."""
    guild = call.guild()
    return guild.roles[_role(guild, call.id("role"))]


def create_role(call: Call) -> Payload:
    """POST: GUILD_ROLE_CREATE."""
    guild, given = call.guild(), call.form()
    if given.get("name") is not None:
        check_name(given["name"])
    role_id = call.state.world.snowflakes.next()
    call.dispatch(changes.create_role(guild, role_id, given), guild.id)
    return guild.roles[role_id]


def edit_role(call: Call) -> Payload:
    """PATCH one: GUILD_ROLE_UPDATE."""
    guild = call.guild()
    role_id = _role(guild, call.id("role"))
    call.dispatch(changes.update_role(guild, role_id, call.form()), guild.id)
    return guild.roles[role_id]


def move_roles(call: Call) -> list[Payload]:
    """PATCH positions: GUILD_ROLE_UPDATE for each."""
    guild = call.guild()
    moves = [(_role(guild, parse_id("id", i["id"])), i.get("position")) for i in call.items()]
    events: list[Event] = []
    for role_id, position in moves:
        if position is not None:
            events += changes.move_role(guild, role_id, int(position))
    call.dispatch(events, guild.id)
    return list(guild.roles.values())


def delete_role(call: Call) -> Reply:
    """DELETE: GUILD_ROLE_DELETE. @everyone and managed roles stay (50028)."""
    guild = call.guild()
    role_id = _role(guild, call.id("role"))
    if role_id == guild.id or guild.roles[role_id]["managed"]:
        raise ApiError(faults.INVALID_ROLE)
    call.dispatch(changes.delete_role(guild, role_id), guild.id)
    return Reply()


def _role(guild: SandboxGuild, role_id: int) -> int:
    if role_id not in guild.roles:
        raise ApiError(faults.UNKNOWN_ROLE)
    return role_id


_ROLES: Final = "/guilds/{guild}/roles"
ROUTES: Final = (
    Route("GET", _ROLES, list_roles),
    Route("POST", _ROLES, create_role),
    Route("PATCH", _ROLES, move_roles),
    Route("GET", _ROLES + "/{role}", get_role),
    Route("PATCH", _ROLES + "/{role}", edit_role),
    Route("DELETE", _ROLES + "/{role}", delete_role),
)
