"""What a node submits: operations that happen all or not at all."""

from __future__ import annotations

from typing import Final

import msgspec

from shard_node.state.ops import AnyOp

OP_ID_BYTES: Final = 16
SALT_BYTES: Final = 16
OPS_MAX: Final = 256
"""Operations in one transaction."""


class Actor(msgspec.Struct, array_like=True, frozen=True):
    """Who did it: a node or "shardctl", on behalf of which user (0: nobody), and why."""

    node: str = ""
    user: int = 0
    reason: str = ""


class Tx(msgspec.Struct, array_like=True, frozen=True):
    """A transaction. ``op_id`` names it: sent again, it is not applied again. ``salt`` is
    hashed with its payload, so that an erased payload cannot be guessed. Both are random
    bytes that the submitter draws."""

    op_id: bytes
    salt: bytes
    ops: tuple[AnyOp, ...]
    actor: Actor = Actor()
