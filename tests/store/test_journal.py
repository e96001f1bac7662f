"""The journal: what is durable comes back, what was refused does not, damage is told."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

import store.journal
from store.errors import StoreDamaged, StoreFailed, StoreFull, StorePanic
from store.journal import Journal, pending
from store.offline import JOURNAL_FILES

BODY = b"body %d"
HEAD_BYTES = 20


def opened(folder: Path, settled: int = 0) -> tuple[Journal, list[bytes]]:
    journal, frames = Journal.open(folder, settled)
    return journal, [frame.body for frame in frames]


def bodies(first: int, last: int) -> list[bytes]:
    return [BODY % number for number in range(first, last + 1)]


def written(folder: Path, count: int) -> None:
    journal, _ = opened(folder)
    assert [journal.append(body) for body in bodies(1, count)] == list(range(1, count + 1))
    journal.close()


def test_what_is_not_settled_comes_back_in_order(tmp_path: Path) -> None:
    written(tmp_path, 5)
    for settled in range(6):
        journal, found = opened(tmp_path, settled)
        assert found == bodies(settled + 1, 5)
        assert journal.last == 5
        journal.close()


def test_after_a_rewind_numbers_go_on_and_older_frames_are_none(tmp_path: Path) -> None:
    written(tmp_path, 5)
    journal, _ = opened(tmp_path, 5)
    journal.rewind()
    assert journal.append(b"x" * 3) == 6
    journal.close()
    assert opened(tmp_path, 5)[1] == [b"x" * 3]


def test_files_take_turns_as_the_file_behind_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.journal, "TURN_BYTES", 200)
    journal, _ = opened(tmp_path)
    rng, settled = random.Random(3), 0
    for number in range(1, 400):
        assert journal.append(BODY % number) == number
        if rng.random() < 0.5:
            settled = rng.randrange(settled, number + 1)
            journal.settled(settled)
        if number % 7 == 0:
            assert [frame.body for frame in pending(tmp_path, settled)] == bodies(
                settled + 1, number
            )
    sizes = [(tmp_path / name).stat().st_size for name in JOURNAL_FILES]
    journal.close()
    assert 0 < max(sizes) < 2000


def test_a_torn_end_is_the_end(tmp_path: Path) -> None:
    """Each length that a torn last frame can have."""
    written(tmp_path, 3)
    path = tmp_path / JOURNAL_FILES[0]
    whole = path.read_bytes()
    start = len(whole) - HEAD_BYTES - len(BODY % 3)
    for size in range(start, len(whole)):
        path.write_bytes(whole[:size])
        assert [frame.number for frame in pending(tmp_path, 0)] == [1, 2]
        path.write_bytes(whole[:size] + bytes(len(whole) - size))
        assert len(pending(tmp_path, 0)) == 2


def test_each_changed_bit_before_the_end_is_told(tmp_path: Path) -> None:
    written(tmp_path, 3)
    path = tmp_path / JOURNAL_FILES[0]
    whole = path.read_bytes()
    last = len(whole) - HEAD_BYTES - len(BODY % 3)
    for at in range(last):
        for bit in (1, 16, 128):
            changed = bytearray(whole)
            changed[at] ^= bit
            path.write_bytes(changed)
            with pytest.raises(StoreDamaged):
                pending(tmp_path, 0)


def test_a_lost_file_is_told_where_its_frames_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.journal, "TURN_BYTES", 60)
    written(tmp_path, 4)
    (tmp_path / JOURNAL_FILES[0]).unlink()
    with pytest.raises(StoreDamaged, match="not all after 0"):
        opened(tmp_path)


def test_it_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.journal, "TURN_BYTES", 50)
    monkeypatch.setattr(store.journal, "FILE_MAX_BYTES", 300)
    journal, _ = opened(tmp_path)
    kept = 0
    with pytest.raises(StoreFull):
        while True:
            kept = journal.append(BODY % (kept + 1))
    assert [frame.body for frame in pending(tmp_path, 0)] == bodies(1, kept)
    journal.settled(kept)
    assert journal.append(b"again") == kept + 1
    assert [frame.body for frame in pending(tmp_path, kept)] == [b"again"]
    journal.close()


@pytest.mark.parametrize("written_bytes", [0, 7, HEAD_BYTES, HEAD_BYTES + 3, HEAD_BYTES + 6])
def test_what_was_refused_never_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_bytes: int
) -> None:
    """The disk fails in the middle of a frame, or after all of it."""
    journal, _ = opened(tmp_path)
    journal.append(BODY % 1)
    real, failed = store.journal._write, []

    def fails_once(handle: int, data: bytes, at: int) -> None:
        if failed:
            real(handle, data, at)
            return
        failed.append(at)
        os.pwrite(handle, data[:written_bytes], at)
        raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(store.journal, "_write", fails_once)
    with pytest.raises(StoreFailed):
        journal.append(BODY % 2)
    assert [frame.number for frame in pending(tmp_path, 0)] == [1]
    assert journal.append(b"other") == 2
    journal.close()
    assert opened(tmp_path)[1] == [BODY % 1, b"other"]


def test_a_disk_that_takes_nothing_ends_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused might come back: this process can promise nothing more."""
    journal, _ = opened(tmp_path)
    journal.append(BODY % 1)

    def fails(handle: int, data: bytes, at: int) -> None:
        os.pwrite(handle, data, at)
        raise OSError(errno.EIO, "planted")

    monkeypatch.setattr(store.journal, "_write", fails)
    with pytest.raises(StorePanic):
        journal.append(BODY % 2)
    journal.close()
