"""A bot held as a node's in this process, its gateway played by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import disnake
from disnake.ext import commands

from shard_node.bridge import tracking
from shard_node.bridge.gateway import NodeWebSocket
from shard_node.bridge.hold import Hold
from shard_node.bridge.keeping import Past
from shard_node.journal.follow import Follower
from shard_node.runtime import Node
from shard_node.settings import read_settings
from tests.node.processes import environment

TOKEN = "MTIz.token.token"


class Held:
    """One process's life: its bot, its hold and the connection of its only shard."""

    def __init__(self, folder: Path, epoch: int = 1, shard: int = 0, num_shards: int = 1) -> None:
        self.folder, self.shard = folder, shard
        self.bot: Any = commands.AutoShardedBot(
            command_prefix="!",
            intents=disnake.Intents.all(),
            help_command=None,
            command_sync_flags=commands.CommandSyncFlags.none(),
        )
        env = environment(
            "ipc:///none", folder, "main.py", shards=(shard,), num_shards=num_shards,
            SHARDCTL_EPOCH=str(epoch), SHARDCTL_JOURNAL_DIR=str(folder),
        )  # fmt: skip
        self.hold = Hold(Node(read_settings(env)), self.bot)
        self.hold.keep(folder, TOKEN)
        assert self.hold.keeping is not None
        self.keeping = self.hold.keeping
        self.state: Any = self.bot._connection
        self.dispatched: list[str] = []
        dispatch = self.hold.mute._dispatch

        def seen(event: str, *args: Any) -> None:
            self.dispatched.append(event)
            dispatch(event, *args)

        self.hold.mute._dispatch = seen
        self.ws: Any = None

    async def begin(self, user: Any = None) -> Past | None:
        """Log in as ``user``, take the shard, connect."""
        if user is not None:
            self.state.user = disnake.ClientUser(state=self.state, data=user)
        past = await self.keeping.take(self.shard)
        self.ws = NodeWebSocket(None, loop=asyncio.get_running_loop())
        self.ws._connection, self.ws.shard_id = self.state, self.shard
        self.ws._dispatch = self.bot.dispatch
        self.ws._dispatch_gateway_error = self.bot._dispatch_gateway_error
        self.ws._discord_parsers = self.state.parsers
        return past

    async def receive(self, *payloads: Any) -> None:
        """Dispatches of the gateway."""
        for payload in payloads:
            await self.ws.received_message(
                payload if isinstance(payload, str) else json.dumps(payload)
            )

    def story(self) -> Any:
        """What is in the files now."""
        follower = Follower(self.keeping.place, self.shard)
        follower.more()
        follower.close()
        assert not follower.problem
        return follower.story

    def end(self) -> None:
        """The process is gone; its locks are free."""
        if self.state._ready_task is not None:
            self.state._ready_task.cancel()
        self.hold.leave()
        self.hold.node._context.destroy()


@asynccontextmanager
async def held(
    folder: Path, epoch: int = 1, shard: int = 0, num_shards: int = 1
) -> AsyncIterator[Held]:
    """A bot that is held; tracked as by `install`, on its class alone."""
    made = Held(folder, epoch, shard, num_shards)
    try:
        yield made
    finally:
        made.end()


def track() -> Any:
    """Patch disnake's classes as `install` does; returns what undoes it."""
    owners = (disnake.Client, disnake.ui.View, disnake.ui.Modal)
    names = ("_run_event", "_scheduled_task", "_scheduled_task")
    before = [getattr(owner, name) for owner, name in zip(owners, names, strict=True)]
    tracking.install()

    def undo() -> None:
        for owner, name, stock in zip(owners, names, before, strict=True):
            setattr(owner, name, stock)

    return undo
