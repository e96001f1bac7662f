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
INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 64) - 1

_HINT: Final = (
    "plain data: None, bool, int, float, str, bytes, and lists and maps (by text) of them"
)
_TEXT_HINT: Final = "text.encode(errors='replace').decode() is whole"
_encode = msgspec.msgpack.Encoder().encode


def check_plain(value: Any, what: str, depth: int = 0) -> None:
    """Raises BadValue for anything but null, truth values, whole numbers of 64 bits, finite
    numbers, text, bytes, and lists and maps (by text) of those, 32 deep."""
    if depth > DEPTH_MAX:
        raise BadValue(f"{what} is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        for name, inner in value.items():
            if type(name) is not str:
                raise BadValue(f"{what} has a key that is no text: {name!r}"[:200], hint=_HINT)
            check_plain(name, what, depth + 1)
            check_plain(inner, what, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_plain(inner, what, depth + 1)
    else:
        _check_leaf(value, what)


def _check_leaf(value: Any, what: str) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadValue(f"{what} is {value}, which is no number", hint="None, or a finite one")
    elif isinstance(value, str):
        if not (value.isascii() or _is_whole(value)):
            raise BadValue(f"{what} has half a character in it", hint=_TEXT_HINT)
    elif isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            raise BadValue(f"{what} is a whole number beyond 64 bits", hint="keep it as text")
    elif value is not None and not isinstance(value, bytes):
        raise BadValue(f"{what} is a {type(value).__name__}, which is no plain data", hint=_HINT)


def check_fields(fields: dict[str, Any], what: str) -> None:
    """Raises BadValue for fields that no record can have."""
    if len(fields) > FIELDS_MAX:
        raise BadValue(f"{what} would have {len(fields)} fields; the limit is {FIELDS_MAX}")
    for name, value in fields.items():
        if not 0 < len(name) <= FIELD_MAX_CHARS or not name.isprintable():
            raise BadValue(f"{name[:FIELD_MAX_CHARS]!r} is no field's name", field=name[:64])
        check_plain(value, f"field {name}")


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same and of the same types: 1 is not True."""
    encoded: bool = _encode(one) == _encode(other)
    return encoded
