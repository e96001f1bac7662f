"""Rows: what every one of them begins with, and how they are read and written.

A row is an array: ``version`` counts its changes from 1, ``lsn`` is the last of them, and
``origin`` the transaction that decided what is in it. A rollback gives a row back with the
origin that it had, so that the one before it can be rolled back next. Fields are only ever
appended, with defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec


class Row(msgspec.Struct, array_like=True, frozen=True):
    """Root of the rows."""

    version: int = 0
    lsn: int = 0
    origin: int = 0


R = TypeVar("R", bound=Row)

_encode = msgspec.msgpack.Encoder().encode
_decoders: dict[type[Row], msgspec.msgpack.Decoder[Any]] = {}
_any = msgspec.msgpack.Decoder()


def read(kind: type[R], data: bytes | None) -> R | None:
    """A row of this kind; None for none. Raises msgspec.MsgspecError for what is none."""
    if data is None:
        return None
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    row: R = decoder.decode(data)
    return row


def head(data: bytes) -> tuple[int, int]:
    """Version and lsn of any row."""
    found = read(Row, data)
    assert found is not None
    return found.version, found.lsn


write: Callable[[Row], bytes] = _encode
"""A row's bytes."""


def origin_of(data: bytes) -> int:
    """The origin of any row."""
    found = read(Row, data)
    assert found is not None
    return found.origin


def stamped(data: bytes, version: int, lsn: int) -> bytes:
    """The same row, of the same origin, with another version and lsn."""
    fields = _any.decode(data)
    fields[0], fields[1] = version, lsn
    return _encode(fields)
