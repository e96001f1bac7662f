"""COMMAND_EXEC: runs a command of this node's bot on behalf of whoever asks.

It takes disnake's own way: checks, converters, cooldowns, hooks, error handlers. The answer
is what the command says to its interaction or in its channel (``replies``); who asks and
where is made up in ``stage``.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from disnake.ext.commands import CommandInvokeError

from shard_node.bridge import guilds, prefix, slash
from shard_node.bridge.options import Refusal, refused
from shard_node.bridge.replies import Run, run_now
from shard_node.bridge.stage import Stage, me, set_up
from shard_node.errors import ShardNodeError
from shard_node.peer.dispatch import describe
from shard_node.peer.handlers import Message
from shard_node.redact import redact
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.categories import CommandExec, CommandResult

if TYPE_CHECKING:
    from shard_node.bridge.adopt import Adoption

RUNNING_MAX: Final = 64
TIMEOUT_MAX_S: Final = 840.0
"""An interaction's token lasts 15 minutes: Discord's documentation."""


class Executor:
    """Serves COMMAND_EXEC for one process."""

    def __init__(self, adoption: Adoption) -> None:
        self._adoption = adoption
        self._running = 0

    async def serve(self, message: Message) -> CommandResult | ErrorBody:
        """Run what is asked for; an ErrorBody for what cannot be, or what the command raised."""
        asked: CommandExec = message.body
        if self._running >= RUNNING_MAX:
            text = f"{RUNNING_MAX} commands run for others already"
            return ErrorBody("E_BUSY", text, "retry later", retryable=True)
        self._running += 1
        try:
            return await self._execute(asked)
        except Refusal as refusal:
            return refusal.body
        except Exception as error:
            return self._raised(error)
        finally:
            self._running -= 1

    def _raised(self, error: Exception) -> ErrorBody:
        """As the dispatcher words it, without the token, which an author's error may hold."""
        details: dict[str, Any] = {"type": type(error).__name__}
        if self._adoption.node.debug:
            details["traceback"] = redact("".join(traceback.format_exception(error)))
        return ErrorBody("E_REMOTE", describe(error), details=details)

    async def _execute(self, asked: CommandExec) -> CommandResult:
        if not 0 < asked.timeout_s <= TIMEOUT_MAX_S:
            raise refused(f"timeout_s={asked.timeout_s}: 0 to {TIMEOUT_MAX_S:g} seconds")
        began_at = time.monotonic()
        client, guild, shard = guilds.own_guild(self._adoption, asked.guild)
        try:
            async with asyncio.timeout(asked.timeout_s):  # Discord and the bot's get_prefix
                stage = await set_up(client, guild, asked.user, asked.channel)
                kind, command, run = await _begin(stage, asked)
        except TimeoutError:
            text = f"{asked.command} was not begun within {asked.timeout_s:g} s"
            raise refused(text, "allow it more time", "E_TIMEOUT") from None
        finished = await _end(run, began_at + asked.timeout_s)
        said = run.end()
        _judge(run, command, asked, finished=finished)
        return CommandResult(
            self._adoption.node.name,
            shard,
            kind,
            command,
            stage.caller.member.id,
            stage.channel.id,
            said,
            describe(_cause(run.error)) if run.error is not None else "",
            finished,
            run.deferred,
            (time.monotonic() - began_at) * 1000,
        )


async def _begin(stage: Stage, asked: CommandExec) -> tuple[str, str, Run]:
    """Start the command. Returns its kind, its whole name and the run."""
    found = slash.find(stage.client, asked.command, stage.guild)
    if found is not None:
        run = Run(me(stage.client), stage.channel.id)
        start = await slash.prepare(stage, run, found, asked.options)
        name, kind = found.qualified_name, "slash"
    else:
        run = Run(me(stage.client), stage.channel.id, says_in=stage.channel.id)
        start, name = await prefix.prepare(stage, run, asked.command, asked.options)
        kind = "prefix"
    _in_context(run, start)
    return kind, name, run


def _in_context(run: Run, start: Callable[[], None]) -> None:
    """Start a run, so that all that it starts belongs to it."""
    context = contextvars.copy_context()
    context.run(run_now.set, run)
    context.run(start)


async def _end(run: Run, deadline: float) -> bool:
    """Wait for all that the run started. False where that is not over at the deadline."""
    while running := {task for task in run.tasks if not task.done()}:
        timeout_s = deadline - time.monotonic()
        if timeout_s <= 0 or run.impossible.done():
            return False
        await asyncio.wait(
            {run.impossible, *running}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
    return True


def _judge(run: Run, command: str, asked: CommandExec, *, finished: bool) -> None:
    """Raise where there is no answer: Refusal, or what the command raised."""
    if run.impossible.done():
        error: ShardNodeError = run.impossible.result()
        raise refused(f"{command}: {error}", error.hint, error.code)
    if run.error is not None and not run.handled:
        raise _cause(run.error)
    if not finished and not run.said():
        text = f"{command} gave no answer within {asked.timeout_s:g} s; it goes on"
        raise refused(text, "allow it more time", "E_TIMEOUT")


def _cause(error: BaseException) -> BaseException:
    """What the author's code raised."""
    return error.original if isinstance(error, CommandInvokeError) else error
