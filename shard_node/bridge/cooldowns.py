"""``shard_node.cooldown``: disnake's cooldown, counted once for all shards."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from disnake.ext import commands
from disnake.interactions import Interaction

from shard_node import lone, runtime
from shard_node.errors import BotLoadError
from shard_node.shared.cooldowns import RetryAfter, check_down, operation
from shard_node.state.keys import NAME_MAX_BYTES

F = TypeVar("F")
_PREFIX: Final = "command:"

BucketKey = Callable[[Any], Any]


def cooldown(
    rate: int,
    per_s: float,
    type: commands.BucketType | BucketKey = commands.BucketType.default,
    *,
    broker_down: str | None = None,
) -> Callable[[F], F]:
    """As ``disnake.ext.commands.cooldown``, over all shards of the fleet.

    ``rate`` uses in ``per_s`` seconds for each bucket; ``type`` is a BucketType or a function
    of the context or interaction. Stands above ``async def`` or above the command's decorator.
    The command then raises ``commands.CommandOnCooldown``, which the bot's error handlers see
    as with disnake's own; while no broker answers it raises what ``node.cooldowns.acquire``
    does, where ``broker_down`` comes from. Raises BotLoadError for anything that is no command,
    BadValue for no rate or time.
    """
    operation(_PREFIX, rate, per_s)
    check_down(broker_down)

    def decorate(func: F) -> F:
        callback: Any = func if asyncio.iscoroutinefunction(func) else None
        if callback is None:
            callback = getattr(func, "callback", None)
            if not asyncio.iscoroutinefunction(callback):
                raise BotLoadError(
                    f"cooldown decorates a command or its coroutine function, not {func!r}",
                    code="E_BOT_COOLDOWN",
                    hint="put @shard_node.cooldown directly above `async def`",
                )
            command: Any = func
            command.callback = _wrap(callback, rate, per_s, type, broker_down)
            return func
        return cast(F, _wrap(callback, rate, per_s, type, broker_down))

    return decorate


def _wrap(
    func: Callable[..., Awaitable[Any]],
    rate: int,
    per_s: float,
    kind: commands.BucketType | BucketKey,
    broker_down: str | None,
) -> Callable[..., Awaitable[Any]]:
    name = f"{func.__module__}.{func.__qualname__}"
    stock = commands.Cooldown(rate, per_s)

    @functools.wraps(func)
    async def limited(*args: Any, **kwargs: Any) -> Any:
        node = runtime.current() or lone.begin()
        key = _key(name, kind, _context((*args, *kwargs.values())))
        outcome = await node.cooldowns.acquire(key, rate, per_s, broker_down=broker_down)
        if isinstance(outcome, RetryAfter):
            bucket: Any = kind
            raise commands.CommandOnCooldown(stock.copy(), float(outcome), bucket)
        return await func(*args, **kwargs)

    return limited


def _context(args: tuple[Any, ...]) -> Any:
    """What the command was called with: behind the cog, if it has one; slash commands get it
    by name."""
    for arg in args:
        if isinstance(arg, commands.Context | Interaction):
            return arg
    raise TypeError("a command with a cooldown takes a context or an interaction first")


def _key(name: str, kind: commands.BucketType | BucketKey, context: Any) -> str:
    """The same on all shards for the same command and bucket."""
    bucket = kind(context)
    label = kind.name if isinstance(kind, commands.BucketType) else "own"
    parts = bucket if isinstance(bucket, tuple) else (bucket,)
    key = f"{_PREFIX}{name}:{label}:{':'.join(map(str, parts))}"
    if len(key.encode()) <= NAME_MAX_BYTES and key.isprintable():
        return key
    return _PREFIX + hashlib.sha256(key.encode()).hexdigest()
