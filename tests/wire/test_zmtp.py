"""ZMTP's bytes: what libzmq says and what we say, whole and in pieces, and what is none."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.wire.zmtp import GREETING, PARTS_KEPT_MAX, Reader, ZmtpError, pack, ready

DEALERS = frozenset({b"DEALER"})
MAX_BYTES = 70_000
# libzmq 4.3.5's own first words, as a DEALER with the routing id "a#1".
LIBZMQ = (
    bytes.fromhex("ff00000000000000047f0301") + b"NULL" + bytes(48)
    + bytes.fromhex("042c") + b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x03a#1"
)  # fmt: skip


def reader(max_bytes: int = MAX_BYTES) -> Reader:
    return Reader(DEALERS, max_bytes)


def shaken(max_bytes: int = MAX_BYTES) -> Reader:
    made = reader(max_bytes)
    assert made.feed(GREETING + ready(b"DEALER", b"me")) == []
    assert made.identity == b"me"
    return made


def in_pieces(data: bytes, seed: int) -> list[bytes]:
    noise, found, at = random.Random(seed), [], 0
    while at < len(data):
        step = noise.choice((1, 2, 3, 9, 64, 1000, 100_000))
        found.append(data[at : at + step])
        at += step
    return found


def test_the_greeting_is_that_of_the_specification() -> None:
    assert len(GREETING) == 64
    assert GREETING[:12] == b"\xff" + bytes(8) + b"\x7f\x03\x00"
    assert GREETING[12:32] == b"NULL" + bytes(16)


@pytest.mark.parametrize("seed", range(20))
def test_libzmqs_handshake_is_understood_in_pieces(seed: int) -> None:
    made = reader()
    for piece in in_pieces(LIBZMQ, seed):
        assert made.feed(piece) == []
    assert made.identity == b"a#1"


@given(
    st.lists(st.tuples(st.binary(max_size=600), st.integers(0, MAX_BYTES)), max_size=8),
    st.integers(0, 1 << 30),
)
def test_what_is_packed_comes_out_however_it_is_cut(
    frames: list[tuple[bytes, int]], seed: int
) -> None:
    made, got = shaken(), []
    sent = [[head, bytes(size)] for head, size in frames]
    for piece in in_pieces(b"".join(pack(*frame) for frame in sent), seed):
        got += made.feed(piece)
    assert got == sent


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536])
def test_a_size_is_short_or_long(size: int) -> None:
    assert shaken().feed(pack(bytes(size), b"x") + pack(b"y", bytes(size))) == [
        [bytes(size), b"x"],
        [b"y", bytes(size)],
    ]


def test_of_too_many_parts_a_few_are_kept() -> None:
    data = b"\x01\x01x" * 5000 + b"\x00\x01y" + pack(b"a", b"b") + b"\x00\x01z"
    found = shaken().feed(data)
    assert [len(parts) for parts in found] == [PARTS_KEPT_MAX, 2, 1]


def test_a_ping_is_answered_and_other_commands_are_passed_over() -> None:
    made = shaken()
    assert made.feed(b"\x04\x09\x04PING\0\x0aab" + b"\x04\x04\x03FOO" + pack(b"h", b"b")) == [
        [b"h", b"b"]
    ]
    assert made.replies == [b"\x04\x07\x04PONGab"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" + bytes(9),
        bytes(64),
        GREETING.replace(b"\x7f\x03", b"\x7f\x01"),
        GREETING.replace(b"NULL", b"PLAI"),
        GREETING + b"\x00\x01x",
        GREETING + b"\x04\x05\x04PING",
        GREETING + ready(b"SUB", b"me"),
        GREETING + b"\x04\x06\x05READY"[:8] + b"",
        GREETING + ready(b"DEALER", b"i" * 256),
        GREETING + b"\x04\x09\x05READY\x7fa\0",
        GREETING + b"\x04\x10\x05READY\x01a\0\0\0\xffbcd",
        GREETING + b"\x06" + (5000).to_bytes(8) + b"\x05READY" + bytes(4994),
    ],
)
def test_a_bad_handshake_ends_the_connection(data: bytes) -> None:
    made = reader()
    try:
        made.feed(data)
    except ZmtpError:
        return
    assert made.identity is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x02" + (MAX_BYTES + 1).to_bytes(8),
        b"\x02" + b"\xff" * 8,
        b"\x08\x01x",
        b"\x05\x01x",
        b"\xfd\x01x",
        b"\x06" + (5000).to_bytes(8) + bytes(5000),
    ],
)
def test_a_frame_that_cannot_be_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ZmtpError):
        shaken().feed(data)


def test_noise_is_an_error_or_nothing_and_holds_little() -> None:
    for seed in range(3000):
        noise = random.Random(seed)
        made = shaken() if seed % 2 else reader()
        try:
            for _ in range(5):
                made.feed(noise.randbytes(noise.randrange(1, 200)))
        except ZmtpError:
            continue
        assert len(made._held) <= 1000


def test_a_large_part_in_tiny_pieces_is_held_once() -> None:
    made, data = shaken(), pack(b"h", bytes(MAX_BYTES))
    for at in range(len(data) - 1):
        assert made.feed(data[at : at + 1]) == []
    assert len(made._held) <= len(data)
    assert made.feed(data[-1:]) == [[b"h", bytes(MAX_BYTES)]]
