"""A state that was swept: its check, its backup, its partitions out and in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shard_node.state.files import ROWS, pack
from shard_node.state.keys import Table, gone_key, key_of, parse_key, swept_key
from shard_node.state.rows import Row, head, write
from shard_node.state.sweeping import Sweep, goes, name_of
from shard_node.state.values import DeleteValue, SetValue
from store.check import check
from store.partitions import export, import_partition
from store.snapshot import restore, take, verify
from store.trim import trimming
from tests.support.state_store import Rig, contents, opened, plant

NAMES = 40
KEY = key_of(Table.VALUE, "n3")


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Path]:
    """A state whose log was trimmed behind the snapshot `before` and whose marks were swept."""
    with opened(tmp_path / "state") as rig:
        for number in range(NAMES):
            rig.do(SetValue(f"n{number}", 1))
            rig.do(SetValue(f"n{number}", 2))
            rig.do(DeleteValue(f"n{number}"))
        rig.flush()
        up_to = rig.model.place.lsn
        take(rig.store.env, tmp_path / "before", 0.0)
        while rig.store.base().lsn < up_to:
            rig.give(work=trimming(up_to))
            rig.flush()
        rows = rig.model.view.rows
        names = [name_of(key) for key, row in rows.items() if goes(key, row, up_to + 1)]
        assert len(names) == NAMES
        rig.do(Sweep(up_to, tuple(names)))
        rig.do(SetValue("n3", 3))
        rig.flush()
        assert contents(rig.store)[0] == rig.model.view.rows
        assert head(rig.model.view.rows[KEY])[0] == 3
        take(rig.store.env, tmp_path / "after", 0.0)
    yield tmp_path


def tables(rig: Rig) -> set[Table]:
    return {parse_key(key)[0] for key in contents(rig.store)[0]}


def test_the_log_leads_to_what_is_there(swept: Path) -> None:
    report = check(swept / "state", since=swept / "before")
    assert (report.problems, report.replayed) == ([], True)


@pytest.mark.parametrize("fault", ["a mark is back", "a version is gone", "a version is lower"])
def test_what_was_not_swept_as_the_log_says_is_found(swept: Path, fault: str) -> None:
    place = swept_key(KEY)
    key, row = {
        "a mark is back": (gone_key(KEY), write(Row(2, 12, 12))),
        "a version is gone": (place, None),
        "a version is lower": (place, write(Row(1, 121, 121))),
    }[fault]
    plant(swept / "state", ROWS, key, None if row is None else pack(key, row))
    report = check(swept / "state", since=swept / "before")
    assert "is not what the log says" in report.problems[0]


def test_a_backup_has_it_and_comes_back(swept: Path) -> None:
    report = verify(swept / "after")[1]
    assert report.problems == []
    restore(swept / "after", swept / "state")
    with opened(swept / "state") as rig:
        assert tables(rig) == {Table.VALUE, Table.SWEPT}
    restore(swept / "before", swept / "state")
    with opened(swept / "state") as rig:
        assert tables(rig) == {Table.GONE}


def test_rows_of_a_partition_come_in_above_what_was_swept(swept: Path) -> None:
    file = swept / "part"
    with opened(swept / "state") as rig:
        export(rig.store.view, KEY[0], rig.store.era(), rig.store.place().lsn, file)
    with opened(swept / "other" / "state") as rig:
        for _ in range(9):
            rig.do(SetValue("n3", 1))
        rig.do(DeleteValue("n3"))
        rig.do(Sweep(10, ((Table.GONE, "n3", int(Table.VALUE)),)))
        rig.flush()
        assert tables(rig) == {Table.SWEPT}
    done = import_partition(swept / "other" / "state", file)
    assert (done.written, done.left_out) == (1, 1)
    with opened(swept / "other" / "state") as rig:
        rows = contents(rig.store)[0]
        assert head(rows[KEY])[0] == 10  # the next of its versions here
        assert head(rows[swept_key(KEY)])[0] == 9
