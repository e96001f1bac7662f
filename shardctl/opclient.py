"""What operators ask of living processes."""

from __future__ import annotations

from shard_node.wire import topics
from shard_node.wire.operations import NodeReloaded, Reconnected, ReconnectRequest, ReloadRequest
from shardctl.client import Client


class Operations:
    """The requests of `reconnect` and `reload`. Each raises what a Client's raise."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def reconnect(self, request: ReconnectRequest) -> Reconnected:
        """Open a shard's gateway connection anew."""
        reply: Reconnected = self._client.ask(topics.RECONNECT, request)
        return reply

    def reload(self, extension: str, node: str) -> str:
        """Reload an extension on a node: what went wrong there, or an empty text."""
        reply: NodeReloaded = self._client.ask(topics.RELOAD, ReloadRequest(extension, node))
        return "" if reply.ok else reply.error or "it failed, and does not say why"
