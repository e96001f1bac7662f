"""Records to frames and back. A frame is what is written at once: all of it counts or none.

``_HEAD``: magic, a check of the next two fields, bytes of the body, number of records, CRC-32
of all that and the body. So a length that was changed is known before it is believed, and
only the end of a file can look like a frame that is not finished.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from shard_node.journal.records import Record

_MAGIC: Final = 0x534A
_HEAD: Final = struct.Struct("<HHIII")
_SIZES: Final = struct.Struct("<II")
RECORD: Final = struct.Struct("<BQI")
"""Kind, sequence number, bytes of the payload that follows."""
FRAME_HEAD_BYTES: Final = _HEAD.size


class Damaged(Exception):
    """These bytes are not what was written."""


def frame(records: Sequence[Record]) -> bytes:
    """The frame of these records."""
    parts = list[bytes]()
    for kind, seq, payload in records:
        parts += (RECORD.pack(kind, seq, len(payload)), payload)
    return sealed(b"".join(parts), len(records))


def sealed(body: bytes, count: int) -> bytes:
    """The frame of a body: ``count`` times ``RECORD`` and payload."""
    sizes = _SIZES.pack(len(body), count)
    check = zlib.crc32(sizes)
    return _HEAD.pack(_MAGIC, check & 0xFFFF, len(body), count, zlib.crc32(body, check)) + body


def read(data: bytes, at: int = 0) -> tuple[list[tuple[Record, int]], int]:
    """The records of the whole frames in ``data`` from ``at`` on, each with the place of its
    payload, and where the last of these frames ends: behind it is what a writer began and did
    not finish, or nothing. Raises Damaged."""
    found = list[tuple[Record, int]]()
    while at + _HEAD.size <= len(data):
        magic, check, size, count, crc = _HEAD.unpack_from(data, at)
        sizes = zlib.crc32(_SIZES.pack(size, count))
        if magic != _MAGIC or sizes & 0xFFFF != check:
            text = f"no frame at byte {at}"
            raise Damaged(text)
        start, end = at + _HEAD.size, at + _HEAD.size + size
        if end > len(data):
            break
        if zlib.crc32(memoryview(data)[start:end], sizes) != crc:
            text = f"the frame at byte {at} is not what was written"
            raise Damaged(text)
        found += _records(data, start, end, count)
        at = end
    return found, at


def _records(data: bytes, at: int, end: int, count: int) -> list[tuple[Record, int]]:
    found = list[tuple[Record, int]]()
    for _ in range(count):
        if at + RECORD.size > end:
            break
        kind, seq, length = RECORD.unpack_from(data, at)
        at += RECORD.size
        found.append((Record(kind, seq, data[at : at + length]), at))
        at += length
    if at != end or len(found) != count:
        text = f"the records up to byte {end} do not fill their frame"
        raise Damaged(text)
    return found
