"""Prefix commands as a user types them: found, completed, started."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import disnake

from shard_node.bridge.options import refused
from shard_node.bridge.replies import Run
from shard_node.bridge.slash import names, unknown
from shard_node.bridge.stage import Stage, message
from shard_node.wire.categories import Option

ENTRY: Final = "on_message"
_BARE: Final = re.compile(r"[\w.,:;+*/\\#@<>=!?&%$~^|()-]+", re.ASCII)


async def prepare(
    stage: Stage, run: Run, text: str, given: Mapping[str, Option]
) -> tuple[Callable[[], None], str]:
    """What starts the command, and its whole name. Raises Refusal where there is none."""
    bot = stage.client
    made = message(stage, run, text)
    prefix, words = await _split(bot, made)
    command = getattr(bot, "all_commands", {}).get(words[0] if words else "")
    if command is None:
        known = [*names(bot), *(f"{prefix}{name}" for name in getattr(bot, "all_commands", {}))]
        raise unknown(text.split()[0] if text.split() else text, sorted(known))
    command = _descend(command, words[1:])
    made.content = prefix + made.content.removeprefix(prefix) + _arguments(command, given)

    async def invoke(asked: disnake.Message) -> None:
        context = await bot.get_context(asked)
        if context.command is None and asked.author.id == bot.user.id:
            _parse(bot, context, prefix)
        await bot.invoke(context)

    def start() -> None:
        bot._schedule_event(invoke, ENTRY, made)

    return start, f"{prefix}{command.qualified_name}"


async def _split(bot: Any, made: disnake.Message) -> tuple[str, list[str]]:
    """The prefix that the message has, or should have, and the words after it."""
    if not hasattr(bot, "get_prefix"):
        return "", []
    found = await bot.get_prefix(made)
    prefixes = [found] if isinstance(found, str) else list(found or ())
    used = next((one for one in prefixes if one and made.content.startswith(one)), None)
    prefix = used if used is not None else next(iter(prefixes), "")
    return prefix, made.content.removeprefix(used or "").split()


def _descend(command: Any, words: list[str]) -> Any:
    """The subcommand that the words name, as far as they do."""
    for word in words:
        child = getattr(command, "all_commands", {}).get(word)
        if child is None:
            break
        command = child
    return command


def _arguments(command: Any, given: Mapping[str, Option]) -> str:
    """Options by name, as words in the order of the command's parameters."""
    parameters = command.clean_params
    for name in given:
        if name not in parameters:
            has = f"it has {', '.join(parameters)}" if parameters else "it has none"
            raise refused(f"{command.qualified_name} has no parameter {name!r}; {has}")
    words, skipped = [], ""
    for name, parameter in parameters.items():
        if name not in given:
            skipped = skipped or name
        elif skipped:
            raise refused(f"{command.qualified_name}: {name} cannot be given without {skipped}")
        else:
            words.append(_word(name, str(given[name]), parameter))
    return "".join(f" {word}" for word in words)


def _word(name: str, text: str, parameter: inspect.Parameter) -> str:
    """An argument as it is typed; disnake's quotes know only one escape, that of a quote."""
    if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL):
        return text  # it takes the rest of the line
    if text.endswith("\\"):
        raise refused(f"{name}: disnake reads no argument that ends with a backslash")
    if _BARE.fullmatch(text):
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


def _parse(bot: Any, context: Any, prefix: str) -> None:
    """As ``get_context`` does; it ignores what the bot itself writes."""
    view = context.view
    view.skip_string(prefix)
    if bot.strip_after_prefix:
        view.skip_ws()
    context.prefix = prefix
    context.invoked_with = view.get_word()
    context.command = bot.all_commands.get(context.invoked_with)
