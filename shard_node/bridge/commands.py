"""One node of the fleet syncs the application commands; the others only learn them.

The broker elects by the digest of the command set. A node that is not elected keeps
disnake's cache of the commands fresh and never overwrites anything: stock disnake answers
a guild command that is missing from its cache by overwriting the guild's commands with an
empty list, which in a fleet would be another node's work undone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from disnake.ext.commands.flags import CommandSyncFlags

from shard_node.errors import RequestFailed, ShardNodeError
from shard_node.runtime import Node
from shard_node.wire import bodies
from shard_node.wire.topics import COMMAND_SYNC

_log = logging.getLogger(__name__)

ASK_AGAIN_S: Final = 2.0
GIVE_UP_S: Final = 600.0
"""Long enough for Discord's limits on a large set; after it the node goes on unsynced."""

Sync = Callable[[Any], Awaitable[None]]


class Disarmed(CommandSyncFlags):
    """The author's flags to everybody but ``process_application_commands``, which on
    ``sync_guild_commands`` overwrites a guild's commands at sight of one it does not know."""

    __slots__ = ()

    @property
    def sync_guild_commands(self) -> bool:
        """Never, at the sight of a command."""
        return False

    @property
    def _sync_enabled(self) -> bool:
        return bool(flags_of_value(self.value)._sync_enabled)


def disarm(bot: Any) -> None:
    """Take the sight of an unknown command out of a bot's flags."""
    flags = getattr(bot, "_command_sync_flags", None)
    if flags is not None:
        bot._command_sync_flags = Disarmed._from_value(flags.value)


def flags_of(bot: Any) -> CommandSyncFlags:
    """The author's flags."""
    return flags_of_value(bot._command_sync_flags.value)


def flags_of_value(value: int) -> CommandSyncFlags:
    """Flags as the author wrote them."""
    return CommandSyncFlags._from_value(value)


def digest_of(bot: Any) -> str:
    """A hash of what a sync would send: the same in all processes of one version."""
    global_commands, guilds = bot._ordered_unsynced_commands(bot._test_guilds)
    wanted = {
        "flags": flags_of(bot).value,
        "global": _payloads(global_commands),
        "guilds": {str(guild): _payloads(commands) for guild, commands in guilds.items()},
    }
    text = json.dumps(wanted, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def sync(node: Node, bot: Any, stock: Sync) -> None:
    """In place of ``_sync_application_commands``: sync if elected, else wait for who is."""
    flags = flags_of(bot)
    if not flags._sync_enabled or bot.is_closed():
        return
    digest = digest_of(bot)
    give_up_at = time.monotonic() + GIVE_UP_S
    while time.monotonic() < give_up_at and not bot.is_closed():
        action = await _ask(node, digest)
        if action == "sync":
            await _sync_here(node, bot, stock, digest)
            return
        if action == "skip":
            await _learn(bot)
            return
        await asyncio.sleep(ASK_AGAIN_S)
    _log.warning("commands were not synced: no election in %d s", GIVE_UP_S)


async def _ask(node: Node, digest: str) -> str:
    """``sync``, ``skip`` or ``wait``; a broker that is away is waited for."""
    try:
        reply: bodies.CommandSyncReply = await node.ask(
            COMMAND_SYNC, bodies.CommandSync(digest), renew=True
        )
    except RequestFailed as error:
        _log.warning("commands: %s", error)
        return "wait"
    except ShardNodeError as error:
        _log.debug("commands wait: %s", error)
        return "wait"
    return reply.action


async def _sync_here(node: Node, bot: Any, stock: Sync, digest: str) -> None:
    live = bot._command_sync_flags
    bot._command_sync_flags = flags_of(bot)
    try:
        await stock(bot)
    finally:
        bot._command_sync_flags = live
    if not is_learnt(bot):
        _log.warning("commands: the sync did not reach Discord; another node may try")
        return
    try:
        await node.ask(COMMAND_SYNC, bodies.CommandSync(digest, done=True), renew=True)
    except ShardNodeError as error:
        _log.warning("commands: synced, but the broker does not know: %s", error)


async def _learn(bot: Any) -> None:
    """Another node synced after this one had filled its cache: fill it again."""
    if not is_learnt(bot):
        await bot._cache_application_commands()


def is_learnt(bot: Any) -> bool:
    """Whether every command that the flags let sync is in disnake's cache."""
    flags, state = flags_of(bot), bot._connection
    global_commands, guilds = bot._ordered_unsynced_commands(bot._test_guilds)
    if flags.sync_global_commands:
        known = _names(state._global_application_commands.values())
        if not _names(global_commands) <= known:
            return False
    if not flags.sync_guild_commands:
        return True
    return all(
        _names(commands) <= _names(state._guild_application_commands.get(guild, {}).values())
        for guild, commands in guilds.items()
    )


def _names(commands: Any) -> set[tuple[int, str]]:
    return {(int(command.type.value), command.name) for command in commands}


def _payloads(commands: Any) -> list[str]:
    return sorted(json.dumps(c.to_dict(), sort_keys=True, default=str) for c in commands)
