"""How long the processes of nodes may take: ``[lifecycle]`` of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from shard_node.wire.limits import HEARTBEAT_LOST_S


@dataclass(frozen=True, slots=True)
class LifecycleLimits:
    """``hang_s``: a node whose heartbeat thread is silent for so long, or whose event loop does
    not turn for so long, is killed; ``lag_s``: from here on a loop that lags is `degraded`."""

    hang_s: float = HEARTBEAT_LOST_S
    lag_s: float = 1.0
