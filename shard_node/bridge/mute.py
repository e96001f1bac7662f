"""disnake's ``dispatch`` of one bot, which can be silent: caches are fed without handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from disnake.client import Client

from shard_node.wire.operations import FleetReady


class _Waiters:
    """What of a client ``Client.dispatch`` needs to serve those who wait, and nobody else."""

    def __init__(self, client: Any) -> None:
        self._listeners = client._listeners
        self.extra_events: dict[str, list[Any]] = {}


class Mute:
    """Stands in for ``ConnectionState.dispatch``.

    ``ready`` passes once a process: a shard that IDENTIFYs again is not the bot's start.
    """

    def __init__(self, dispatch: Callable[..., Any]) -> None:
        self._dispatch = dispatch
        self._silent = 0
        self._waiters: Any = None
        self._was_ready = False

    def __call__(self, event: str, *args: Any) -> None:
        """What disnake's parsers call."""
        if self._silent:
            return
        if self._waiters is not None:
            Client.dispatch(self._waiters, event, *args)
            return
        if event == "ready":
            if self._was_ready:
                return
            self._was_ready = True
        self._dispatch(event, *args)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Nothing is dispatched meanwhile."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    @contextmanager
    def waiters_only(self, client: Any) -> Iterator[None]:
        """Meanwhile those hear who wait for an event (``wait_for``), and no handler does."""
        self._waiters = _Waiters(client)
        try:
            yield
        finally:
            self._waiters = None


class FleetReadyOnce:
    """Dispatches `fleet_ready` to a bot, once for each start of the fleet: the broker tells it
    again where it does not know that it was heard."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._start: str | None = None

    def heard(self, told: FleetReady) -> None:
        """All shards of the fleet have been ready."""
        if told.start != self._start:
            self._start = told.start
            self._client.dispatch("fleet_ready")
