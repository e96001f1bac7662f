"""An operator's routing rules: where a category goes instead of to its subscribers.

Only the target Topic(category) falls under a rule: the broker reads headers, never bodies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shard_node.wire.lanes import Lane

POOL: Final = "pool:"
NOBODY: Final = "nobody"


@dataclass(frozen=True, slots=True)
class Rule:
    """``nodes`` None: to the subscribers, as without a rule; empty: to nobody.

    ``pool`` names a pool of workers; ``lane`` None leaves the sender's.
    """

    category: str
    nodes: tuple[str, ...] | None = None
    pool: str = ""
    lane: Lane | None = None

    def shown(self) -> dict[str, object]:
        """The rule in the words of the config."""
        to: object = f"{POOL}{self.pool}" if self.pool else list(self.nodes or ()) or NOBODY
        rule: dict[str, object] = {"category": self.category}
        if self.nodes is not None or self.pool:
            rule["to"] = to
        if self.lane is not None:
            rule["lane"] = self.lane.name.lower()
        return rule
