"""What the pure core has to know of the world; built once by the shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.core.balance import Balancing
from broker.core.keeping import Keeping
from broker.core.limits import GuildLimits, LifecycleLimits
from broker.core.rules import Rule


@dataclass(frozen=True, slots=True)
class Settings:
    """``shards`` and ``nodes`` None stand for auto, which plans ``nodes_max`` nodes at most.

    ``application`` names the Discord application and the API that the fleet talks to, as a
    hash; ``boot_id`` changes with each boot (CLOCK_MONOTONIC starts anew then); ``seed``
    feeds the jitter of the backoff; ``incarnation`` is greater than that of any broker before.
    ``keeping`` None: nobody backs the state up or trims its log.
    """

    fleet: str
    application: str
    boot_id: str
    broker_pid: int = 0
    shards: int | None = None
    nodes: int | None = None
    nodes_max: int = 1
    sandbox: bool = False
    identify_window_s: float = 5.0
    drain_s: float = 8.0
    seed: int = 0
    incarnation: int = 1
    routes: tuple[Rule, ...] = ()
    keeping: Keeping | None = None
    lifecycle: LifecycleLimits = field(default_factory=LifecycleLimits)
    guilds: GuildLimits = field(default_factory=GuildLimits)
    balancing: Balancing = field(default_factory=Balancing)
    journals: Callable[[], Mapping[int, frozenset[int]]] = dict
    """Looks which shards can RESUME, by the shard count that they were started with."""
    memory: Callable[[], int | None] = lambda: None
    """Memory that can be had now, in bytes; None: not known."""
