"""Slash commands by name: found, their options bound, started."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import disnake

from shard_node.bridge.options import LISTED_MAX, bind, refused
from shard_node.bridge.replies import Run
from shard_node.bridge.stage import Stage, interaction
from shard_node.wire.categories import Option

_SUB_COMMAND, _SUB_COMMAND_GROUP = 1, 2
_NEAR_MAX: Final = 3


class Found(NamedTuple):
    """A command, and the names of its group and subcommand."""

    command: Any
    path: tuple[str, ...]
    leaf: Any

    @property
    def qualified_name(self) -> str:
        """The whole name."""
        return " ".join((self.command.name, *self.path))


def names(bot: Any) -> list[str]:
    """All slash commands of a bot."""
    return sorted(getattr(bot, "all_slash_commands", {}))


def find(bot: Any, text: str, guild: disnake.Guild) -> Found | None:
    """The command that ``text`` names; None where it names none.

    Raises Refusal for a subcommand that is not there, for ``/`` before no slash command,
    and for a command of other guilds.
    """
    first, *rest = text.removeprefix("/").split() or [""]
    command = getattr(bot, "all_slash_commands", {}).get(first)
    if command is None:
        if text.startswith("/"):
            raise unknown(f"/{first}", names(bot))
        return None
    guild_ids = command.guild_ids or bot._test_guilds
    if guild_ids and guild.id not in guild_ids:
        there = ", ".join(map(str, guild_ids[:LISTED_MAX]))
        text = f"/{first} is not a command of guild {guild.id}"
        raise refused(text, f"it is one of {there}", "E_NOT_FOUND")
    return _descend(command, rest)


def unknown(name: str, known: list[str]) -> Exception:
    """No such command; near names, or all."""
    near = difflib.get_close_matches(name.lstrip("/"), known, n=_NEAR_MAX)
    if near:
        hint = f"did you mean {', '.join(near)}?"
    else:
        hint = f"there are: {', '.join(known[:LISTED_MAX])}" if known else "the bot has none"
    return refused(f"the bot has no command {name!r}", hint, "E_NOT_FOUND")


def _descend(command: Any, words: list[str]) -> Found:
    leaf = command
    path: list[str] = []
    children = command.children
    while children:
        word = words[len(path)] if len(words) > len(path) else ""
        if word not in children:
            whole = " ".join((command.name, *path))
            what = f"no subcommand {word!r}" if word else "to be called with a subcommand"
            text = f"/{whole} has {what}"
            raise refused(text, f"there are: {', '.join(children)}", "E_NOT_FOUND")
        leaf = children[word]
        path.append(word)
        children = getattr(leaf, "children", {})
    if len(words) > len(path):
        text = f"/{command.name} takes its options as NAME=VALUE, not {words[len(path)]!r}"
        raise refused(text)
    return Found(command, tuple(path), leaf)


async def prepare(
    stage: Stage, run: Run, found: Found, given: Mapping[str, Option]
) -> Callable[[], None]:
    """What starts the command. Raises Refusal for options that cannot be."""
    declared = found.leaf.body.options
    bound = await bind(found.qualified_name, declared, given, stage.guild, stage.find)
    options = bound.options
    kinds = (_SUB_COMMAND, _SUB_COMMAND_GROUP)
    for kind, name in zip(kinds, reversed(found.path), strict=False):
        options = [{"name": name, "type": kind, "options": options}]
    registered = _registered(stage, found.command.name)
    data = {"id": str(registered or run.id), "name": found.command.name, "options": options}
    made = interaction(stage, run, {**data, "resolved": bound.resolved})

    def start() -> None:
        stage.client._connection.dispatch("application_command", made)
        stage.client._connection.dispatch("interaction", made)

    return start


def _registered(stage: Stage, name: str) -> int:
    """The id that Discord gave the command; 0 where it is not known."""
    client, kind = stage.client, disnake.ApplicationCommandType.chat_input
    command = client.get_guild_command_named(stage.guild.id, name, kind)
    command = command or client.get_global_command_named(name, kind)
    return command.id if command is not None else 0
