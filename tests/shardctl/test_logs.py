"""Log files: rotated by size, read from their end, followed through rotations."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from shardctl.follow import Follower, last_lines
from shardctl.supervisor import logs


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_MAX_BYTES", 100)


def write(path: Path, text: str) -> None:
    handle = logs.open_log(path)
    os.write(handle, text.encode())
    os.close(handle)


def test_a_full_log_is_renamed_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    for number in range(8):
        write(path, f"{number}" * 100)
    found = sorted(p.name for p in tmp_path.iterdir())
    assert found == ["x.log", "x.log.1", "x.log.2", "x.log.3", "x.log.4"]
    assert path.read_text()[0] == "7"
    assert (tmp_path / "x.log.4").read_text()[0] == "3"


def test_a_log_below_its_limit_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    write(path, "a\n")
    write(path, "b\n")
    assert path.read_text() == "a\nb\n"


def test_a_living_writer_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    handle = logs.open_log(path)
    os.write(handle, b"x" * 100)
    assert logs.cap_log(path)
    os.write(handle, b"new\n")
    os.close(handle)
    assert path.read_text() == "new\n"
    assert (tmp_path / "x.log.1").stat().st_size == 100
    assert not logs.cap_log(path)


def test_without_room_for_a_copy_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.log"
    write(path, "y" * 100)
    write(path, "x" * 100)

    def full(source: Path, target: Path) -> None:
        target.write_text("half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    for _ in range(5):
        assert not logs.cap_log(path)
    assert path.read_text() == "x" * 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    monkeypatch.undo()
    monkeypatch.setattr(logs, "LOG_MAX_BYTES", 100)
    assert logs.cap_log(path)
    assert (tmp_path / "x.log.1").stat().st_mode & 0o077 == 0
    assert (tmp_path / "x.log.2").read_text() == "y" * 100


def test_the_tail_is_bounded_and_has_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("before\n" + "".join(f"line {n} secret\n" for n in range(100)) + "y" * 2000)
    found = logs.tail(path, len("before\n"), "secret")
    assert len(found) == logs.TAIL_LINES_MAX
    assert found[-2] == "line 99 [token]"
    assert len(found[-1]) == logs.TAIL_LINE_MAX_CHARS
    assert logs.tail(path, 10**9)  # cut since: the whole file counts
    assert logs.tail(tmp_path / "none") == ()


def test_the_last_lines_and_where_they_end(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    text = "".join(f"{n}\n" for n in range(50_000))
    path.write_text(text)
    assert last_lines(path, 2) == (["49998", "49999"], len(text))
    assert last_lines(path, 0) == ([], len(text))
    path.write_text("one")
    assert last_lines(path, 5) == (["one"], 3)


def test_a_follower_gives_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    follower = Follower(path)
    assert follower.read() == []
    path.write_text("one\ntw")
    assert follower.read() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert follower.read() == ["two"]
    assert follower.read() == []


def test_a_follower_survives_both_rotations(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\n")
    follower = Follower(path)
    assert follower.read() == ["one"]
    path.rename(tmp_path / "x.log.1")
    path.write_text("two\n")
    assert follower.read() == ["two"]
    os.truncate(path, 0)
    with path.open("a") as file:
        file.write("3\n")
    assert follower.read() == ["3"]
