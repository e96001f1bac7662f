"""Command sync: flags, digests; and the handlers that a stop waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import disnake
from disnake.ext import commands as ext

from shard_node import runtime
from shard_node.bridge import commands, stop


def bot() -> Any:
    async def make() -> Any:
        made = ext.AutoShardedInteractionBot(intents=disnake.Intents.none())

        @made.slash_command(guild_ids=[5])
        async def here(inter: disnake.ApplicationCommandInteraction) -> None:
            """In one guild."""

        @made.slash_command()
        async def everywhere(inter: disnake.ApplicationCommandInteraction) -> None:
            """In all."""

        return made

    return asyncio.run(make())


def test_a_disarmed_bot_overwrites_no_guild_and_keeps_the_authors_flags() -> None:
    made = bot()
    commands.disarm(made)
    commands.disarm(made)
    assert not made._command_sync_flags.sync_guild_commands
    assert made._command_sync_flags._sync_enabled
    assert commands.flags_of(made).sync_guild_commands
    assert made.command_sync_flags == ext.CommandSyncFlags.default()


def test_the_same_commands_have_the_same_digest() -> None:
    first, second = bot(), bot()
    commands.disarm(first)
    commands.disarm(second)
    assert commands.digest_of(first) == commands.digest_of(second)
    second.remove_slash_command("here")
    assert commands.digest_of(first) != commands.digest_of(second)


def test_handlers_are_found_by_the_names_of_their_tasks() -> None:
    async def main() -> None:
        async def handler() -> None:
            await asyncio.sleep(30)

        names = ("disnake: on_message", "disnake-ui-view-dispatch-1", "disnake: on_ready", "mine")
        tasks = [asyncio.create_task(handler(), name=name) for name in names]
        found = {task.get_name() for task in stop.handlers_running()}
        assert found == {"disnake: on_message", "disnake-ui-view-dispatch-1"}
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_there_is_no_node_in_a_test() -> None:
    assert runtime.current() is None


def test_a_disarmed_bot_that_syncs_nothing_stays_so() -> None:
    made = bot()
    made._command_sync_flags = ext.CommandSyncFlags.none()
    commands.disarm(made)
    assert not made._command_sync_flags._sync_enabled
    assert made.command_sync_flags == ext.CommandSyncFlags.none()
