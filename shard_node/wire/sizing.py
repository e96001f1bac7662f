"""How many processes hold a fleet's shards: the broker plans by it, `start --dry-run` foretells."""

from __future__ import annotations

import math
from typing import Final

SHARDS_PER_NODE: Final = 8
SANDBOX_NODES: Final = 2


def node_count(shards: int, *, asked: int | None, nodes_max: int, sandbox: bool) -> int:
    """How many nodes hold ``shards``; ``asked`` None stands for auto, at most ``nodes_max``.

    >>> node_count(20, asked=None, nodes_max=15, sandbox=False)
    3
    """
    if asked is None:
        wanted = math.ceil(shards / SHARDS_PER_NODE)
        asked = SANDBOX_NODES if sandbox else min(wanted, nodes_max)
    return max(1, min(asked, shards))
