"""Plain data: what a value or a field may be."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from shard_node.state.errors import BadValue

DEPTH_MAX: Final = 32
FIELDS_MAX: Final = 256
"""Fields of one record."""
FIELD_MAX_CHARS: Final = 64

_encode = msgspec.msgpack.Encoder().encode


def check_plain(value: Any, what: str, depth: int = 0) -> None:
    """Raises BadValue for anything but null, truth values, whole numbers of 64 bits, finite
    numbers, text, bytes, and lists and maps (by text) of those, 32 deep."""
    if depth > DEPTH_MAX:
        raise BadValue(f"{what} is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for name, inner in value.items():
            if type(name) is not str:
                raise BadValue(f"{what} has a key that is no text: {name!r}")
            check_plain(inner, what, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_plain(inner, what, depth + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadValue(f"{what} is {value}, which is no number")
    elif value is not None and not isinstance(value, bool | int | str | bytes):
        raise BadValue(f"{what} is a {type(value).__name__}, which is no plain data")


def check_fields(fields: dict[str, Any], what: str) -> None:
    """Raises BadValue for fields that no record can have."""
    if len(fields) > FIELDS_MAX:
        raise BadValue(f"{what} would have {len(fields)} fields; the limit is {FIELDS_MAX}")
    for name, value in fields.items():
        if not 0 < len(name) <= FIELD_MAX_CHARS or not name.isprintable():
            raise BadValue(f"{name[:FIELD_MAX_CHARS]!r} is no field's name", field=name[:64])
        check_plain(value, f"field {name}")


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same and of the same types: 1 is not True."""
    encoded: bool = _encode(one) == _encode(other)
    return encoded
