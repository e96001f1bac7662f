"""Which guilds the bot of this node is in, for `shardctl where` and `invoke`."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from shard_node.bridge.options import Refusal, refused
from shard_node.wire.bodies import ErrorBody, WhereReply
from shard_node.wire.codec import WireError, decode_body
from shard_node.wire.shard_states import SERVING
from shard_node.wire.targets import shard_of_guild

if TYPE_CHECKING:
    from shard_node.bridge.adopt import Adoption

EXAMPLES_MAX: Final = 5


def held(client: Any, body: bytes) -> WhereReply | ErrorBody:
    """The question itself where its guild is in the bot's cache, otherwise E_NOT_FOUND."""
    try:
        question = decode_body(body, WhereReply)
    except WireError as error:
        return ErrorBody("E_BAD_REQUEST", str(error))
    if client.get_guild(question.guild) is not None:
        return question
    return absent(client, question.guild, question.shard)


def absent(client: Any, guild_id: int, shard: int) -> ErrorBody:
    """The bot is not in that guild of ``shard``, one of this node's."""
    mine = [guild.id for guild in client.guilds if guild.shard_id == shard]
    text = (
        f"the bot is in no guild {guild_id}: it would be on shard {shard}, "
        f"which holds {len(mine)} guilds"
    )
    return ErrorBody("E_NOT_FOUND", text, details={"exists": list(islice(mine, EXAMPLES_MAX))})


def own_guild(adoption: Adoption, guild_id: int) -> tuple[Any, Any, int]:
    """The bot, a guild that this process handles, and its shard. Raises Refusal where it is not
    here."""
    node, hold = adoption.node, adoption.hold
    shard = shard_of_guild(guild_id, node.num_shards) if guild_id >= 0 else -1
    hosted = hold is not None and hold.hosting.has(guild_id)
    if shard not in node.shards and not hosted:
        held_here = ", ".join(map(str, node.shards))
        text = f"guild {guild_id} is on shard {shard}; node {node.name} holds {held_here}"
        raise refused(text, "ask Guild(id), the guild's owner", "E_WRONG_NODE")
    if hold is None or not (hosted or node.table.state(shard) in SERVING):
        text = f"shard {shard} of node {node.name} is {node.table.state(shard).value}"
        raise Refusal(ErrorBody("E_NOT_READY", text, "retry later", retryable=True))
    guild = hold.client.get_guild(guild_id)
    if guild is None:
        raise Refusal(absent(hold.client, guild_id, shard))
    if guild.unavailable:
        text = f"guild {guild_id} is in an outage of Discord"
        raise Refusal(ErrorBody("E_UNAVAILABLE", text, "retry later", retryable=True))
    return hold.client, guild, shard
