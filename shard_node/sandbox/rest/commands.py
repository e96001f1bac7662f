"""Application commands: global (scope None) and of a guild."""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import faults
from shard_node.sandbox.faults import ApiError
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.registry import Scope
from shard_node.sandbox.rest.call import Call, Handler, Reply, Route

_LOCALIZED: Final = ("name_localizations", "description_localizations")


def list_commands(call: Call) -> list[Payload]:
    """GET: with ``with_localizations`` they are in."""
    commands = call.state.memory.registry.commands(_scope(call))
    if call.flag("with_localizations"):
        return commands
    return [{k: v for k, v in c.items() if k not in _LOCALIZED} for c in commands]


def overwrite_commands(call: Call) -> list[Payload]:
    """PUT: the whole set."""
    scope = _scope(call)
    call.state.audit.counters["command_syncs"] += 1
    return call.state.memory.registry.overwrite(scope, call.items())


def create_command(call: Call) -> Reply:
    """POST: 201 for a new one, 200 for one replaced by type and name."""
    scope = _scope(call)
    call.state.audit.counters["command_syncs"] += 1
    command, is_new = call.state.memory.registry.upsert(scope, call.form())
    return Reply(201 if is_new else 200, command)


def get_command(call: Call) -> Payload:
    """GET one."""
    return _command(call)


def edit_command(call: Call) -> Payload:
    """PATCH one."""
    command = _command(call)
    call.state.audit.counters["command_syncs"] += 1
    return call.state.memory.registry.edit(_scope(call), command, call.form())


def delete_command(call: Call) -> Reply:
    """DELETE one."""
    command = _command(call)
    call.state.audit.counters["command_syncs"] += 1
    call.state.memory.registry.delete(_scope(call), command)
    return Reply()


def list_permissions(call: Call) -> list[Payload]:
    """GET all permissions of a guild: nobody edited any."""
    _scope(call)
    return []


def get_permissions(call: Call) -> Payload:
    """GET a command's permissions in a guild: none were edited, which Discord answers so."""
    _scope(call)
    raise ApiError(faults.UNKNOWN_COMMAND_PERMISSIONS)


def _scope(call: Call) -> Scope:
    if call.id("application") != call.state.world.application_id:
        raise ApiError(faults.MISSING_ACCESS)
    return call.guild().id if "guild" in call.params else None


def _command(call: Call) -> Payload:
    command = call.state.memory.registry.find(_scope(call), call.id("command"))
    if command is None:
        raise ApiError(faults.UNKNOWN_COMMAND)
    return command


_GLOBAL: Final = "/applications/{application}/commands"
_OF_GUILD: Final = "/applications/{application}/guilds/{guild}/commands"
_VERBS: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "", list_commands),
    ("PUT", "", overwrite_commands),
    ("POST", "", create_command),
    ("GET", "/{command}", get_command),
    ("PATCH", "/{command}", edit_command),
    ("DELETE", "/{command}", delete_command),
)
ROUTES: Final = (
    Route("GET", _OF_GUILD + "/permissions", list_permissions),
    Route("GET", _OF_GUILD + "/{command}/permissions", get_permissions),
    *(
        Route(method, base + rest, handler)
        for base in (_GLOBAL, _OF_GUILD)
        for method, rest, handler in _VERBS
    ),
)
