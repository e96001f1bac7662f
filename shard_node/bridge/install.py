"""Every patch of disnake, at one place, on the classes, before the author's file runs."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import disnake.gateway
import disnake.shard
from disnake.client import Client
from disnake.ext.commands.base_core import InvokableApplicationCommand
from disnake.ext.commands.core import Command
from disnake.ext.commands.interaction_bot_base import InteractionBotBase
from disnake.http import HTTPClient, Route
from disnake.shard import AutoShardedClient
from disnake.state import ConnectionState
from disnake.webhook.async_ import AsyncWebhookAdapter

from shard_node.bridge import cogs, commands, loops, origin, replies, tracking
from shard_node.bridge.adopt import Adoption
from shard_node.bridge.alive import NodeKeepAlive
from shard_node.bridge.execute import Executor
from shard_node.bridge.gateway import NodeShard, NodeWebSocket, hold_of
from shard_node.bridge.views import Views
from shard_node.runtime import Node
from shard_node.wire.topics import COMMAND_EXEC


def install(node: Node) -> Adoption:
    """Take hold of a disnake that ``check`` has found fit, for ``node``."""
    adoption = Adoption(node)
    origin.redirect(node.settings.api_base, cdn=node.settings.sandbox)
    vars(disnake.shard).update(DiscordWebSocket=NodeWebSocket, Shard=NodeShard)
    vars(disnake.gateway).update(KeepAliveHandler=NodeKeepAlive)
    _hold_login(adoption)
    _hold_connecting(adoption)
    _hold_commands(adoption)
    cogs.install(node)
    if node.settings.journal_dir is not None:
        tracking.install()
        loops.install()
    hold_runs()
    if node.settings.journal_dir is not None:
        _hold_sent(adoption)
    node.serve(COMMAND_EXEC, Executor(adoption).serve)
    Views(adoption).install()
    if node.settings.sandbox:
        _hold_events(adoption)
    return adoption


def _hold_login(adoption: Adoption) -> None:
    init, login = Client.__init__, Client.login

    @functools.wraps(init)
    def __init__(self: Client, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        init(self, *args, **kwargs)
        adoption.constructed(self)

    @functools.wraps(login)
    async def held_login(self: Client, token: str) -> None:
        await adoption.login(self, token, login)

    Client.__init__ = __init__  # type: ignore[method-assign]
    Client.login = held_login  # type: ignore[method-assign]


def _hold_connecting(adoption: Adoption) -> None:
    connect, close = AutoShardedClient.connect, AutoShardedClient.close
    launch_shards = AutoShardedClient.launch_shards

    @functools.wraps(connect)
    async def held_connect(
        self: AutoShardedClient, *, reconnect: bool = True, ignore_session_start_limit: bool = True
    ) -> None:
        # The broker watches the budget; disnake would compare it with the whole fleet's count.
        del ignore_session_start_limit
        stock = functools.partial(
            connect, self, reconnect=reconnect, ignore_session_start_limit=True
        )
        await adoption.connect(self, stock)

    @functools.wraps(launch_shards)
    async def held_launch_shards(
        self: AutoShardedClient, *, ignore_session_start_limit: bool = False
    ) -> None:
        hold = hold_of(self)
        if hold is None:
            await launch_shards(self, ignore_session_start_limit=ignore_session_start_limit)
        else:
            await hold.launch()

    @functools.wraps(close)
    async def held_close(self: AutoShardedClient) -> None:
        await adoption.close(self, close)

    async def before_identify_hook(
        self: Client, shard_id: int | None, *, initial: bool = False
    ) -> None:
        """Stock disnake sleeps 5 s here; the permit has seen to that already."""

    AutoShardedClient.connect = held_connect  # type: ignore[method-assign]
    AutoShardedClient.launch_shards = held_launch_shards  # type: ignore[method-assign]
    AutoShardedClient.close = held_close  # type: ignore[method-assign]
    Client.before_identify_hook = before_identify_hook  # type: ignore[method-assign]


def _hold_commands(adoption: Adoption) -> None:
    stock = InteractionBotBase._sync_application_commands

    @functools.wraps(stock)
    async def held_sync(self: Any) -> None:
        if hold_of(self) is None:
            await stock(self)
        else:
            await commands.sync(adoption.node, self, stock)

    InteractionBotBase._sync_application_commands = held_sync  # type: ignore[method-assign]


def hold_runs() -> None:
    """What runs for COMMAND_EXEC is followed, and its answers are taken."""
    _hold_tasks()
    _hold_errors()
    _hold_requests()


def _hold_tasks() -> None:
    schedule = Client._schedule_event

    @functools.wraps(schedule)
    def held_schedule(
        self: Client, coro: Any, event_name: str, *args: Any, **kwargs: Any
    ) -> asyncio.Task[None]:
        run = replies.current()
        if run is None:
            return schedule(self, coro, event_name, *args, **kwargs)
        task = schedule(self, run.watch(coro, event_name), event_name, *args, **kwargs)
        run.tasks.add(task)
        return task

    Client._schedule_event = held_schedule  # type: ignore[method-assign]


def _hold_errors() -> None:
    local, dispatch = InvokableApplicationCommand._call_local_error_handler, Command.dispatch_error

    @functools.wraps(local)
    async def held_local(self: Any, inter: Any, error: Any) -> Any:
        replies.failed(error)
        return await local(self, inter, error)

    @functools.wraps(dispatch)
    async def held_dispatch(self: Any, ctx: Any, error: Exception) -> None:
        replies.failed(error)
        await dispatch(self, ctx, error)

    InvokableApplicationCommand._call_local_error_handler = held_local  # type: ignore[method-assign]
    Command.dispatch_error = held_dispatch  # type: ignore[method-assign]


def _hold_requests() -> None:
    request, webhook = HTTPClient.request, AsyncWebhookAdapter.request

    @functools.wraps(request)
    async def held_request(self: HTTPClient, route: Route, **sent: Any) -> Any:
        answer = replies.of_channel(route, sent.get("json"), sent.get("form"), sent.get("files"))
        return await request(self, route, **sent) if answer is None else answer()

    @functools.wraps(webhook)
    async def held_webhook(
        self: AsyncWebhookAdapter, route: Route, session: Any, **sent: Any
    ) -> Any:
        answer = replies.of_interaction(
            route, sent.get("payload"), sent.get("multipart"), sent.get("files")
        )
        return await webhook(self, route, session, **sent) if answer is None else answer()

    HTTPClient.request = held_request  # type: ignore[method-assign]
    AsyncWebhookAdapter.request = held_webhook  # type: ignore[method-assign]


def _hold_sent(adoption: Adoption) -> None:
    """What the bot sends is noted, and who waits for what."""
    request, webhook = HTTPClient.request, AsyncWebhookAdapter.request
    store_view, store_modal = ConnectionState.store_view, ConnectionState.store_modal
    wait_for = Client.wait_for

    @functools.wraps(request)
    async def held_request(self: HTTPClient, route: Route, **sent: Any) -> Any:
        answer = await request(self, route, **sent)
        if (hold := adoption.hold) is not None:
            hold.sent.answered(route, answer)
        return answer

    @functools.wraps(webhook)
    async def held_webhook(
        self: AsyncWebhookAdapter, route: Route, session: Any, **sent: Any
    ) -> Any:
        hold = adoption.hold
        if hold is not None:
            hold.sent.asked(route, sent.get("payload") if not sent.get("multipart") else None)
        answer = await webhook(self, route, session, **sent)
        if hold is not None:
            hold.sent.answered(route, answer)
        return answer

    @functools.wraps(store_view)
    def held_store_view(self: ConnectionState, *args: Any, **kwargs: Any) -> None:
        store_view(self, *args, **kwargs)
        _changed(adoption)

    @functools.wraps(store_modal)
    def held_store_modal(self: ConnectionState, *args: Any, **kwargs: Any) -> None:
        store_modal(self, *args, **kwargs)
        _changed(adoption)

    @functools.wraps(wait_for)
    def held_wait_for(self: Client, *args: Any, **kwargs: Any) -> Any:
        future = wait_for(self, *args, **kwargs)
        _changed(adoption)
        return future

    HTTPClient.request = held_request  # type: ignore[method-assign]
    AsyncWebhookAdapter.request = held_webhook  # type: ignore[method-assign]
    ConnectionState.store_view = held_store_view  # type: ignore[method-assign]
    ConnectionState.store_modal = held_store_modal  # type: ignore[method-assign]
    Client.wait_for = held_wait_for  # type: ignore[method-assign]


def _changed(adoption: Adoption) -> None:
    if adoption.hold is not None:
        adoption.hold.lingering.changed()


def _hold_events(adoption: Adoption) -> None:
    schedule = Client._schedule_event

    @functools.wraps(schedule)
    def held_schedule(
        self: Client, coro: Any, event_name: str, *args: Any, **kwargs: Any
    ) -> asyncio.Task[None]:
        return schedule(self, adoption.schedule(coro), event_name, *args, **kwargs)

    Client._schedule_event = held_schedule  # type: ignore[method-assign]
