"""Frames: a cut leaves whole ones, a change is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.journal.frames import FRAME_HEAD_BYTES, Damaged, frame, read
from shard_node.journal.records import Record

RECORDS = st.lists(
    st.builds(Record, st.integers(0, 255), st.integers(0, 2**64 - 1), st.binary(max_size=40)),
    min_size=1,
    max_size=5,
)
FRAMES = st.lists(RECORDS, max_size=5)


def plain(data: bytes) -> list[Record]:
    return [record for record, _ in read(data)[0]]


def prefixes(frames: list[list[Record]]) -> list[list[Record]]:
    """The records of the first frames, for every number of these."""
    return [[one for found in frames[:count] for one in found] for count in range(len(frames) + 1)]


@given(FRAMES)
def test_what_was_written_is_read_and_stands_where_it_is_said(frames: list[list[Record]]) -> None:
    data = b"".join(map(frame, frames))
    found, end = read(data)
    assert [record for record, _ in found] == prefixes(frames)[-1]
    assert end == len(data)
    for record, place in found:
        assert data[place : place + len(record.payload)] == record.payload


@given(FRAMES, st.data())
def test_a_cut_leaves_the_frames_before_it(frames: list[list[Record]], data: st.DataObject) -> None:
    whole = b"".join(map(frame, frames))
    cut = data.draw(st.integers(0, len(whole)))
    found, end = read(whole[:cut])
    assert [record for record, _ in found] in prefixes(frames)
    ends = [sum(len(frame(one)) for one in frames[:count]) for count in range(len(frames) + 1)]
    assert end == max(one for one in ends if one <= cut)


@given(FRAMES.filter(bool), st.data())
def test_a_changed_bit_is_seen_and_never_believed(
    frames: list[list[Record]], data: st.DataObject
) -> None:
    whole = bytearray(b"".join(map(frame, frames)))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        read(bytes(whole))


def test_a_length_that_was_changed_does_not_look_like_a_torn_end() -> None:
    """Else frames behind it, whose handlers have started, would be taken for never written."""
    data = bytearray(frame([Record(5, 1, b"")]) + frame([Record(5, 2, b"")]))
    data[7] |= 0x40  # its body would be a gigabyte
    with pytest.raises(Damaged, match="byte 0"):
        read(bytes(data))


def test_reading_goes_on_behind_a_frame() -> None:
    first, second = frame([Record(5, 1, b"")]), frame([Record(5, 2, b"x")])
    found, end = read(first + second, len(first))
    assert found == [(Record(5, 2, b"x"), len(first + second) - 1)]
    assert end == len(first + second)
    assert read(first + second[: FRAME_HEAD_BYTES - 1])[1] == len(first)


def test_nothing_is_nothing() -> None:
    assert read(b"") == ([], 0)
    assert plain(frame([])) == []
