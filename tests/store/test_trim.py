"""Trimming behind a verified snapshot, a piece at a time, and what stays whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import store.trim
from shard_node.state.economy import Deposit, Transfer
from shard_node.state.files import LOG, lsn_key
from store.check import check
from store.errors import SnapshotRefused, StoreDamaged
from store.snapshot import take, verify
from store.state import StateStore
from store.trim import KEPT_MIN, PIECE, plan, trimming
from tests.support.state_store import Rig, opened, plant


@pytest.fixture(autouse=True)
def few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 20 records were all that has to stay."""
    assert KEPT_MIN > 65_536
    monkeypatch.setattr(store.trim, "KEPT_MIN", 20)


def trim(rig: Rig, up_to: int) -> None:
    while rig.store.base().lsn < up_to:
        rig.give(work=trimming(up_to))
        rig.flush()


def test_the_log_goes_up_to_the_snapshot_and_stays_whole(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(2 * PIECE + 200)
        manifest = take(rig.store.env, tmp_path / "snap", 0.0)
        for _ in range(50):
            rig.do(Transfer("a", "b", 1)) if rig.random.random() < 0.1 else rig.do(Deposit("a", 9))
        rig.flush()
        up_to = plan(rig.store, manifest)
        assert up_to == manifest.lsn == 2 * PIECE + 200
        trim(rig, up_to)
        base = rig.store.base()
        assert (base.lsn, base.digest) == (up_to, rig.model.entries[up_to].digest)
        assert rig.store.entry(up_to) is None
        assert [entry.lsn for entry in rig.store.entries(0, 1)] == [up_to + 1]
        assert plan(rig.store, manifest) == 0
        rig.do(Deposit("a", 1))
        rig.flush()
        assert dict(rig.store.view.scan(b"")) == rig.model.view.rows
    report = check(tmp_path / "state")
    assert (report.problems, report.replayed) == ([], False)
    assert "trimmed up to" in report.notes[0]
    assert check(tmp_path / "state", since=tmp_path / "snap").replayed
    store_ = StateStore.open(tmp_path / "state")
    take(store_.env, tmp_path / "later", 0.0)
    store_.close()
    manifest, report = verify(tmp_path / "later")
    assert (manifest.first, report.problems) == (up_to + 1, [])


def test_what_apply_still_needs_stays(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(100)
        manifest = take(rig.store.env, tmp_path / "snap", 0.0)
        assert plan(rig.store, manifest) == 80
        assert plan(rig.store, manifest, keep=70) == 30
        assert plan(rig.store, manifest, keep=5) == 80
        assert plan(rig.store, manifest, keep=100) == plan(rig.store, manifest, keep=500) == 0


def test_only_behind_a_snapshot_of_this_log(tmp_path: Path) -> None:
    with opened(tmp_path / "other", seed=9) as other:
        other.fill(60)
        foreign = take(other.store.env, tmp_path / "foreign", 0.0)
    with opened(tmp_path / "state") as rig:
        rig.fill(50)
        with pytest.raises(SnapshotRefused, match="not the one of this log"):
            plan(rig.store, foreign)
        rig.fill(100)
        with pytest.raises(SnapshotRefused, match="not the one of this log"):
            plan(rig.store, foreign)


def test_a_log_with_a_hole_is_not_trimmed_over_it(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(50)
    plant(tmp_path / "state", LOG, lsn_key(5), None)
    again = StateStore.open(tmp_path / "state")
    with again.env.begin(write=True) as txn, pytest.raises(StoreDamaged, match="record 5"):
        trimming(5)(txn, again.handles)
    again.close()
