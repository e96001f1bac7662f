"""What stands in for the gateway connection of a shard that another process has: its holder
sends for this one."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from disnake.gateway import DiscordWebSocket

from shard_node.peer.handlers import Message
from shard_node.wire.lingering import GatewayOp
from shard_node.wire.targets import Shard
from shard_node.wire.topics import GATEWAY_OP

if TYPE_CHECKING:
    from shard_node.bridge.hold import Hold

OPS: Final = frozenset(
    {DiscordWebSocket.PRESENCE, DiscordWebSocket.VOICE_STATE, DiscordWebSocket.REQUEST_MEMBERS}
)
"""What may be sent for somebody else; the rest belongs to the session."""
OP_TTL_S: Final = 30.0
NONCES_MAX: Final = 256


class RemoteSocket:
    """What disnake asks of a connection, for a shard that is not connected here."""

    PRESENCE = DiscordWebSocket.PRESENCE
    VOICE_STATE = DiscordWebSocket.VOICE_STATE
    REQUEST_MEMBERS = DiscordWebSocket.REQUEST_MEMBERS
    request_chunks = DiscordWebSocket.request_chunks
    voice_state = DiscordWebSocket.voice_state
    change_presence = DiscordWebSocket.change_presence
    open = True
    latency = float("nan")

    def __init__(self, hold: Hold, shard: int) -> None:
        self._hold, self.shard_id = hold, shard

    def is_ratelimited(self) -> bool:
        """The holder keeps the limit."""
        return False

    async def send_as_json(self, data: Any) -> None:
        """Ask the holder. Raises what ``Peer.send`` does."""
        hold, node = self._hold, self._hold.node
        body = GatewayOp(
            hold.lingering.label,
            self.shard_id,
            node.num_shards,
            json.dumps(data).encode(),
            _is_kept(hold.client, data),
        )
        await node.send(Shard(self.shard_id), GATEWAY_OP, body, ttl_s=OP_TTL_S)


def stand_in(hold: Hold) -> None:
    """Where disnake asks for the connection of a guild that has another process's shard, or of
    such a shard itself."""
    client: Any = hold.client
    stock = client._get_websocket

    def found(guild_id: int | None = None, *, shard_id: int | None = None) -> Any:
        shard = shard_id
        if shard is None and guild_id is not None:
            shard = (guild_id >> 22) % hold.node.num_shards
        if shard is not None and shard not in hold.shards and shard not in hold.node.shards:
            return RemoteSocket(hold, shard)
        return stock(guild_id, shard_id=shard_id)

    client.__dict__["_get_websocket"] = client._connection._get_websocket = found


class Asked:
    """At the holder: what it sends for others."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._kept: OrderedDict[str, None] = OrderedDict()

    def serve(self) -> None:
        """Hear what others ask."""
        self._hold.node.hear_peers(GATEWAY_OP, self._told)

    def keeps(self, nonce: Any) -> bool:
        """Whether members that came under this nonce are kept where they were asked for."""
        return nonce in self._kept

    async def _told(self, message: Message) -> None:
        """Send it. Raises LookupError or ValueError for what cannot be."""
        op: GatewayOp = message.body
        data = json.loads(op.payload)
        if not isinstance(data, dict) or data.get("op") not in OPS:
            text = f"{op.payload[:80]!r} is not sent for another process"
            raise ValueError(text)
        held = self._hold.shards.get(op.shard)
        if held is None or op.num_shards != self._hold.node.num_shards:
            text = f"shard {op.shard} of {op.num_shards} is not connected here"
            raise LookupError(text)
        if op.cache and (nonce := _nonce(data)):
            self._kept[nonce] = None
            if len(self._kept) > NONCES_MAX:
                self._kept.popitem(last=False)
        await held.ws.send_as_json(data)


def _nonce(data: Any) -> str:
    asked = data.get("d")
    return str(asked.get("nonce") or "") if isinstance(asked, dict) else ""


def _is_kept(client: Any, data: Any) -> bool:
    """Whether who asks here for members keeps them."""
    nonce = _nonce(data)
    requests = client._connection._chunk_requests.values()
    return bool(nonce) and any(one.nonce == nonce and one.cache for one in requests)
