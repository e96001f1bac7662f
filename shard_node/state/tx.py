"""What a node submits: operations that happen all or not at all."""

from __future__ import annotations

from typing import Final

import msgspec

from shard_node.state.ops import AnyOp

OP_ID_BYTES: Final = 16
SALT_BYTES: Final = 16
_TIME_BYTES: Final = 6
_TIME_MAX: Final = (1 << 48) - 1
OPS_MAX: Final = 256
"""Operations in one transaction."""


class Actor(msgspec.Struct, array_like=True, frozen=True):
    """Who did it: a node or "shardctl", on behalf of which user (0: nobody), and why."""

    node: str = ""
    user: int = 0
    reason: str = ""


class Tx(msgspec.Struct, array_like=True, frozen=True):
    """A transaction. ``op_id`` names it: sent again, it is not applied again (``new_op_id``).
    ``salt``, random bytes, is hashed with its payload, so that an erased payload cannot be
    guessed."""

    op_id: bytes
    salt: bytes
    ops: tuple[AnyOp, ...]
    actor: Actor = Actor()


def new_op_id(wall_ms: int, drawn: bytes) -> bytes:
    """An id of a transaction: the wall clock, so that ids of one time lie together, and random
    bytes, OP_ID_BYTES of them or more."""
    return (wall_ms & _TIME_MAX).to_bytes(_TIME_BYTES, "big") + drawn[_TIME_BYTES:OP_ID_BYTES]
