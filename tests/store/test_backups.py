"""The broker's own backups: verified, thinned out, and nothing begun that finds no room."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from shard_node.state.economy import Deposit
from shard_node.state.files import LOG, lsn_key
from store import backups, snapshot
from store.backups import FAILED, UNVERIFIED, listed, make
from store.errors import BackupFailed, StoreError, StoreFull, StoreOpenError
from tests.support.state_store import opened, plant


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with opened(tmp_path / "data" / "state") as rig:
        rig.fill(60)
    return tmp_path / "data" / "state"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_more(state: Path) -> None:
    """Another record, so that the next backup is another."""
    with opened(state.with_name("other")) as other:
        other.fill(60)
        other.do(Deposit("a", 1))
        other.flush()
    shutil.rmtree(state)
    state.with_name("other").rename(state)


def test_it_is_there_whole_and_says_so(state: Path, tmp_path: Path) -> None:
    done = make(state, tmp_path / "b" / "c", 77, 3)
    (found,) = listed(tmp_path / "b" / "c")
    assert (found.auto, found.verified, found.failed) == (True, True, False)
    assert str(found.path) == done["folder"]
    assert (done["lsn"], done["at_ms"], done["replayed"]) == (60, 77, True)
    assert found.manifest.taken_at_ms == 77
    assert found.digest.hex() == done["digest"]
    assert found.path.stat().st_mode & 0o777 == 0o700
    assert snapshot.verify(found.path)[1].problems == []


def test_the_oldest_by_log_time_go_whatever_the_wall_clock_says(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wall_s = tmp_path / "b", iter((5000.0, 4000.0, 3000.0, 2000.0))
    monkeypatch.setattr(backups.time, "time", lambda: next(wall_s))
    for at_ms in (1, 2, 3, 4):
        make(state, folder, at_ms, 2)
    assert [one.manifest.taken_at_ms for one in listed(folder)] == [3, 4]


def test_what_others_put_there_stays_and_what_a_kill_left_goes(state: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    make(state, folder, 1, 1)
    (mine,) = listed(folder)
    shutil.copytree(mine.path, folder / "by-hand")
    shutil.copytree(mine.path, folder / ("auto-x" + UNVERIFIED))
    (folder / ("auto-y" + UNVERIFIED + ".part")).mkdir()
    (folder / "by-hand.part").mkdir()
    (folder / "notes.txt").write_text("mine")
    one_more(state)
    done = make(state, folder, 2, 1)
    assert names(folder) == sorted(
        [Path(done["folder"]).name, "by-hand", "by-hand.part", "notes.txt"]
    )
    assert [(one.auto, one.verified) for one in listed(folder)] == [(False, False), (True, True)]


def test_a_state_that_is_damaged_has_no_backup_but_something_to_look_at(
    state: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    good = make(state, folder, 1, 3)
    plant(state, LOG, lsn_key(30), b"\0\0\0\0x")
    for at_ms in (2, 3):
        with pytest.raises(BackupFailed, match="checksum") as caught:
            make(state, folder, at_ms, 3)
        assert "state check" in caught.value.hint
        failed = [one for one in listed(folder) if one.failed]
        assert [one.manifest.taken_at_ms for one in failed] == [at_ms]  # the newest alone
        assert failed[0].path.name.endswith(FAILED)
    assert Path(good["folder"]).is_dir()
    one_more(state)
    make(state, folder, 4, 3)
    assert [one.failed for one in listed(folder)] == [False, False]


def test_without_room_nothing_is_begun(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=backups.ROOM_MIN_BYTES)
    monkeypatch.setattr(backups.shutil, "disk_usage", lambda _: free)
    with pytest.raises(StoreFull, match="64 MiB are free") as caught:
        make(state, tmp_path / "b", 1, 3)
    assert "backup_folder" in caught.value.hint
    assert names(tmp_path / "b") == []


def test_without_a_state_or_a_folder(tmp_path: Path, state: Path) -> None:
    with pytest.raises(StoreOpenError):
        make(tmp_path / "none", tmp_path / "b", 1, 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        make(state, tmp_path / "file" / "b", 1, 3)
    assert listed(tmp_path / "no such folder") == []
