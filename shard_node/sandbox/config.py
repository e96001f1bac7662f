"""The sandbox's settings: one frozen value, built once and passed in.

Defaults are Discord's published figures (gateway and rate-limit documentation, API v10)
where Discord publishes one; the rest is chosen for a developer's machine.
"""

from __future__ import annotations

from dataclasses import dataclass

API_VERSION = 10
API_PATH = f"/api/v{API_VERSION}"
HOST = "127.0.0.1"

SHARDS_MAX = 16_384
GUILDS_MAX = 1_000_000
MEMBERS_PER_GUILD_MAX = 100_000


class ConfigError(ValueError):
    """A setting outside its range; the message names the setting and the range."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Settings of one sandbox. Every limit has its unit in its name.

    ``guilds`` and ``shards`` are the world's size at start and the shard count that
    ``GET /gateway/bot`` recommends. ``members_per_guild`` is a mean; each guild's own number
    lies between half and one and a half of it.
    """

    port: int = 0
    guilds: int = 20
    shards: int = 4
    max_concurrency: int = 1
    seed: int = 1
    members_per_guild: int = 10

    # Gateway
    identify_window_s: float = 5.0
    heartbeat_interval_ms: int = 41_250
    heartbeat_misses: float = 1.75
    session_starts_total: int = 1_000
    session_starts_remaining: int | None = None
    session_starts_reset_s: float = 86_400.0
    session_ttl_s: float = 180.0
    replay_events_max: int = 16_384
    replay_bytes_max: int = 16 * 1024 * 1024
    sends_max: int = 120
    sends_window_s: float = 60.0
    payload_max_bytes: int = 4_096
    outbox_bytes_max: int = 64 * 1024 * 1024
    shard_guilds_max: int = 2_500
    large_bot_guilds: int = 150_000
    large_bot_shard_multiple: int = 16
    disallowed_intents: int = 0

    # REST
    rest_global_per_s: int = 50
    invalid_requests_max: int = 10_000
    invalid_requests_window_s: float = 600.0
    interaction_deadline_s: float = 3.0
    interaction_token_ttl_s: float = 900.0

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                msg = f"{name} is {value}; it must lie between {low} and {high}"
                raise ConfigError(msg)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("port", 0, 65_535),
    ("guilds", 0, GUILDS_MAX),
    ("shards", 1, SHARDS_MAX),
    ("max_concurrency", 1, SHARDS_MAX),
    ("seed", 0, 2**63 - 1),
    ("members_per_guild", 1, MEMBERS_PER_GUILD_MAX),
    ("identify_window_s", 0.0, 3_600.0),
    ("heartbeat_interval_ms", 50, 600_000),
    ("heartbeat_misses", 1.0, 10.0),
    ("session_starts_total", 1, 1_000_000),
    ("session_ttl_s", 0.0, 86_400.0),
    ("replay_events_max", 1, 10_000_000),
    ("sends_max", 1, 1_000_000),
)
