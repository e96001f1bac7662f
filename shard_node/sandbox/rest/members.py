"""Members, bans and the roles of members."""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import changes, faults
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.call import Call, Reply, Route, parse_id
from shard_node.sandbox.world import SandboxGuild

PAGE_MAX: Final = 1000
NICK_MAX_CHARS: Final = 32


def get_member(call: Call) -> Payload:
    """GET one."""
    return call.member(call.guild())[1]


def list_members(call: Call) -> list[Payload]:
    """GET in the order of user ids, by ``after`` and ``limit`` (1 by default)."""
    guild, limit = call.guild(), call.limit(1, PAGE_MAX)
    after = call.query_id("after") or 0
    ids = sorted(user_id for user_id in guild.members if user_id > after)
    return [guild.members[user_id] for user_id in ids[:limit]]


def search_members(call: Call) -> list[Payload]:
    """GET those whose name or nick begins with ``query``."""
    guild, limit = call.guild(), call.limit(1, PAGE_MAX)
    query = call.query.get("query", "").lower()
    if not query:
        raise invalid_field("query", "BASE_TYPE_REQUIRED", "This field is required")
    found = [member for member in guild.members.values() if _begins(member, query)]
    return found[:limit]


def edit_member(call: Call) -> Payload:
    """PATCH nick, roles, mute, deaf or timeout: GUILD_MEMBER_UPDATE."""
    guild = call.guild()
    user_id, _ = call.member(guild)
    given = call.form()
    if len(str(given.get("nick") or "")) > NICK_MAX_CHARS:
        raise invalid_field(
            "nick", "BASE_TYPE_BAD_LENGTH", f"Must be {NICK_MAX_CHARS} or fewer in length."
        )
    if "roles" in given:
        given["roles"] = [_known_role(guild, text) for text in given["roles"] or []]
    call.dispatch(changes.update_member(guild, user_id, given), guild.id)
    return guild.members[user_id]


def kick_member(call: Call) -> Reply:
    """DELETE: GUILD_MEMBER_REMOVE."""
    guild = call.guild()
    user_id, _ = call.member(guild)
    _check_may_remove(call, guild, user_id)
    call.dispatch(changes.remove_member(guild, user_id), guild.id)
    return Reply()


def list_bans(call: Call) -> list[Payload]:
    """GET bans in the order of user ids, by ``before``, ``after`` and ``limit``."""
    guild, limit = call.guild(), call.limit(PAGE_MAX, PAGE_MAX)
    before, after = call.query_id("before"), call.query_id("after")
    ids = sorted(guild.bans)
    if after is not None:
        ids = [user_id for user_id in ids if user_id > after]
    if before is not None:
        ids = [user_id for user_id in ids if user_id < before][-limit:]
    return [guild.bans[user_id] for user_id in ids[:limit]]


def get_ban(call: Call) -> Payload:
    """GET one ban. Raises 10026."""
    ban = call.guild().bans.get(call.id("user"))
    if ban is None:
        raise ApiError(faults.UNKNOWN_BAN)
    return ban


def ban_user(call: Call) -> Reply:
    """PUT a ban: GUILD_BAN_ADD, and GUILD_MEMBER_REMOVE for a member."""
    guild, user_id = call.guild(), call.id("user")
    user = call.user(user_id)
    _check_may_remove(call, guild, user_id)
    if user_id not in guild.bans:
        call.dispatch(changes.ban(guild, user, call.reason), guild.id)
    return Reply()


def unban_user(call: Call) -> Reply:
    """DELETE a ban: GUILD_BAN_REMOVE."""
    guild = call.guild()
    get_ban(call)
    call.dispatch(changes.unban(guild, call.id("user")), guild.id)
    return Reply()


def add_role(call: Call) -> Reply:
    """PUT a role on a member: GUILD_MEMBER_UPDATE."""
    return _set_roles(call, wanted=True)


def remove_role(call: Call) -> Reply:
    """DELETE a role from a member: GUILD_MEMBER_UPDATE."""
    return _set_roles(call, wanted=False)


def _set_roles(call: Call, *, wanted: bool) -> Reply:
    guild = call.guild()
    user_id, member = call.member(guild)
    role = _known_role(guild, call.id("role"))
    if int(role) == guild.id:
        raise ApiError(faults.INVALID_ROLE)
    if (role in member["roles"]) is not wanted:
        others = [other for other in member["roles"] if other != role]
        roles = {"roles": [*others, role] if wanted else others}
        call.dispatch(changes.update_member(guild, user_id, roles), guild.id)
    return Reply()


def _known_role(guild: SandboxGuild, text: object) -> str:
    role_id = parse_id("roles", text)
    if role_id not in guild.roles:
        raise ApiError(faults.UNKNOWN_ROLE)
    return str(role_id)


def _check_may_remove(call: Call, guild: SandboxGuild, user_id: int) -> None:
    if user_id in (guild.owner_id, call.state.world.application_id):
        raise ApiError(faults.MISSING_PERMISSIONS)


def _begins(member: Payload, query: str) -> bool:
    names = (member["nick"], member["user"]["username"], member["user"]["global_name"])
    return any(name is not None and name.lower().startswith(query) for name in names)


_MEMBER: Final = "/guilds/{guild}/members/{user}"
_BAN: Final = "/guilds/{guild}/bans/{user}"
ROUTES: Final = (
    Route("GET", "/guilds/{guild}/members", list_members),
    Route("GET", "/guilds/{guild}/members/search", search_members),
    Route("GET", _MEMBER, get_member),
    Route("PATCH", _MEMBER, edit_member),
    Route("DELETE", _MEMBER, kick_member),
    Route("PUT", _MEMBER + "/roles/{role}", add_role),
    Route("DELETE", _MEMBER + "/roles/{role}", remove_role),
    Route("GET", "/guilds/{guild}/bans", list_bans),
    Route("GET", _BAN, get_ban),
    Route("PUT", _BAN, ban_user),
    Route("DELETE", _BAN, unban_user),
)
