"""What one running sandbox consists of; every handler gets this one value."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from shard_node.sandbox.audit import Audit
from shard_node.sandbox.config import API_PATH, HOST, SandboxConfig
from shard_node.sandbox.gate import Gate
from shard_node.sandbox.memory import Memory
from shard_node.sandbox.session import Hub
from shard_node.sandbox.snowflake import shard_of
from shard_node.sandbox.world import World

INFO_SCHEMA = 1
RESUME_PATH = "/resume"


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks: monotonic seconds for what lasts, Unix milliseconds for what is dated."""

    monotonic: Callable[[], float] = time.monotonic
    wall_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)


SYSTEM_CLOCK = Clock()


@dataclass(slots=True)
class Storm:
    """A storm of 429: how long or for how many requests REST answers with nothing else."""

    until: float = 0.0
    left: int | None = None
    retry_after_s: float = 1.0
    scope: str = "user"


@dataclass(slots=True)
class SandboxState:
    """World, sessions, counters and settings of one sandbox."""

    config: SandboxConfig
    clock: Clock
    world: World
    hub: Hub
    audit: Audit
    gate: Gate
    memory: Memory
    recommended_shards: int
    storm: Storm = field(default_factory=Storm)
    resume_is_dead: bool = False
    port: int = 0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.clock.monotonic()

    @property
    def gateway_url(self) -> str:
        """Where clients open their first connection."""
        return f"ws://{HOST}:{self.port}"

    @property
    def rest_url(self) -> str:
        """The base of the REST routes."""
        return f"http://{HOST}:{self.port}{API_PATH}"

    def listening(self, port: int) -> None:
        """The server has its port: URLs are known from here on."""
        self.port = port
        self.hub.resume_url = f"{self.gateway_url}{RESUME_PATH}"

    def gateway_bot(self) -> dict[str, Any]:
        """The answer to ``GET /gateway/bot``."""
        return {
            "url": self.gateway_url,
            "shards": self.recommended_shards,
            "session_start_limit": self.gate.limit(self.now()),
        }

    def take_storm(self, *, exempt: bool = False) -> Storm | None:
        """The storm that this REST request runs into, counted; None in fair weather.

        A storm of the global limit leaves alone what is exempt from that limit.
        """
        storm = self.storm
        if self.now() >= storm.until or storm.left == 0:
            return None
        if exempt and storm.scope == "global":
            return None
        if storm.left is not None:
            storm.left -= 1
        return storm

    def info(self) -> dict[str, Any]:
        """What a client needs to find its way in: the info file and ``GET /sandbox/info``."""
        return {
            "schema": INFO_SCHEMA,
            "rest_url": self.rest_url,
            "gateway_url": self.gateway_url,
            "token": self.world.token,
            "control_url": f"http://{HOST}:{self.port}/sandbox",
            "witness_url": f"ws://{HOST}:{self.port}/sandbox/witness",
            "pid": os.getpid(),
        }


STATE: web.AppKey[SandboxState] = web.AppKey("sandbox", SandboxState)
"""Where the application keeps its state."""


def new_state(config: SandboxConfig, clock: Clock = SYSTEM_CLOCK) -> SandboxState:
    """A fresh sandbox that listens nowhere yet."""
    audit = Audit(
        acknowledge_within_s=config.interaction_deadline_s,
        token_valid_s=config.interaction_token_ttl_s,
    )
    world = World(config, clock.wall_ms)
    gate = Gate(
        window_s=config.identify_window_s,
        max_concurrency=config.max_concurrency,
        total=config.session_starts_total,
        reset_s=config.session_starts_reset_s,
        remaining=config.session_starts_remaining,
        now=clock.monotonic(),
    )
    hub = Hub(config, world, audit.counters)
    audit.shard_of = lambda guild_id: shard_of(guild_id, hub.latest_num_shards) if guild_id else 0
    return SandboxState(
        config=config,
        clock=clock,
        world=world,
        hub=hub,
        audit=audit,
        gate=gate,
        memory=Memory(config, world),
        recommended_shards=config.shards,
    )
