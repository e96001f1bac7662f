"""How long the processes of nodes may take, and the steps of a hand-over between two of them:
``[lifecycle]`` of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from shard_node.wire.lifecycle import RESUME_MAX_S
from shard_node.wire.limits import HEARTBEAT_LOST_S


@dataclass(frozen=True, slots=True)
class LifecycleLimits:
    """``hang_s``: a node whose heartbeat thread is silent for so long, or whose event loop does
    not turn for so long, is killed; ``lag_s``: from here on a loop that lags is `degraded`.

    ``ready_s`` from a successor's spawn to its being warm, however alive it is;
    ``ready_max_s`` where nobody stands by to go on instead. ``retake_s``: how long a shard that
    was given up is nobody's before its old process takes it back. ``settle_s``: how long a
    successor has to live with its shards before the old process gives up for good, which then
    answers for what waits in it for ``linger_s``. A session that nobody had for
    ``resume_max_s`` is not resumed. ``spare_bytes`` stay free beside a second process.
    ``survivors``: whether nodes that live take the shards of one that died: "auto", "always" or
    "never".
    """

    hang_s: float = HEARTBEAT_LOST_S
    lag_s: float = 1.0
    ready_s: float = 60.0
    ready_max_s: float = 300.0
    arm_s: float = 10.0
    release_s: float = 5.0
    retake_s: float = 1.0
    take_s: float = 15.0
    settle_s: float = 3.0
    linger_s: float = 900.0
    resume_max_s: float = RESUME_MAX_S
    spare_bytes: int = 64 << 20
    told_again_s: float = 1.0
    survivors: str = "auto"


@dataclass(frozen=True, slots=True)
class GuildLimits:
    """Of a guild's way to another process: ``warm_s`` to read it, ``hold_s`` for its events to be
    held and its owner to let go (beside the drain), ``take_s`` for its lock, ``route_s`` and
    ``undo_s`` for what follows. ``steady_s``: a node whose process died is given its guilds again
    when it has lived so long, at most ``again_max`` times in ``again_window_s``. ``start_s``: so
    long a fleet that starts waits for a guild's node. ``at_once``: guilds that follow at a time.
    """

    warm_s: float = 10.0
    hold_s: float = 2.0
    take_s: float = 2.0
    route_s: float = 10.0
    undo_s: float = 10.0
    told_again_s: float = 0.5
    steady_s: float = 30.0
    again_max: int = 3
    again_window_s: float = 600.0
    start_s: float = 10.0
    at_once: int = 16
    overrides_max: int = 1000
