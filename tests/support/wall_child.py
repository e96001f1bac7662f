"""A program of the fleet with a wall clock of its own: it does what the lines on its input say.

Its arguments: the endpoint, the file that moves the clock. A line is a name as
``moderation.ban``, with arguments; ``until_in_s`` among them becomes an ``until`` by the wall
clock as it is then. On its output a line of JSON for each: what came back, or the error's class.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import reduce
from typing import Any

from tests.support import wall

CLOCK_OF_WALL = "wall"
"""A third argument that plants a fault: log time is the wall clock."""


def main(endpoint: str, path: str, fault: str = "") -> None:
    wall.follow(path)
    exec(wall.SOON_LOGGED)
    from shard_node import sync
    from shard_node.shared.clock import LogClock

    if fault == CLOCK_OF_WALL:
        LogClock.at_ms = lambda clock: time.time_ns() // 10**6  # type: ignore[method-assign]
    with sync.connect(endpoint, f"wall{time.monotonic_ns() % 10**9}") as node:
        print("serving", flush=True)
        for line in sys.stdin:
            name, args, kwargs = json.loads(line)
            print(json.dumps(called(node, name.split("."), args, kwargs)), flush=True)


def called(node: Any, path: Sequence[str], args: list[Any], kwargs: dict[str, Any]) -> Any:
    if "until_in_s" in kwargs:
        kwargs["until"] = time.time() + kwargs.pop("until_in_s")
    try:
        return plain(reduce(getattr, path, node)(*args, **kwargs))
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)}


def plain(found: Any) -> Any:
    """Tuples as dicts by their fields' names."""
    if hasattr(found, "_asdict"):
        return found._asdict()
    return found if isinstance(found, bool | int | float | str | dict | None) else str(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
