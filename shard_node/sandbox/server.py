"""Assembles gateway, REST, control and trouble into one server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from shard_node.sandbox import control, gateway, rest, trouble
from shard_node.sandbox.config import HOST, SandboxConfig
from shard_node.sandbox.keeping import write_private
from shard_node.sandbox.state import STATE, SYSTEM_CLOCK, Clock, SandboxState, new_state

SHUTDOWN_S: Final = 2.0
"""How long open connections may take to close when the server stops."""

BACKLOG: Final = 1_024
BODY_BYTES_MAX: Final = 32 * 1024 * 1024
"""Discord takes uploads of 10 MiB to 25 MiB; the sandbox reads them and throws them away."""


class PortInUse(OSError):
    """Something else listens on the port."""


def build_app(config: SandboxConfig, clock: Clock = SYSTEM_CLOCK) -> web.Application:
    """The application of one sandbox; its state is ``app[STATE]``."""
    return _app(new_state(config, clock))


def _app(state: SandboxState) -> web.Application:
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app[STATE] = state
    doors, gateway_routes = gateway.routes(state)
    troubles, trouble_routes = trouble.routes(state)
    controls, control_routes = control.routes(state)
    app.add_routes(gateway_routes)
    app.add_routes(trouble_routes)
    app.add_routes(control_routes)
    app.add_routes(rest.routes(state))
    app.cleanup_ctx.append(doors.watch)
    app.on_shutdown.append(doors.close_all)
    app.on_shutdown.append(controls.close)

    async def shut(_app: web.Application) -> None:
        troubles.shut()

    app.on_cleanup.append(shut)
    return app


class SandboxServer:
    """One running sandbox: ``async with SandboxServer(config) as server`` listens in between."""

    def __init__(self, config: SandboxConfig, clock: Clock = SYSTEM_CLOCK) -> None:
        app = build_app(config, clock)
        self.state = app[STATE]
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    async def start(self) -> None:
        """Listen. PortInUse: the configured port is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.state.config.port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(*error.args) from error
            raise
        self.state.listening(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


async def write_info(state: SandboxState, path: Path) -> None:
    """Write the info file: whole or not at all, readable by its owner only."""
    await asyncio.to_thread(write_private, path, json.dumps(state.info()) + "\n")
