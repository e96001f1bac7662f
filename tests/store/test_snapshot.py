"""Hot copies, their proof, and the way back."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from pathlib import Path

import pytest

from shard_node.state.economy import Deposit, Transfer
from store import snapshot
from store.errors import SnapshotRefused, StoreFailed, StoreFull, StoreInUse
from store.offline import DATA_FILE, LOCK_FILE
from store.snapshot import KEPT_FILE, MANIFEST_FILE, read_manifest, restore, take, verify
from store.state import StateStore
from tests.support.state_store import WAIT_S, Rig, contents, opened

MADE_AT_S = 1_700_000_000.0


@pytest.fixture
def taken(tmp_path: Path) -> tuple[Rig, Path]:
    """A state of 100 records, at rest, and a snapshot of it."""
    with opened(tmp_path / "data" / "state") as rig:
        rig.fill(100)
        take(rig.store.env, tmp_path / "snap", MADE_AT_S)
    return rig, tmp_path / "snap"


def test_it_has_what_the_state_had_and_says_so(taken: tuple[Rig, Path], tmp_path: Path) -> None:
    rig, folder = taken
    manifest, report = verify(folder)
    assert (report.problems, report.notes, report.replayed) == ([], [], True)
    assert (manifest.lsn, manifest.digest) == (100, rig.model.place.digest.hex())
    assert (manifest.first, manifest.rows, manifest.made_at_s) == (1, report.rows, MADE_AT_S)
    assert report.rows == len(rig.model.view.rows)
    assert report.records == 100
    assert json.loads((folder / MANIFEST_FILE).read_text())["schema"] == 1


def test_nobody_else_may_read_it(taken: tuple[Rig, Path]) -> None:
    folder = taken[1]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        DATA_FILE: 0o600,
        MANIFEST_FILE: 0o600,
    }


def test_it_is_of_one_moment_while_writing_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(50)
        stop = threading.Event()
        found: list[snapshot.Manifest] = []

        def copy() -> None:
            while not stop.is_set():
                target = tmp_path / f"snap{len(found)}"
                found.append(take(rig.store.env, target, MADE_AT_S))

        thread = threading.Thread(target=copy)
        thread.start()
        while len(found) < 3:
            rig.do(Deposit("a", 1))
            rig.do(Transfer("a", "b", 1))
            rig.flush()
        stop.set()
        thread.join()
    for number, manifest in enumerate(found):
        again, report = verify(tmp_path / f"snap{number}")
        assert (again, report.problems, report.replayed) == (manifest, [], True)
        assert manifest.digest == rig.model.entries[manifest.lsn].digest.hex()


def test_a_name_that_is_taken_is_refused_and_a_broken_try_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(10)
        (tmp_path / "snap").mkdir()
        with pytest.raises(SnapshotRefused, match="exists"):
            take(rig.store.env, tmp_path / "snap", MADE_AT_S)
        (tmp_path / "other.part").mkdir()
        (tmp_path / "other.part" / DATA_FILE).write_text("left by a crash")
        take(rig.store.env, tmp_path / "other", MADE_AT_S)
    assert not (tmp_path / "other.part").exists()
    assert verify(tmp_path / "other")[1].problems == []


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with opened(tmp_path / "state") as rig:
        rig.fill(10)
        monkeypatch.setattr(snapshot, "_write", full)
        with pytest.raises(StoreFull, match="manifest"):
            take(rig.store.env, tmp_path / "snap", MADE_AT_S)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_one_changed_bit_anywhere_is_found(taken: tuple[Rig, Path], where: float) -> None:
    folder = taken[1]
    data = bytearray((folder / DATA_FILE).read_bytes())
    data[int(where * len(data))] ^= 4
    (folder / DATA_FILE).write_bytes(data)
    assert "not the file" in verify(folder)[1].problems[0]


def test_a_manifest_of_another_place_is_found(taken: tuple[Rig, Path]) -> None:
    folder = taken[1]
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest | {"lsn": 99}))
    assert "ends at 100" in verify(folder)[1].problems[0]
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest | {"schema": 2}))
    with pytest.raises(SnapshotRefused, match="schema"):
        read_manifest(folder)
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(SnapshotRefused, match="no snapshot"):
        verify(folder)


def test_restore_brings_it_back_in_a_new_era(taken: tuple[Rig, Path], tmp_path: Path) -> None:
    rig, folder = taken
    state = tmp_path / "data" / "state"
    expected = rig.model.view.rows, list(rig.model.entries.values())
    store = StateStore.open(state)
    era = store.era()
    store.close()
    with opened(tmp_path / "fresh" / "state", seed=5) as other:
        other.fill(30)
    newer = (tmp_path / "fresh" / "state" / DATA_FILE).read_bytes()
    (state / DATA_FILE).write_bytes(newer)
    assert restore(folder, state).lsn == 100
    again = StateStore.open(state)
    assert contents(again) == expected
    assert again.era() not in ("", era)
    again.close()
    assert (state / KEPT_FILE).read_bytes() == newer
    assert (state / DATA_FILE).stat().st_mode & 0o777 == 0o600
    assert not state.with_name("state.part").exists()
    assert verify(folder)[1].problems == []


def test_restore_to_where_nothing_was(taken: tuple[Rig, Path], tmp_path: Path) -> None:
    state = tmp_path / "other" / "state"
    restore(taken[1], state)
    store = StateStore.open(state)
    assert store.place().lsn == 100
    store.close()


def test_restore_refuses_a_running_broker(taken: tuple[Rig, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    before = (data / "state" / DATA_FILE).read_bytes()
    with (data / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreInUse) as caught:
            restore(taken[1], data / "state")
    assert "stop" in caught.value.hint
    assert (data / "state" / DATA_FILE).read_bytes() == before


def test_restore_refuses_what_does_not_verify(taken: tuple[Rig, Path], tmp_path: Path) -> None:
    state = tmp_path / "data" / "state"
    before = (state / DATA_FILE).read_bytes()
    data = bytearray((taken[1] / DATA_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (taken[1] / DATA_FILE).write_bytes(data)
    with pytest.raises(SnapshotRefused):
        restore(taken[1], state)
    assert (state / DATA_FILE).read_bytes() == before
    assert not (state / KEPT_FILE).exists()


def killed(folder: Path) -> Rig:
    """A state whose last transactions are in its journal alone."""
    rig = Rig(folder)
    rig.fill(50)
    rig.writer._settler.close(WAIT_S)
    for number in range(5):
        rig.do(Deposit("late", number + 1))
    rig.ends.wait(rig.submitted)
    rig.writer.close(WAIT_S)
    rig.store.close()
    return rig


def test_a_restore_keeps_what_a_killed_broker_had_confirmed(
    taken: tuple[Rig, Path], tmp_path: Path
) -> None:
    other = killed(tmp_path / "other" / "state")
    restore(taken[1], tmp_path / "other" / "state")
    with opened(tmp_path / "other" / "state") as rig:
        assert contents(rig.store) == contents_of(taken[0])
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "other" / "state" / KEPT_FILE).rename(kept / DATA_FILE)
    with opened(kept) as rig:
        assert contents(rig.store) == contents_of(other)


def test_a_restore_that_does_not_come_to_its_end_loses_nothing(
    taken: tuple[Rig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = killed(tmp_path / "other" / "state")

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "planted")

    with monkeypatch.context() as planted:
        planted.setattr(Path, "replace", fails)
        with pytest.raises(StoreFailed):
            restore(taken[1], tmp_path / "other" / "state")
    with opened(tmp_path / "other" / "state") as rig:
        assert contents(rig.store) == contents_of(other)


def contents_of(rig: Rig) -> tuple[dict[bytes, bytes], list[object]]:
    return rig.model.view.rows, list(rig.model.entries.values())
