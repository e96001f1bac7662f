"""Trimming behind a verified snapshot, a piece at a time, and what stays whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from shard_node.state.economy import RECENT_MAX, Deposit, Transfer, history
from shard_node.state.errors import UnknownTransaction
from shard_node.state.files import LOG, lsn_key, pack
from shard_node.state.keys import Table
from shard_node.state.log import GENESIS, write_entry
from shard_node.state.machine import Place, apply
from shard_node.state.moderation import BanUser
from shard_node.state.rollback import Rollback
from shard_node.state.sweeping import outlived
from store.check import check, check_file
from store.snapshot import take, verify
from store.state import StateStore
from store.statewriter import StateWriter
from store.trim import PIECE, trimming
from tests.support.state_store import Ends, Rig, opened, plant

PLACE = Place(100, GENESIS, 1)


class Log:
    """A file's, to which every transaction is new."""

    def __init__(self, store: StateStore) -> None:
        self.entry = store.entry

    def applied(self, _op_id: bytes) -> None:
        return None


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
        up_to = manifest.lsn
        assert up_to == 2 * PIECE + 200
        trim(rig, up_to)
        base = rig.store.base()
        assert (base.lsn, base.digest) == (up_to, rig.model.entries[up_to].digest)
        assert rig.store.entry(up_to) is None
        assert [entry.lsn for entry in rig.store.entries(0, 1)] == [up_to + 1]
        rig.do(Deposit("a", 1))
        rig.flush()
        left = {
            key: row
            for key, row in rig.model.view.rows.items()
            if not outlived(key, row, up_to + 1)
        }
        assert len(left) < len(rig.model.view.rows)
        assert dict(rig.store.view.scan(b"")) == left
    report = check(tmp_path / "state")
    assert (report.problems, report.replayed) == ([], False)
    assert "trimmed up to" in report.notes[0]
    assert check(tmp_path / "state", since=tmp_path / "snap").replayed
    store_ = StateStore.open(tmp_path / "state")
    take(store_.env, tmp_path / "later", 0.0)
    store_.close()
    manifest, report = verify(tmp_path / "later")
    assert (manifest.first, report.problems) == (up_to + 1, [])


@pytest.mark.parametrize("fault", ["gone", "changed", "swapped"])
def test_it_ends_before_a_damaged_record_and_fails_nobody(tmp_path: Path, fault: str) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(50)
        other = pack(lsn_key(5), write_entry(rig.model.entries[6]))
    stored = {"gone": None, "changed": b"\0\0\0\0" + other[4:], "swapped": other}[fault]
    plant(tmp_path / "state", LOG, lsn_key(5), stored)
    again = StateStore.open(tmp_path / "state")
    ends = Ends()
    writer = StateWriter(again, ends)
    for token in (1, 2):
        writer.submit(token, notes={"n": bytes((token,))}, work=trimming(40))
    assert ends.wait(2) == [(1, None), (2, None)]
    again.renew()
    assert (again.base().lsn, again.note("n")) == (4, b"\2")
    assert writer.close(30)
    again.close()


def test_what_an_interrupted_trimming_left_is_whole(tmp_path: Path) -> None:
    """Pieces are commits: between any two of them the file is what `check` wants."""
    with opened(tmp_path / "state") as rig:
        rig.fill(90)
        take(rig.store.env, tmp_path / "snap", 0.0)
        for up_to in (7, 31, 60):
            trim(rig, up_to)
            take(rig.store.env, tmp_path / str(up_to), 0.0)
            report = check_file(tmp_path / str(up_to), since=tmp_path / "snap")
            assert (report.problems, report.replayed, report.base.lsn) == ([], True, up_to)


def test_the_rows_that_go_are_those_of_the_records_that_went(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(30)
        ban = rig.do(BanUser(7, "global", "spam")).lsn
        there_and_back = rig.do(Transfer("a", "b", 5), Transfer("b", "a", 5)).lsn
        undone = rig.do(Transfer("a", "b", 5)).lsn
        rig.do(Rollback(undone), reason="no")
        last = rig.do(Rollback(ban), reason="no").lsn
        rig.flush()

        def tables() -> set[int]:
            return {key[1] for key, _ in rig.store.view.scan(b"")}

        assert {Table.HISTORY, Table.UNDONE} <= tables()
        trim(rig, there_and_back)
        assert {Table.HISTORY, Table.UNDONE} <= tables()
        trim(rig, last)
        assert not {Table.HISTORY, Table.UNDONE} & tables()
        with pytest.raises(UnknownTransaction):
            tx = rig.tx(Rollback(undone), reason="x")
            apply(rig.store.view, Log(rig.store), tx, 1, PLACE)


def test_an_accounts_older_history_goes_with_the_last_of_its_records(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(30)
        mine = [rig.do(Deposit("z", 1)).lsn for _ in range(2 * RECENT_MAX + 5)]
        rig.flush()

        def rows() -> int:
            return sum(b"account:z" in key for key, _ in rig.store.view.scan(b""))

        assert rows() == 2
        trim(rig, mine[RECENT_MAX - 2])
        assert (rows(), list(history(rig.store.view, "z"))) == (2, mine)
        trim(rig, mine[RECENT_MAX - 1])
        assert (rows(), list(history(rig.store.view, "z"))) == (1, mine[RECENT_MAX:])
        trim(rig, mine[-1])
        assert list(history(rig.store.view, "z")) == mine[2 * RECENT_MAX :]
