"""Transport compression of a gateway connection: one context for all its messages. Pure.

Sources: Discord's gateway documentation, "Transport Compression"; RFC 8878 for zstd. Before
Python 3.14 the standard library has no zstd, and here none is needed: a zstd frame may consist of
raw blocks, which every decoder takes. It saves no bytes, on a loopback nobody's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

ZLIB_LEVEL: Final = 1
"""Cheapest compression: the sandbox is on the same machine."""

_ZSTD_MAGIC: Final = 0xFD2FB528
_ZSTD_BLOCK_MAX_BYTES: Final = 1 << 17
_ZSTD_WINDOW: Final = (17 - 10) << 3
"""Window descriptor: exponent 17, as large as the largest block; no mantissa."""
_ZSTD_HEADER: Final = _ZSTD_MAGIC.to_bytes(4, "little") + bytes((0, _ZSTD_WINDOW))

Pack = Callable[[str], bytes]
"""Turns one payload into the bytes of one binary message."""


def _zlib() -> Pack:
    compressor = zlib.compressobj(ZLIB_LEVEL)

    def pack(text: str) -> bytes:
        return compressor.compress(text.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)

    return pack


def _zstd() -> Pack:
    """One frame that never ends: its header goes before the first message's blocks."""
    header = [_ZSTD_HEADER]

    def pack(text: str) -> bytes:
        raw = text.encode()
        parts = [header.pop()] if header else []
        for start in range(0, len(raw), _ZSTD_BLOCK_MAX_BYTES):
            block = raw[start : start + _ZSTD_BLOCK_MAX_BYTES]
            parts += [(len(block) << 3).to_bytes(3, "little"), block]
        return b"".join(parts)

    return pack


_KINDS: Final[dict[str, tuple[str, Callable[[], Pack]]]] = {
    "zlib-stream": ("zlib", _zlib),
    "zstd-stream": ("zstd", _zstd),
}


def new(compress: str) -> tuple[str, Pack | None]:
    """What ``compress`` of the URL asks for: its short name and a fresh context.

    Nothing, and what Discord does not know either, is "plain": text messages.
    """
    if compress not in _KINDS:
        return "plain", None
    name, make = _KINDS[compress]
    return name, make()
