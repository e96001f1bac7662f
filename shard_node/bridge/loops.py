"""The loops of ``disnake.ext.tasks`` that the bot has started: a process that lingers ends them,
for its successor runs them."""

from __future__ import annotations

import functools
from typing import Any
from weakref import WeakSet

from disnake.ext.tasks import Loop
from disnake.utils import MISSING

_started: WeakSet[Loop[Any]] = WeakSet()


def install() -> None:
    """Patch disnake: a loop that starts is noted."""
    start = Loop.start

    @functools.wraps(start)
    def noted(self: Loop[Any], *args: Any, **kwargs: Any) -> Any:
        _started.add(self)
        return start(self, *args, **kwargs)

    Loop.start = noted  # type: ignore[method-assign]


def stop_all() -> int:
    """A loop that runs ends after this round; one that sleeps ends now. How many ran."""
    running = [loop for loop in _started if loop.is_running()]
    for loop in running:
        asleep = loop._handle is not MISSING and not loop._handle.done()
        if asleep:
            loop.cancel()
        else:
            loop.stop()
    return len(running)
