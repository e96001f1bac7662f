"""Whom a frame is for. On the wire a target is the array ``[tag, fields...]``.

| target | bytes | resolved by the broker to |
| --- | --- | --- |
| ``Broker()`` | ``["b"]`` | the broker itself |
| ``All()`` | ``["a"]`` | every registered node but the sender |
| ``Node(name)`` | ``["n", name]`` | the node of that name, whatever its epoch |
| ``Shard(id, num_shards)`` | ``["s", id, num_shards]`` | the node that holds the shard |
| ``Guild(id)`` | ``["g", id]`` | the owner of the guild |
| ``Topic(name)`` | ``["t", name]`` | the subscribers of the topic |
| ``Pool(name)`` | ``["p", name]`` | one worker of the pool |
"""

from __future__ import annotations

import msgspec


class Broker(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The broker itself."""


class All(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """Every registered node but the sender."""


class Node(msgspec.Struct, frozen=True, array_like=True, tag="n"):
    """A node by its stable name, or one of its processes as ``name#epoch``."""

    name: str


class Shard(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A gateway shard; ``num_shards`` 0 stands for the fleet's current generation."""

    id: int
    num_shards: int = 0


class Guild(msgspec.Struct, frozen=True, array_like=True, tag="g"):
    """A guild by its snowflake; its shard is ``(id >> 22) % num_shards``."""

    id: int


class Topic(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """All subscribers of a topic."""

    name: str


class Pool(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """One worker of a pool."""

    name: str


Target = Broker | All | Node | Shard | Guild | Topic | Pool

ALL = All()
BROKER = Broker()


def shard_of_guild(guild_id: int, num_shards: int) -> int:
    """The gateway shard of a guild: Discord's documentation, Gateway, "Sharding formula".

    Raises ValueError for a ``num_shards`` below 1 or a negative id.
    """
    if num_shards < 1 or guild_id < 0:
        msg = f"no shard for guild {guild_id} of {num_shards} shards"
        raise ValueError(msg)
    return (guild_id >> 22) % num_shards
