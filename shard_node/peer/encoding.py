"""Bodies that a bot's author sends, as bytes."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from shard_node.wire.limits import BODY_MAX_BYTES

UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError)

encode_any: Final = msgspec.msgpack.Encoder().encode


def encode(body: Any) -> bytes:
    """A body's bytes. Raises TypeError or ValueError naming the type that cannot be sent."""
    try:
        data = encode_any(body)
    except UNENCODABLE as error:
        raise unencodable(body, error) from None
    if len(data) <= BODY_MAX_BYTES:
        return data
    raise too_large(len(data))


def unencodable(body: Any, error: Exception) -> Exception:
    """Why such a body has no bytes."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"a body of type {type(body).__name__} cannot be sent: {error}")


def too_large(size: int) -> ValueError:
    """Why it is not sent."""
    return ValueError(f"body of {size} bytes; the limit is {BODY_MAX_BYTES}")
