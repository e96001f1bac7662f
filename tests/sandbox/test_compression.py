import zlib

import pytest

from shard_node.sandbox import compression

TEXTS = ['{"op":10}', "x" * 300_000, '{"t":"READY"}', "é" * 131_073]


def raw_blocks(stream: bytes) -> bytes:
    """What a zstd decoder makes of a frame of raw blocks (RFC 8878, 3.1.1)."""
    assert stream[:4] == b"\x28\xb5\x2f\xfd"
    descriptor, window = stream[4], stream[5]
    assert descriptor == 0, "no checksum, no dictionary, a window descriptor follows"
    window_bytes = 1 << (10 + (window >> 3))
    at, found = 6, b""
    while at < len(stream):
        header = int.from_bytes(stream[at : at + 3], "little")
        size = header >> 3
        assert header & 0b111 == 0, "raw, and never the last"
        assert size <= min(window_bytes, 1 << 17)
        found += stream[at + 3 : at + 3 + size]
        at += 3 + size
    return found


def test_zlib_is_one_stream_that_ends_each_message_with_a_flush() -> None:
    name, pack = compression.new("zlib-stream")
    assert name == "zlib" and pack is not None
    inflator = zlib.decompressobj()
    for text in TEXTS:
        packed = pack(text)
        assert packed.endswith(b"\x00\x00\xff\xff")
        assert inflator.decompress(packed).decode() == text


def test_zstd_is_one_frame_whose_messages_can_be_decoded_one_by_one() -> None:
    name, pack = compression.new("zstd-stream")
    assert name == "zstd" and pack is not None
    messages = [pack(text) for text in TEXTS]
    for count in range(1, len(TEXTS) + 1):
        stream = b"".join(messages[:count])
        assert raw_blocks(stream).decode() == "".join(TEXTS[:count])


def test_each_connection_has_a_context_of_its_own() -> None:
    for kind in ("zlib-stream", "zstd-stream"):
        packs = [compression.new(kind)[1] for _ in range(2)]
        first, second = (pack("hello") for pack in packs if pack is not None)
        assert first == second


@pytest.mark.parametrize("compress", ["", "true", "br-stream"])
def test_what_discord_does_not_know_is_plain(compress: str) -> None:
    assert compression.new(compress) == ("plain", None)
