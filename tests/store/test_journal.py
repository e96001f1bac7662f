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
SALT = b"salt"
HEAD_BYTES = 20


def opened(folder: Path, settled: int = 0) -> tuple[Journal, list[bytes]]:
    journal, frames = Journal.open(folder, settled, SALT)
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
            assert [frame.body for frame in pending(tmp_path, settled, SALT)] == bodies(
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
        assert [frame.number for frame in pending(tmp_path, 0, SALT)] == [1, 2]
        path.write_bytes(whole[:size] + bytes(len(whole) - size))
        assert len(pending(tmp_path, 0, SALT)) == 2


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
                pending(tmp_path, 0, SALT)


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
    assert [frame.body for frame in pending(tmp_path, 0, SALT)] == bodies(1, kept)
    journal.settled(kept)
    assert journal.append(b"again") == kept + 1
    assert [frame.body for frame in pending(tmp_path, kept, SALT)] == [b"again"]
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
    assert [frame.number for frame in pending(tmp_path, 0, SALT)] == [1]
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


def test_a_body_that_looks_like_a_frame_is_none(tmp_path: Path) -> None:
    """Who writes into the state does not know the salt. What is left of it behind a torn end is
    nothing, and so are frames of another state."""
    journal, _ = opened(tmp_path)
    named = store.journal._NAMED.pack(900, 1)
    for salt in (b"", b"other"):
        crc = store.journal._crc(named, b"x", salt)
        journal.append(store.journal._HEAD.pack(b"shJ1", 900, 1, crc) + b"x")
    journal.close()
    path = tmp_path / JOURNAL_FILES[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:HEAD_BYTES] + b"?" + whole[HEAD_BYTES + 1 :])
    with pytest.raises(StoreDamaged, match="and 2 comes after it"):
        pending(tmp_path, 0, SALT)
    path.write_bytes(b"?" + whole[1 : len(whole) // 2])
    assert pending(tmp_path, 0, SALT) == []


def test_nothing_stays_in_it_that_the_file_behind_has(tmp_path: Path) -> None:
    written(tmp_path, 5)
    journal, _ = opened(tmp_path, 0)
    journal.rewind()
    assert [(tmp_path / name).stat().st_size for name in JOURNAL_FILES] == [0, 0]
    journal.close()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_synchronous_writes_gets_a_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real, flushed = os.pwritev, []

    def refuses(handle: int, data: list[memoryview], at: int, flags: int) -> int:
        if flags:
            raise OSError(code, "planted")
        return real(handle, data, at, flags)

    monkeypatch.setattr(os, "pwritev", refuses)
    monkeypatch.setattr(os, "fdatasync", flushed.append)
    monkeypatch.setattr(store.journal, "_dsync", 2)
    written(tmp_path, 3)
    assert len(flushed) == 3
    assert len(pending(tmp_path, 0, SALT)) == 3
