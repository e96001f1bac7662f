"""Small valid PNG pictures, the same for the same name. Pure.

Source of the format: RFC 2083 (PNG), section 3.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import Final

SIDE_MAX_PX: Final = 128
_CELLS: Final = 8
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PALETTE: Final = 3


def picture(name: str, side_px: int = SIDE_MAX_PX) -> bytes:
    """A mirrored pattern of two colours drawn from ``name``, ``side_px`` square."""
    digest = hashlib.sha256(name.encode()).digest()
    side_px = max(_CELLS, min(side_px, SIDE_MAX_PX))
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, _PALETTE, 0, 0, 0)
    colors = bytes(255 - value // 4 for value in digest[:3]) + digest[3:6]
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", colors),
            _chunk(b"IDAT", zlib.compress(_rows(digest[6:], side_px))),
            _chunk(b"IEND", b""),
        )
    )


def _rows(bits: bytes, side_px: int) -> bytes:
    """Filter byte and palette indices of each row; the right half mirrors the left."""
    rows = bytearray()
    for y in range(side_px):
        pattern = bits[y * _CELLS // side_px]
        rows.append(0)
        for x in range(side_px):
            cell = x * _CELLS // side_px
            rows.append(pattern >> min(cell, _CELLS - 1 - cell) & 1)
    return bytes(rows)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
