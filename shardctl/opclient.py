"""What operators ask of shards and processes: operations begun, shown, cancelled."""

from __future__ import annotations

from typing import Any

from shard_node.wire import topics
from shard_node.wire.bodies import RespawnReply, RespawnRequest
from shard_node.wire.migration import MigrateRequest, MigrationsRequest
from shard_node.wire.operations import (
    BalanceRequest,
    MoveRequest,
    NodeReloaded,
    OpReply,
    OpRequest,
    OpsRequest,
    Reconnected,
    ReconnectRequest,
    ReloadRequest,
    ScaleRequest,
)
from shardctl.client import Client


class Operations:
    """The requests of `respawn`, `operations` and so on. Each raises what a Client's raise."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def respawn(self, request: RespawnRequest) -> RespawnReply:
        """Replace processes."""
        reply: RespawnReply = self._client.ask(topics.RESPAWN, request)
        return reply

    def move(self, request: MoveRequest) -> OpReply:
        """Hand a shard to another node."""
        reply: OpReply = self._client.ask(topics.MOVE, request)
        return reply

    def migrate(self, request: MigrateRequest) -> OpReply:
        """Have a guild handled by another process."""
        reply: OpReply = self._client.ask(topics.MIGRATE, request)
        return reply

    def migrations(self) -> list[dict[str, Any]]:
        """The guilds that were given away, put together from their pages."""
        first = self._client.ask(topics.MIGRATIONS, MigrationsRequest())
        found: list[dict[str, Any]] = list(first["guilds"])
        for page in range(1, int(first.get("pages", 1))):
            found += self._client.ask(topics.MIGRATIONS, MigrationsRequest(page))["guilds"]
        return found

    def balance(self, request: BalanceRequest) -> OpReply:
        """Move shards until the nodes have about the same load."""
        reply: OpReply = self._client.ask(topics.BALANCE, request)
        return reply

    def scale(self, request: ScaleRequest) -> OpReply:
        """Have more nodes, or fewer."""
        reply: OpReply = self._client.ask(topics.SCALE, request)
        return reply

    def reconnect(self, request: ReconnectRequest) -> Reconnected:
        """Open a shard's gateway connection anew."""
        reply: Reconnected = self._client.ask(topics.RECONNECT, request)
        return reply

    def reload(self, extension: str, node: str) -> str:
        """Reload an extension on a node: what went wrong there, or an empty text."""
        reply: NodeReloaded = self._client.ask(topics.RELOAD, ReloadRequest(extension, node))
        return "" if reply.ok else reply.error or "it failed, and does not say why"

    def show(self, op: str) -> dict[str, Any]:
        """How far an operation is."""
        shown: dict[str, Any] = self._client.ask(topics.OP_SHOW, OpRequest(op))
        return shown

    def cancel(self, op: str) -> dict[str, Any]:
        """Take back what of it has not been decided."""
        shown: dict[str, Any] = self._client.ask(topics.OP_CANCEL, OpRequest(op))
        return shown

    def all(self) -> list[dict[str, Any]]:
        """The operations that are remembered, latest first, put together from their pages."""
        first = self._client.ask(topics.OPS, OpsRequest())
        found: list[dict[str, Any]] = list(first["operations"])
        for page in range(1, int(first.get("pages", 1))):
            found += self._client.ask(topics.OPS, OpsRequest(page))["operations"]
        return found
