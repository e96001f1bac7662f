"""`shardctl invoke`: runs a command of the bot, as a program of its author's would ask for it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from shardctl.cli.common import chosen_fleet, echo_json, fleet_option, json_option
from shardctl.cli.where import GUILD_MAX
from shardctl.errors import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_REFUSED,
    EXIT_TEMPFAIL,
    EXIT_USAGE,
    ShardctlError,
)
from shardctl.paths import FleetPaths

if TYPE_CHECKING:
    from shard_node.errors import ShardNodeError
    from shard_node.wire.categories import CommandReply, CommandResult

TIMEOUT_S: Final = 10.0
TIMEOUT_MAX_S: Final = 840.0
GRACE_S: Final = 1.0
"""Beyond the command's own time, for the owner to say that it took too long."""
_OPTION: Final = re.compile(r"([\w-]+)=(.*)", re.DOTALL)
_EXITS: Final = {
    "E_NOT_FOUND": EXIT_NOT_FOUND,
    "E_BAD_OPTION": EXIT_USAGE,
    "E_NEEDS_A_USER": EXIT_REFUSED,
    "E_REMOTE": EXIT_FAILED,
}


def _id(_ctx: click.Context, _param: click.Parameter, text: str | None) -> int:
    """One of Discord's ids; 0 for an option that is not given."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 0 < int(text) <= GUILD_MAX):
        msg = f"{text!r} is no id: a number such as 81384788765712384"
        raise click.BadParameter(msg)
    return int(text)


@click.command()
@click.argument("guild", callback=_id)
@click.argument("command")
@click.argument("words", nargs=-1, metavar="[OPTION=VALUE]...")
@click.option(
    "--as",
    "user",
    callback=_id,
    metavar="USER",
    help="In whose name, a member's id; by default the bot itself.",
)
@click.option(
    "--channel",
    callback=_id,
    metavar="ID",
    help="In which channel; by default the first text channel where that user may write.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, TIMEOUT_MAX_S),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="How long the command may take to answer.",
)
@json_option
@fleet_option
@click.pass_context
def invoke(
    ctx: click.Context,
    guild: int,
    command: str,
    words: tuple[str, ...],
    user: int,
    channel: int,
    timeout_s: float,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Run COMMAND of the bot in GUILD, on the node that owns it, and print its answer.

    COMMAND is a slash command, with its subcommand, or a prefix command as a user types it:

    \b
      shardctl invoke 81384788765712384 add left=1 right=2
      shardctl invoke 81384788765712384 mod ban user=@mallory
      shardctl invoke 81384788765712384 '!say hello'

    The answer comes here and not to Discord; whatever else the command does, it does.
    """
    from shard_node.wire.categories import CommandExec

    text, options = _parsed(command, words)
    paths = chosen_fleet(fleet)
    _check_guild(paths, guild)
    asked = CommandExec(guild, text, dict(options), user, channel, timeout_s)
    result = _ask(paths, asked)
    if as_json:
        echo_json(_shown(guild, result))
    else:
        _print(result)
    if result.error:
        ctx.exit(EXIT_FAILED)


def _parsed(command: str, words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The command's whole text, and its options by name. Raises UsageError for one twice."""
    text, options = [command], {}
    for word in words:
        match = _OPTION.fullmatch(word)
        if match is None:
            text.append(word)
        elif match[1] in options:
            raise click.UsageError(f"the option {match[1]!r} is given twice")
        else:
            options[match[1]] = match[2]
    return " ".join(text), options


def _check_guild(paths: FleetPaths, guild: int) -> None:
    """As `where` says it: no broker, no such guild."""
    from shardctl.client import Client

    with Client(paths) as client:
        client.where(guild)


def _ask(paths: FleetPaths, asked: Any) -> CommandResult:
    from shard_node import sync
    from shard_node.wire.categories import CommandResult
    from shard_node.wire.targets import Guild
    from shard_node.wire.topics import COMMAND_EXEC

    within_s = asked.timeout_s + GRACE_S
    with _failing_well(paths), sync.connect(paths.endpoint, f"invoke-{os.getpid()}") as node:
        result: CommandResult = node.request(
            Guild(asked.guild), COMMAND_EXEC, asked, timeout_s=within_s, reply=CommandResult
        )
    return result


@contextlib.contextmanager
def _failing_well(paths: FleetPaths) -> Iterator[None]:
    """Errors of the fleet as those of the command line."""
    from shard_node.errors import BrokerUnavailable, RemoteError, ShardNodeError

    try:
        yield
    except BrokerUnavailable as error:
        from shardctl.client import no_broker

        raise no_broker(paths, f"{error}.") from error
    except RemoteError as error:
        raise _remote(error, error.type_name, paths) from error
    except ShardNodeError as error:
        raise _told(error, str(error), EXIT_TEMPFAIL) from error


def _remote(error: ShardNodeError, type_name: str, paths: FleetPaths) -> ShardctlError:
    text = str(error).partition(": ")[2] or str(error)
    if type_name:
        hint = f"its node's log has the traceback: shardctl logs --fleet {paths.fleet}"
        return ShardctlError(f"the command failed: {text}", hint=hint, code="E_COMMAND_FAILED")
    return _told(error, text, _EXITS.get(error.code, EXIT_TEMPFAIL))


def _told(error: ShardNodeError, text: str, exit_code: int) -> ShardctlError:
    return ShardctlError(text, hint=error.hint, code=error.code, exit_code=exit_code)


# --- showing


def _shown(guild: int, result: CommandResult) -> dict[str, Any]:
    return {
        "guild": str(guild),
        "node": result.node,
        "shard": result.shard,
        "kind": result.kind,
        "command": result.command,
        "user": str(result.user),
        "channel": str(result.channel),
        "replies": [
            {
                "content": reply.content,
                "embeds": list(reply.embeds),
                "ephemeral": reply.ephemeral,
                "components": list(reply.components),
                "files": list(reply.files),
            }
            for reply in result.replies
        ],
        "error": result.error or None,
        "finished": result.finished,
        "deferred": result.deferred,
        "elapsed_s": result.elapsed_ms / 1000,
    }


def _print(result: CommandResult) -> None:
    """The answer on stdout, all about it on stderr."""
    name = f"/{result.command}" if result.kind == "slash" else result.command
    where = f"node {result.node}, shard {result.shard}"
    click.echo(f"{name} on {where}, {result.elapsed_ms:.0f} ms", err=True)
    for reply in result.replies:
        if reply.ephemeral:
            click.echo("only the user would see this:", err=True)
        click.echo("\n".join(_lines(reply)))
    for note in _notes(result):
        click.echo(note, err=True)


def _notes(result: CommandResult) -> Iterator[str]:
    if result.error:
        yield f"the command failed ({result.error}); this is what the bot's error handler says"
    if result.deferred:
        yield "the command promised an answer and gave none"
    elif not result.replies:
        yield "the command gave no answer"
    if not result.finished:
        yield "the command has answered and goes on"


def _lines(reply: CommandReply) -> Iterator[str]:
    if reply.content:
        yield reply.content
    for embed in reply.embeds:
        yield from _embed(embed)
    for row in reply.components:
        for part in row.get("components", (row,)):
            label = part.get("label") or part.get("placeholder") or part.get("custom_id", "")
            yield f"[component: {label}]" if label else "[component]"
    for name in reply.files:
        yield f"[file: {name}]"


def _embed(embed: dict[str, Any]) -> Iterator[str]:
    yield from (embed[key] for key in ("title", "description", "url") if embed.get(key))
    for field in embed.get("fields", ()):
        yield f"{field.get('name', '')}: {field.get('value', '')}"
    footer = embed.get("footer", {}).get("text")
    if footer:
        yield footer
