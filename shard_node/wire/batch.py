"""What nodes say to each other: messages, many to a frame.

The broker reads the header of a BATCH and never its body, so what it cannot deliver goes
back whole (BOUNCE), and the sender settles each message.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import msgspec

from shard_node.wire.codec import WireError
from shard_node.wire.limits import BATCH_MAX_MESSAGES


class Flag(enum.IntFlag):
    """What the broker has to know of a BATCH."""

    KEPT = 1
    """Holds messages, requests or answers: bounced where it cannot go on, never dropped."""
    RESENT = 2
    """Was sent before, over a connection that broke."""
    REROUTED = 4
    """Set by the broker: goes to another owner than the first one, which is dead."""
    ANSWERS = 8
    """Holds answers only: where it cannot go on, its requester is gone and nobody misses it."""


class Message(msgspec.Struct, array_like=True, gc=False):
    """One message. ``body`` is MessagePack.

    ``kind`` is EVENT, MESSAGE, REQUEST, REPLY, ERROR or RECEIPT. ``number``: of a MESSAGE its
    place among all of its sender's messages in this lane, from 1; of a REQUEST, REPLY or
    ERROR the requester's correlation. ``ttl_ms`` as in the header; 0: no deadline.
    """

    kind: int
    topic: str
    body: bytes
    number: int = 0
    ttl_ms: int = 0


class Receipts(msgspec.Struct, array_like=True, frozen=True):
    """Body of a RECEIPT: what became of a sender's messages in one lane.

    ``delivered`` and ``rerouted`` are ranges of numbers, both ends included; ``failed`` are
    numbers with the code and the words of their error.
    """

    lane: int
    delivered: list[tuple[int, int]] = []
    rerouted: list[tuple[int, int]] = []
    failed: list[tuple[int, str, str]] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


encode_batch: Final[Callable[[list[Message]], bytes]] = _encoder.encode
"""The body of a BATCH."""


def decode_batch(data: bytes) -> list[Message]:
    """The messages of a BATCH. Raises WireError for anything else."""
    try:
        messages = _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise WireError("body", f"batch: {error}") from None
    if not 0 < len(messages) <= BATCH_MAX_MESSAGES:
        raise WireError("limit", f"{len(messages)} messages in a batch")
    return messages
