"""``once_per_fleet``: a coroutine that runs on one node of the fleet, not on each.

The first node that asks holds the lease and keeps it while it lives; when it dies the lease
lapses and the next node that asks takes over. Alone, without a fleet, it always runs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

from shard_node.errors import BotLoadError, ShardNodeError
from shard_node.runtime import Node, current
from shard_node.wire.bodies import LeaseReply, LeaseRequest
from shard_node.wire.topics import LEASE

_log = logging.getLogger(__name__)

LEASE_TTL_S: Final = 30.0
"""A dead holder's lease is free after so long, less what it had used up."""
RENEW_S: Final = LEASE_TTL_S / 3
ASK_TIMEOUT_S: Final = 5.0

F = TypeVar("F")


@overload
def once_per_fleet(func: F, /) -> F: ...
@overload
def once_per_fleet(*, name: str | None = None) -> Callable[[F], F]: ...
def once_per_fleet(func: Any = None, /, *, name: str | None = None) -> Any:
    """Let the body of a ``tasks.loop`` (or any coroutine function) run on one node only.

    Stands above or below ``@tasks.loop``. Where another node holds the lease the call does
    nothing and returns None. ``name`` names the lease; the default is the function's
    module and qualified name, so that it is the same in every process.
    """
    if func is None:
        return functools.partial(_decorate, name=name)
    return _decorate(func, name=name)


def _decorate(func: Any, *, name: str | None) -> Any:
    if asyncio.iscoroutinefunction(func):
        return _wrap(func, name or f"{func.__module__}.{func.__qualname__}")
    body = getattr(func, "coro", None)
    if asyncio.iscoroutinefunction(body):  # a tasks.Loop: what it calls is its `coro`
        func.coro = _wrap(body, name or f"{body.__module__}.{body.__qualname__}")
        return func
    raise BotLoadError(
        f"once_per_fleet decorates a coroutine function or a tasks.loop, not {func!r}",
        code="E_BOT_LEASE",
        hint="put @shard_node.once_per_fleet directly above `async def` or above @tasks.loop",
    )


def _wrap(func: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(func)
    async def leased(*args: Any, **kwargs: Any) -> Any:
        node = current()
        if node is not None and not await _lease_of(node, name).held():
            return None
        return await func(*args, **kwargs)

    return leased


_leases: dict[str, Lease] = {}


def _lease_of(node: Node, name: str) -> Lease:
    lease = _leases.get(name)
    if lease is None or lease.node is not node:
        lease = _leases[name] = Lease(node, name)
    return lease


class Lease:
    """One named lease of one node, renewed in the background while it is held."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self._until = 0.0
        self._renewing: asyncio.Task[None] | None = None

    async def held(self) -> bool:
        """Whether this node holds the lease; asks for it where it does not.

        With the broker away the last holder stays it: nobody else can be granted it.
        """
        if time.monotonic() < self._until:
            return True
        was_holder = self._until > 0.0
        try:
            granted = await self._ask()
        except ShardNodeError as error:
            _log.warning("lease %s: %s", self.name, error)
            return was_holder and not self.node.broker_up
        if granted and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._renew(), name=f"lease {self.name}")
        return granted

    async def _ask(self) -> bool:
        asked_at = time.monotonic()
        reply: LeaseReply = await self.node.ask(
            LEASE, LeaseRequest(self.name, LEASE_TTL_S), timeout_s=ASK_TIMEOUT_S, renew=True
        )
        self._until = asked_at + LEASE_TTL_S if reply.granted else 0.0
        return reply.granted

    async def _renew(self) -> None:
        """Until another holds it. A broker that does not answer is asked again."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                if not await self._ask():
                    return
            except ShardNodeError as error:
                _log.debug("lease %s not renewed: %s", self.name, error)
                if self.node.client is None:
                    return
