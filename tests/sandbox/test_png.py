from __future__ import annotations

import struct
import zlib

import pytest

from shard_node.sandbox.rest.png import picture


@pytest.mark.parametrize("side_px", [1, 16, 64, 100, 128, 4096])
def test_every_chunk_and_row_is_sound(side_px: int) -> None:
    raw = picture("/emojis/1.png", side_px)
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(raw):
        (size,) = struct.unpack_from(">I", raw, at)
        kind, data = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack_from(">I", raw, at + 8 + size)
        assert checksum == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    assert width == height == max(8, min(side_px, 128))
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (width + 1)


def test_the_same_name_is_the_same_picture() -> None:
    assert picture("a") == picture("a") != picture("b")
