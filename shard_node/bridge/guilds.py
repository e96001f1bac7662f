"""Which guilds the bot of this node is in, for `shardctl where` and `invoke`."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from shard_node.wire.bodies import ErrorBody, WhereReply
from shard_node.wire.codec import WireError, decode_body

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
