"""Which bot of the process is the node's: taken at its login, let go after its connect."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

import disnake
from disnake.shard import AutoShardedClient

from shard_node import redact
from shard_node.bridge import commands, guilds, ports_taken
from shard_node.bridge.hold import Hold
from shard_node.bridge.mute import FleetReadyOnce
from shard_node.bridge.reloading import Reloading
from shard_node.bridge.stop import Stopper
from shard_node.bridge.witness import Witness
from shard_node.effects import StopAsked
from shard_node.errors import BotLoadError
from shard_node.failure import author_line, told
from shard_node.reconnect import FATAL
from shard_node.runtime import Node
from shard_node.settings import SUCCESSOR, TOKEN_ENV
from shard_node.wire.handover import NO_JOURNAL
from shard_node.wire.identity import node_id
from shard_node.wire.topics import FLEET_READY, GUILD_HELD, NODE_RELOAD, SHARD_RECONNECT

_log = logging.getLogger(__name__)

LAST_TURN_S: Final = 0.5
"""How long a bot that is closed may take to return from ``login`` or ``connect``."""

_MADE_AT = "_shardctl_made_at"
_BAD_TOKEN = 4004
_SHARDED = {
    "Bot": "commands.AutoShardedBot",
    "InteractionBot": "commands.AutoShardedInteractionBot",
    "Client": "disnake.AutoShardedClient",
}


class Adoption:
    """The one bot that this process runs as a node, and what became of it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.hold: Hold | None = None
        self.failure: BotLoadError | None = None
        self.made: list[tuple[str, str]] = []
        """Class name and place of every client that was constructed."""
        self.connected = False
        self._stopper: Stopper | None = None
        self._watched: list[asyncio.AbstractEventLoop] = []
        self._witness: Witness | None = None

    # --- what the patched classes call

    def constructed(self, client: Any) -> None:
        """A client exists; note where in the author's code."""
        where = author_line(self.node.settings.folder) or self.node.settings.target
        client.__dict__[_MADE_AT] = where
        self.made.append((type(client).__name__, where))
        loop = getattr(client, "loop", None)
        if loop is not None and loop not in self._watched:
            self._watched.append(loop)
            ports_taken.watch(loop, self.node.settings, self._port_taken)

    async def login(
        self, client: Any, token: Any, stock: Callable[[Any, str], Coroutine[Any, Any, None]]
    ) -> None:
        """``Client.login``: adopt the client, then log in with the token that counts."""
        if self.hold is not None and not isinstance(client, AutoShardedClient):
            await stock(client, token)  # a helper beside the bot, not a second bot
            return
        secret = self._adopt(client, token)
        try:
            await self._unless_stopped(stock(client, secret))
        except disnake.LoginFailure:
            reason, hint = FATAL[_BAD_TOKEN]
            self.node.die(_BAD_TOKEN, f"{reason} (401 at login)", hint)
            await self.node.flush()
            raise
        except Exception:
            if not self._stopping:
                raise

    async def connect(self, client: Any, stock: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """``AutoShardedClient.connect``: until the bot is closed, then let the loop go."""
        self.connected = True
        try:
            if not self._stopping:
                await self._unless_stopped(stock())
        except Exception:
            if not self._stopping:
                raise
        finally:
            await self._leave(client)

    async def close(self, client: Any, stock: Callable[[Any], Awaitable[None]]) -> None:
        """``AutoShardedClient.close``: no shard connects any more."""
        if self.hold is not None and self.hold.client is client and not self.hold.stopping:
            self.hold.begin_stop()
        await stock(client)

    def schedule(self, handler: Any) -> Any:
        """``Client._schedule_event``, on the sandbox: let the witness see the handler."""
        return handler if self._witness is None else self._witness.wrap(handler)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, but no longer than LAST_TURN_S after the bot was stopped and closed:
        disnake may be in the middle of a minute's wait for a rate limit."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopped())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=LAST_TURN_S)
            if task.done():
                task.result()
        finally:
            stopped.cancel()
            task.cancel()

    async def _stopped(self) -> None:
        assert self._stopper is not None
        await self._stopper.begun.wait()
        await self._stopper.finished()

    # --- adopting

    def _adopt(self, client: Any, token: Any) -> str:
        where = client.__dict__.get(_MADE_AT, self.node.settings.target)
        if not isinstance(client, AutoShardedClient):
            self._refuse(_wrong_class(type(client), where))
        if self.hold is not None:
            self._refuse(_second(where))
        secret = self._token(token)
        loop = asyncio.get_running_loop()
        self.node.attach(loop)
        self.hold = hold = Hold(self.node, client)
        self.node.report = hold.reports.snapshot
        self._serve(hold)
        self._stopper = Stopper(hold)
        self._stopper.install_signals(loop)
        self.node.on_stop = self._stopper.ask
        if self.node.settings.journal_dir is not None:
            hold.keep(self.node.settings.journal_dir, secret)
        if hold.keeping is None:
            self._without_journal()
        commands.disarm(client)
        self._start_witness(client)
        self.node.refresh()
        return secret

    def _serve(self, hold: Hold) -> None:
        """What the broker asks of the bot."""
        client, settings = hold.client, self.node.settings
        reloading = Reloading(client, settings.folder, settings.hang_s)
        self.node.serves[GUILD_HELD] = partial(guilds.held, client)
        self.node.serves[NODE_RELOAD] = reloading.serve
        hold.moves.serve()
        hold.passing.serve()
        hold.hosting.serve()
        hold.exile.serve()
        hold.asked.serve()
        self.node.hears[SHARD_RECONNECT] = hold.reconnecting.asked
        self.node.hears[FLEET_READY] = FleetReadyOnce(client).heard

    def _start_witness(self, client: Any) -> None:
        settings = self.node.settings
        if not (settings.sandbox and settings.witness_url):
            return
        who = node_id(self.node.name, self.node.epoch).decode()
        self._witness = Witness(settings.witness_url, who, settings.witness_dir)
        self._witness.tap(client._connection)
        self._witness.start()

    def _without_journal(self) -> None:
        """A process that keeps none works as it is, but nothing can be handed over to it."""
        settings = self.node.settings
        self.node.flaws[NO_JOURNAL] = 1
        if settings.role == SUCCESSOR:
            folder = settings.journal_dir or "its folder, which is not set"
            self._refuse(
                BotLoadError(
                    f"no journal can be kept in {folder}, so nothing can be taken over",
                    code="E_BOT_JOURNAL",
                    hint="the line above says why; or type: "
                    f"shardctl respawn --node {settings.name} --in-sequence",
                )
            )

    def _port_taken(self, error: BotLoadError) -> None:
        """In a task that nobody awaits. A successor that has no shard yet leaves them where
        they are; any other bot goes on without, as it would alone."""
        waits = self.node.settings.role == SUCCESSOR and (self.hold is None or not self.hold.shards)
        if not waits:
            _log.error("%s", told(error))
        elif self.failure is None:
            self.failure = error
            self.node.ask_stop(StopAsked("a port is taken", 0.0, False))

    def _token(self, given: Any) -> str:
        """The sandbox's token on the sandbox; else the author's, else DISCORD_TOKEN."""
        known = os.environ.get(TOKEN_ENV, "").strip()
        secret = given.strip() if isinstance(given, str) else ""
        if (self.node.settings.sandbox or not secret) and known:
            secret = known
        if not secret:
            where = author_line(self.node.settings.folder) or self.node.settings.target
            self._refuse(_no_token(where))
        if known and secret != known:
            _log.warning(
                "the bot logs in with another token than %s; the fleet's budget is that of %s",
                TOKEN_ENV,
                TOKEN_ENV,
            )
        redact.add_secret(secret)
        return secret

    def _refuse(self, error: BotLoadError) -> None:
        """Remembered as well as raised: the author's code may swallow it."""
        if self.failure is None:
            self.failure = error
        raise error

    # --- letting go

    @property
    def _stopping(self) -> bool:
        return self.node.stop_asked is not None or (self.hold is not None and self.hold.stopping)

    async def _leave(self, client: Any) -> None:
        hold = self.hold
        if hold is None or hold.client is not client:
            return
        if self._stopper is not None:
            await self._stopper.finished()
        if not hold.stopping:
            hold.begin_stop()
        if self.node.fatal is not None:
            await self.node.flush()
        if self._witness is not None:
            await self._witness.close()
        hold.leave()
        self.node.on_stop = None
        self.node.detach()


def _wrong_class(found: type[Any], where: str) -> BotLoadError:
    base = next((c.__name__ for c in found.__mro__ if c.__name__ in _SHARDED), "Client")
    use = _SHARDED[base]
    return BotLoadError(
        f"{where}: {found.__name__} is not sharded: it opens one connection for all guilds, "
        "so a fleet cannot give it a part of them",
        code="E_BOT_CLASS",
        hint=f"make it a {use}; it takes the same arguments",
    )


def _second(where: str) -> BotLoadError:
    return BotLoadError(
        f"{where}: a node runs one bot, once; another one logs in here",
        code="E_BOT_SECOND",
        hint="give each bot a folder and a fleet of its own; "
        "to start a bot again, bot.close() is enough",
    )


def _no_token(where: str) -> BotLoadError:
    return BotLoadError(
        f"{where}: the bot logs in without a token",
        code="E_BOT_TOKEN",
        hint=f"set {TOKEN_ENV} in the environment or in the folder's .env",
    )
