"""A port that a bot binds and another process has: said in words, wherever it comes up.

While a node is respawned two processes of it live: what the old one has bound the new one
cannot bind, unless both share it. A successor that finds its port taken before it has any
shard ends, so that the old process stays as it is; elsewhere it is the author's error as it is.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from shard_node.errors import BotLoadError
from shard_node.failure import author_line_of
from shard_node.settings import SUCCESSOR, NodeSettings

CODE: Final = "E_BOT_PORT"
_PORT: Final = re.compile(r"\('[^']*', (\d+)")
"""As asyncio names an address that it could not bind."""


def told_of(settings: NodeSettings, error: BaseException) -> BotLoadError | None:
    """What to say of ``error`` where a port that is taken is behind it, else None."""
    taken = next((one for one in _chain(error) if _is_taken(one)), None)
    if taken is None:
        return None
    found = _PORT.search(str(taken))
    port = f"port {found[1]}" if found else "a port that it binds"
    where = author_line_of(settings.folder, taken) or author_line_of(settings.folder, error)
    where = where or settings.target
    if settings.role == SUCCESSOR:
        return BotLoadError(
            f"{where}: {port} is taken, as by the process of node {settings.name} that this one "
            "is to replace: it runs until this one is ready",
            code=CODE,
            hint="bind it with SO_REUSEPORT (asyncio and aiohttp: reuse_port=True), or bind a "
            f"free port (0), or type: shardctl respawn --node {settings.name} --in-sequence",
        )
    return BotLoadError(
        f"{where}: {port} is taken by another process of this machine",
        code=CODE,
        hint="each node is a process of its own: give each its own port (shard_node.node.index "
        "counts them from 0), or bind with SO_REUSEPORT (reuse_port=True)",
    )


def watch(
    loop: asyncio.AbstractEventLoop,
    settings: NodeSettings,
    taken: Callable[[BotLoadError], None],
) -> None:
    """Call ``taken`` for a task of the loop that ends so while nobody awaits it. The loop's own
    handler of such errors, or the author's, is called as ever."""
    before = loop.get_exception_handler()

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)
        error = context.get("exception")
        told = told_of(settings, error) if isinstance(error, BaseException) else None
        if told is not None:
            taken(told)

    loop.set_exception_handler(handler)


def _is_taken(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
