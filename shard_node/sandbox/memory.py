"""What the REST side remembers beyond the world: messages, commands, limits, open DMs. Pure."""

from __future__ import annotations

from typing import Any

from shard_node.sandbox.archive import Archive
from shard_node.sandbox.buckets import GlobalLimit, InvalidRequests, RouteBuckets
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.modals import Modals
from shard_node.sandbox.registry import Registry
from shard_node.sandbox.world import World


class Memory:
    """One for each sandbox, made with its state."""

    def __init__(self, config: SandboxConfig, world: World) -> None:
        self.archive = Archive()
        self.registry = Registry(world.application_id, world.snowflakes.next)
        self.buckets = RouteBuckets()
        self.global_limit = GlobalLimit(config.rest_global_per_s)
        self.invalid = InvalidRequests(
            max_count=config.invalid_requests_max, window_s=config.invalid_requests_window_s
        )
        self.modals = Modals()
        self.hooks: dict[int, dict[str, Any]] = {}
        self._direct: dict[int, dict[str, Any]] = {}
        self._world = world

    def open_direct(self, user_id: int) -> dict[str, Any]:
        """The channel of direct messages with a user. KeyError: nobody has this id."""
        channel = self._world.dm_channel(user_id)
        self._direct[int(channel["id"])] = channel
        return channel

    def direct(self, channel_id: int) -> dict[str, Any] | None:
        """An opened channel of direct messages, by its id."""
        return self._direct.get(channel_id)
