"""Bytes to headers and bodies and back. Encoders and decoders are built once.

Two families of errors: ``WireError`` is the peer's fault (counted by ``reason`` and
rejected); anything else is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from shard_node.wire.header import Header
from shard_node.wire.limits import (
    BODY_MAX_BYTES,
    HEADER_MAX_BYTES,
    OLDEST_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    TOPIC_MAX_CHARS,
    TTL_MAX_MS,
)

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)

# A depth bomb raises RecursionError and bad UTF-8 UnicodeDecodeError out of msgspec;
# neither is a msgspec error.
_DECODE_ERRORS = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError)


class WireError(Exception):
    """A frame that cannot be accepted. ``reason`` is one of a fixed set, for counters:

    ``oversized``, ``malformed``, ``version``, ``limit``, ``parts``, ``body``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


encode_header: Final[Callable[[Header], bytes]] = _encoder.encode
"""The header's bytes."""


def decode_header(data: bytes) -> Header:
    """The header in ``data``. Raises WireError for anything but a valid one."""
    if len(data) > HEADER_MAX_BYTES:
        raise WireError("oversized", f"header of {len(data)} bytes")
    try:
        value = _header_decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise WireError("malformed", str(error)) from None
    if not OLDEST_PROTOCOL_VERSION <= value.version <= PROTOCOL_VERSION:
        raise WireError("version", str(value.version))
    if len(value.topic) > TOPIC_MAX_CHARS or not 0 <= value.ttl_ms <= TTL_MAX_MS:
        raise WireError("limit", value.topic[:TOPIC_MAX_CHARS])
    return value


def encode_body(value: Any) -> bytes:
    """The body's bytes. Raises TypeError naming the type that cannot be serialised.

    Raises ValueError for a body over BODY_MAX_BYTES.
    """
    data = _encoder.encode(value)
    if len(data) > BODY_MAX_BYTES:
        msg = f"body of {len(data)} bytes; the limit is {BODY_MAX_BYTES}"
        raise ValueError(msg)
    return data


_body_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def _decoder(body_type: Any) -> msgspec.msgpack.Decoder[Any]:
    decoder = _body_decoders.get(body_type)
    if decoder is None:
        decoder = _body_decoders[body_type] = msgspec.msgpack.Decoder(body_type)
    return decoder


def decode_body(data: bytes, body_type: type[T]) -> T:
    """The body in ``data`` as a ``body_type``. Raises WireError for anything else."""
    if len(data) > BODY_MAX_BYTES:
        raise WireError("oversized", f"body of {len(data)} bytes")
    try:
        value: T = _decoder(body_type).decode(data)
    except _DECODE_ERRORS as error:
        raise WireError("body", f"{body_type.__name__}: {error}") from None
    return value
