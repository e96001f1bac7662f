"""What this machine bears: cores and memory."""

from __future__ import annotations

import os
from typing import Final

from shard_node.wire.memory import available_bytes

NODE_BYTES: Final = 256 << 20
"""A node with a bot's caches; `--nodes auto` plans no more of them than there is memory."""


def nodes_max() -> int:
    """How many nodes `--nodes auto` may plan here."""
    return bearable(cores(), available_bytes())


def bearable(core_count: int, memory_bytes: int | None) -> int:
    """One core is left to broker and supervisor; memory None is not known. Pure.

    >>> bearable(4, 8 << 30), bearable(4, 600 << 20), bearable(1, 0), bearable(8, None)
    (3, 2, 1, 7)
    """
    by_memory = core_count if memory_bytes is None else memory_bytes // NODE_BYTES
    return max(1, min(core_count - 1, by_memory))


def cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
