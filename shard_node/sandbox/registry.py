"""The application's commands, global and by guild. Pure.

Source: Discord documentation, "Application Commands".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from shard_node.sandbox.faults import COMMANDS_FULL, ApiError, invalid_field

CHAT_INPUT: Final = 1
COMMANDS_MAX: Final = {1: 100, 2: 15, 3: 15, 4: 1}
"""By type: slash, user, message, entry point; for the global scope and for each guild."""
DESCRIPTION_MAX_CHARS: Final = 100
OPTIONS_MAX: Final = 25
_CHAT_NAME: Final = re.compile(r"[-_'\w]{1,32}")
_NAME_MAX_CHARS: Final = 32
KEPT_SCHEMA: Final = 1
_EDITABLE: Final = (
    "name",
    "name_localizations",
    "description",
    "description_localizations",
    "options",
    "default_member_permissions",
    "dm_permission",
    "default_permission",
    "integration_types",
    "contexts",
    "nsfw",
    "handler",
)

Payload = dict[str, Any]
Scope = int | None


class Registry:
    """Commands by scope (None is global, else a guild) and id.

    ``changed`` is called after each change, before anybody is answered.
    """

    def __init__(self, application_id: int, next_id: Callable[[], int]) -> None:
        self._application_id = application_id
        self._next_id = next_id
        self._scopes: dict[Scope, dict[int, Payload]] = {}
        self.changed: Callable[[], None] = lambda: None

    def commands(self, scope: Scope) -> list[Payload]:
        """All commands of a scope, in the order of their making."""
        return list(self._of(scope).values())

    def slash_commands(self, guild_id: int | None) -> list[Payload]:
        """What a user can type in a guild: the global slash commands and the guild's own."""
        own = self.commands(guild_id) if guild_id is not None else []
        return [c for c in self.commands(None) + own if c["type"] == CHAT_INPUT]

    def find(self, scope: Scope, command_id: int) -> Payload | None:
        """A command of a scope."""
        return self._of(scope).get(command_id)

    def upsert(self, scope: Scope, given: Payload) -> tuple[Payload, bool]:
        """Make a command, or replace the one of its type and name; True when it is new."""
        check(given)
        old = self._named(scope, _kind(given), given["name"])
        command = self._build(scope, given, old)
        commands = self._of(scope)
        if old is None:
            _check_room([*commands.values(), command])
        commands[int(command["id"])] = command
        self.changed()
        return command, old is None

    def overwrite(self, scope: Scope, given: list[Payload]) -> list[Payload]:
        """Put the whole set of a scope; a command keeps its id by type and name."""
        for index, command in enumerate(given):
            check(command, prefix=f"{index}.")
        built = [self._build(scope, c, self._named(scope, _kind(c), c["name"])) for c in given]
        if len({(c["type"], c["name"]) for c in built}) < len(built):
            raise invalid_field(
                "name",
                "APPLICATION_COMMANDS_DUPLICATE_NAME",
                "Application command names must be unique",
            )
        _check_room(built)
        commands: dict[int, Payload] = {int(command["id"]): command for command in built}
        self._scopes[scope] = commands
        self.changed()
        return built

    def edit(self, scope: Scope, old: Payload, changes: Payload) -> Payload:
        """Change some fields of a command."""
        merged: Payload = dict(old)
        merged.update((key, changes[key]) for key in _EDITABLE if key in changes)
        check(merged)
        command = self._build(scope, merged, old)
        self._of(scope)[int(old["id"])] = command
        self.changed()
        return command

    def delete(self, scope: Scope, command: Payload) -> None:
        """Remove a command."""
        del self._of(scope)[int(command["id"])]
        self.changed()

    def kept(self) -> dict[str, Any]:
        """All commands as JSON, for ``restore``; the global scope has no guild."""
        return {
            "schema": KEPT_SCHEMA,
            "application_id": str(self._application_id),
            "scopes": [
                {"guild_id": scope and str(scope), "commands": list(commands.values())}
                for scope, commands in self._scopes.items()
                if commands
            ],
        }

    def restore(self, value: Any) -> None:
        """Take all commands from what ``kept`` gave. ValueError: it is not this application's."""
        if not isinstance(value, dict) or value.get("schema") != KEPT_SCHEMA:
            raise ValueError("it holds no commands")
        if value.get("application_id") != str(self._application_id):
            raise ValueError("it is another application's")
        try:
            scopes = dict(self._restored(scope) for scope in value["scopes"])
        except (ApiError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a command in it is damaged: {error}") from None
        self._scopes = scopes

    def _restored(self, kept: Payload) -> tuple[Scope, dict[int, Payload]]:
        scope = None if kept["guild_id"] is None else int(kept["guild_id"])
        commands = {}
        for command in kept["commands"]:
            check(command)
            version = str(int(command["version"]))
            commands[int(command["id"])] = self._build(scope, command, command) | {
                "version": version
            }
        _check_room(list(commands.values()))
        return scope, commands

    def _of(self, scope: Scope) -> dict[int, Payload]:
        return self._scopes.setdefault(scope, {})

    def _named(self, scope: Scope, kind: int, name: str) -> Payload | None:
        for command in self.commands(scope):
            if (command["type"], command["name"]) == (kind, name):
                return command
        return None

    def _build(self, scope: Scope, given: Payload, old: Payload | None) -> Payload:
        command: Payload = {
            "id": old["id"] if old else str(self._next_id()),
            "application_id": str(self._application_id),
            "version": str(self._next_id()),
            "type": _kind(given),
            "name": given["name"],
            "name_localizations": given.get("name_localizations"),
            "description": given.get("description") or "",
            "description_localizations": given.get("description_localizations"),
            "default_member_permissions": given.get("default_member_permissions"),
            "nsfw": bool(given.get("nsfw", False)),
            "integration_types": given.get("integration_types") or [0],
        }
        if command["type"] == CHAT_INPUT and given.get("options"):
            command["options"] = given["options"]
        if scope is None:
            command["contexts"] = given.get("contexts")
            command["dm_permission"] = given.get("dm_permission", True)
        else:
            command["guild_id"] = str(scope)
        return command


def _kind(command: Payload) -> int:
    return command.get("type") or CHAT_INPUT


def check(command: Payload, prefix: str = "") -> None:
    """Raise 50035 for a command that Discord would not take."""
    if not isinstance(command, dict):
        raise invalid_field(prefix + "0", "MODEL_TYPE_CONVERT", "Only dictionaries may be used")
    name, kind = command.get("name"), _kind(command)
    if kind not in COMMANDS_MAX:
        raise invalid_field(prefix + "type", "BASE_TYPE_CHOICES", "Value must be one of 1, 2, 3, 4")
    if not isinstance(name, str) or not 1 <= len(name) <= _NAME_MAX_CHARS:
        raise invalid_field(
            prefix + "name", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 32 in length."
        )
    if kind == CHAT_INPUT:
        _check_chat_input(command, name, prefix)


def _check_chat_input(command: Payload, name: str, prefix: str) -> None:
    if not _CHAT_NAME.fullmatch(name) or name != name.lower():
        raise invalid_field(
            prefix + "name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid"
        )
    description = command.get("description")
    if not isinstance(description, str) or not 1 <= len(description) <= DESCRIPTION_MAX_CHARS:
        raise invalid_field(
            prefix + "description",
            "BASE_TYPE_BAD_LENGTH",
            f"Must be between 1 and {DESCRIPTION_MAX_CHARS} in length.",
        )
    if len(command.get("options") or []) > OPTIONS_MAX:
        raise invalid_field(
            prefix + "options",
            "BASE_TYPE_MAX_LENGTH",
            f"Must be {OPTIONS_MAX} or fewer in length.",
        )


def _check_room(commands: list[Payload]) -> None:
    for kind, most in COMMANDS_MAX.items():
        if sum(command["type"] == kind for command in commands) > most:
            raise ApiError(COMMANDS_FULL)
