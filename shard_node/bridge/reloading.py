"""Reloads an extension of the bot where it stands, when the broker asks."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from shard_node.failure import author_line_of
from shard_node.redact import redact
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import WireError, decode_body
from shard_node.wire.operations import NodeReload, NodeReloaded

_log = logging.getLogger(__name__)

LOAD_MAX_S: Final = 6.0
"""An extension is loaded in one step of the loop, which reads no events meanwhile: they wait in
the connection. Longer, and the node would be taken for hung."""
HANG_SHARE: Final = 0.4
"""Of the time after which it would be: what takes too long is taken back, in as long again."""
COG_LOAD_MAX_S: Final = 5.0
"""So long the answer waits for `cog_load`, which disnake starts as a task."""
NAMED_MAX: Final = 10
ERROR_MAX_CHARS: Final = 500


class TooSlow(Exception):
    """An extension did not come to an end."""


class Reloading:
    """Serves NODE_RELOAD for one bot; ``folder`` is the author's."""

    def __init__(self, client: Any, folder: Path, hang_s: float) -> None:
        self._client, self._folder = client, folder
        self.load_max_s = min(LOAD_MAX_S, hang_s * HANG_SHARE) if hang_s else LOAD_MAX_S

    async def serve(self, body: bytes) -> NodeReloaded | ErrorBody:
        """Reload. What goes wrong is in the answer, in one line."""
        try:
            name = decode_body(body, NodeReload).extension
        except WireError as error:
            return ErrorBody("E_BAD_REQUEST", str(error))
        if not hasattr(self._client, "reload_extension"):
            kind = type(self._client).__name__
            return _failed(f"{kind} has no extensions: it is no bot of disnake.ext.commands")
        before = asyncio.all_tasks()
        try:
            importlib.invalidate_caches()
            with bounded(self.load_max_s):
                self._client.reload_extension(name)
        except Exception as error:
            _log.warning("extension %s was not reloaded", name, exc_info=error)
            return _failed(self._words(name, error))
        return await self._loaded(name, asyncio.all_tasks() - before)

    async def _loaded(self, name: str, tasks: set[asyncio.Task[Any]]) -> NodeReloaded:
        _log.info("extension %s is reloaded", name)
        loads = {task for task in tasks if _is_cog_load(task)}
        if loads:
            await asyncio.wait(loads, timeout=COG_LOAD_MAX_S)
        for task in loads:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                _log.error("cog_load of %s failed", name, exc_info=error)
                return _failed(f"{name} is reloaded, but its cog_load raised {self._brief(error)}")
        return NodeReloaded(True)

    def _words(self, name: str, error: Exception) -> str:
        kind = type(error).__name__
        if kind == "ExtensionNotLoaded":
            loaded = sorted(self._client.extensions)
            more = f" and {len(loaded) - NAMED_MAX} more" if len(loaded) > NAMED_MAX else ""
            named = ", ".join(loaded[:NAMED_MAX]) + more or "none"
            return f"{kind}: {name}; loaded are: {named}"
        cause: BaseException = getattr(error, "original", None) or error
        left = "the one before is in place" if name in self._client.extensions else "it is gone"
        if isinstance(cause, TooSlow):
            return f"{kind}: {name} took more than {self.load_max_s:g} s; {left}"
        said = "" if cause is error else f": {self._brief(cause)}"
        return f"{kind}: {name}{said}; {left}"

    def _brief(self, error: BaseException) -> str:
        where = author_line_of(self._folder, error)
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
        return f"{text} ({where})" if where else text


def _failed(why: str) -> NodeReloaded:
    return NodeReloaded(False, redact(" ".join(why.split()))[:ERROR_MAX_CHARS])


def _is_cog_load(task: asyncio.Task[Any]) -> bool:
    """How disnake makes it: ``create_task(maybe_coroutine(self.cog_load))``."""
    return getattr(task.get_coro(), "__name__", "") == "maybe_coroutine"


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """What runs longer is interrupted with TooSlow, and again what it does then. Only in the
    main thread: elsewhere nothing can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over = False

    def late(_number: int, _frame: FrameType | None) -> None:
        if not over:
            raise TooSlow(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before if before is not None else signal.SIG_DFL)
