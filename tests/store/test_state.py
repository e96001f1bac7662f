"""Rows, log and marks in a real LMDB."""

from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest

from shard_node.state.files import LOG, META, ROWS, SCHEMA, SCHEMA_KEY, Base, Mark, lsn_key, pack
from shard_node.state.keys import Table, key_of
from shard_node.state.values import SetValue
from store.errors import StoreClosed, StoreDamaged, StoreError, StoreFull, StoreSchema
from store.offline import JOURNAL_FILES
from store.state import StateStore
from tests.support.state_store import WAIT_S, Rig, contents, opened, plant


def test_a_new_one_is_empty_and_has_an_era(tmp_path: Path) -> None:
    store = StateStore.open(tmp_path / "state")
    assert (store.place(), store.base()) == (Mark(), Base())
    assert contents(store) == ({}, [])
    era = store.era()
    assert len(era) == 32
    store.close()
    again = StateStore.open(tmp_path / "state")
    assert again.era() == era
    again.close()


def test_it_has_what_the_model_has_and_still_after_opening_again(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(300)
        expected = rig.model.view.rows, list(rig.model.entries.values())
        assert contents(rig.store) == expected
        assert rig.store.place().place == rig.model.place
    again = StateStore.open(tmp_path / "state")
    assert contents(again) == expected
    assert again.place().place == rig.model.place
    again.close()


def test_the_view_stays_at_its_moment_until_it_is_renewed(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.do(SetValue("x", 1))
        rig.flush()
        key = key_of(Table.VALUE, "x")
        before = rig.store.view.get(key)
        rig.do(SetValue("x", 2))
        rig.ends.wait(rig.submitted)
        assert rig.writer.settle(WAIT_S)
        assert rig.store.view.get(key) == before
        assert rig.store.place().lsn == 1
        assert rig.store.entry(2) is None
        rig.store.renew()
        assert rig.store.view.get(key) == rig.model.view.get(key) != before
        assert rig.store.place().lsn == 2


def test_scans_are_those_of_the_model(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(200)
        keys = sorted(rig.model.view.rows)
        prefixes = {b"", b"\0", b"\xff", *(key[:size] for key in keys[::17] for size in (1, 2, 9))}
        for prefix in prefixes:
            for after in (b"", keys[0], keys[len(keys) // 2], keys[-1], prefix):
                found = list(rig.store.view.scan(prefix, after))
                assert found == list(rig.model.view.scan(prefix, after)), (prefix, after)


def test_records_are_read_one_by_one_and_in_pieces(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(50)
        every = list(rig.model.entries.values())
        assert [rig.store.entry(lsn) for lsn in range(1, 51)] == every
        assert (rig.store.entry(0), rig.store.entry(-1), rig.store.entry(51)) == (None,) * 3
        assert list(rig.store.entries(10, 5)) == every[10:15]
        assert list(rig.store.entries(48, 100)) == every[48:]
        assert list(rig.store.entries(50, 100)) == list(rig.store.entries(0, 0)) == []


def test_the_mark_has_the_clocks(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        applied = rig.model.submit(rig.tx(SetValue("x", 1)), 5)
        mark = Mark(*rig.model.place, "boot", 17, 1_700_000_000_000)
        rig.give(applied.writes, (applied.entry,), mark)
        rig.flush()
        assert rig.store.place() == mark


def test_notes_are_kept_beside(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.give(notes={"cooldowns": b"abc", "other": b"x"})
        rig.give(notes={"other": None})
        rig.flush()
        assert (rig.store.note("cooldowns"), rig.store.note("other")) == (b"abc", None)
        assert contents(rig.store) == ({}, [])


def test_nobody_else_may_read(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        StateStore.open(tmp_path / "state").close()
    finally:
        os.umask(mask)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert modes == dict.fromkeys(("data.mdb", "lock.mdb", *JOURNAL_FILES), 0o600)


def test_a_state_of_another_version_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    StateStore.open(tmp_path / "state").close()
    plant(tmp_path / "state", META, SCHEMA_KEY, pack(SCHEMA_KEY, b"1"))
    before = (tmp_path / "state" / "data.mdb").read_bytes()
    with pytest.raises(StoreSchema, match=f"of schema 1; this version reads {SCHEMA}") as caught:
        StateStore.open(tmp_path / "state")
    assert f"mv {tmp_path / 'state'} {tmp_path / 'state'}.1 " in caught.value.hint
    assert (tmp_path / "state" / "data.mdb").read_bytes() == before


def test_op_ids_are_those_of_the_records(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        assert rig.store.op_ids(0, 10) == []
        rig.fill(50)
        every = [(entry.op_id, entry.at_ms) for entry in rig.model.entries.values()]
        assert rig.store.op_ids(0, 1000) == every
        assert rig.store.op_ids(17, 5) == every[17:22]
        assert rig.store.op_ids(50, 5) == rig.store.op_ids(3, 0) == []
        stored = bytearray(rig.store.view.cursor(LOG).get(lsn_key(20)))
    for fault in (None, bytes(stored[:3]), bytes([stored[0] ^ 1, *stored[1:]])):
        plant(tmp_path / "state", LOG, lsn_key(20), fault)
        again = StateStore.open(tmp_path / "state")
        with pytest.raises(StoreDamaged, match="record 20"):
            again.op_ids(0, 1000)
        assert again.op_ids(20, 1000) == every[20:]
        again.close()


@pytest.mark.parametrize("bit", [0, 5, 8 * 4, 8 * 9 + 3])
def test_a_changed_row_is_not_served(tmp_path: Path, bit: int) -> None:
    key = key_of(Table.VALUE, "x")
    with opened(tmp_path / "state") as rig:
        rig.do(SetValue("x", "some text"))
        rig.flush()
    stored = bytearray(pack(key, rig.model.view.rows[key]))
    stored[bit // 8] ^= 1 << bit % 8
    plant(tmp_path / "state", ROWS, key, bytes(stored))
    store = StateStore.open(tmp_path / "state")
    with pytest.raises(StoreDamaged, match="checksum"):
        store.view.get(key)
    with pytest.raises(StoreDamaged, match="checksum"):
        list(store.view.scan(b""))
    store.close()


def test_a_row_under_another_rows_key_is_not_served(tmp_path: Path) -> None:
    """Each whole by itself, but moved: the checksum is over the key as well."""
    with opened(tmp_path / "state") as rig:
        rig.do(SetValue("x", 1))
        rig.flush()
    key, other = key_of(Table.VALUE, "x"), key_of(Table.VALUE, "y")
    plant(tmp_path / "state", ROWS, other, pack(key, rig.model.view.rows[key]))
    store = StateStore.open(tmp_path / "state")
    with pytest.raises(StoreDamaged):
        store.view.get(other)
    store.close()


def test_a_changed_key_does_not_hide_its_row(tmp_path: Path) -> None:
    """Not found, and the neighbour is none of ours: the row is not said to be missing."""
    with opened(tmp_path / "state") as rig:
        rig.do(SetValue("x", 1))
        rig.flush()
    key = key_of(Table.VALUE, "x")
    changed = key[:-2] + b"y\0"
    plant(tmp_path / "state", ROWS, key, None)
    plant(tmp_path / "state", ROWS, changed, pack(key, rig.model.view.rows[key]))
    store = StateStore.open(tmp_path / "state")
    with pytest.raises(StoreDamaged):
        store.view.get(key)
    with pytest.raises(StoreDamaged):
        list(store.view.scan(key[:3]))
    store.close()


def test_a_damaged_record_or_mark_is_not_served(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(10)
    plant(tmp_path / "state", LOG, lsn_key(4), b"xxxx????")
    plant(tmp_path / "state", LOG, lsn_key(6), pack(lsn_key(6), b"\xc1"))
    store = StateStore.open(tmp_path / "state")
    assert store.entry(3) == rig.model.entries[3]
    for lsn in (4, 6):
        with pytest.raises(StoreDamaged):
            store.entry(lsn)
    store.close()
    plant(tmp_path / "state", META, b"mark", b"bad")
    with pytest.raises(StoreDamaged):
        StateStore.open(tmp_path / "state")


def test_a_full_map_is_told_reads_go_on_and_what_was_confirmed_comes_back(tmp_path: Path) -> None:
    rows = {bytes((0, 1)) + b"%d" % n: b"x" * 4000 for n in range(100)}
    heard: queue.SimpleQueue[StoreError | None] = queue.SimpleQueue()
    rig = Rig(tmp_path / "state", map_max_bytes=1 << 18)
    rig.fill(20)
    expected = contents(rig.store)
    rig.writer.on_settled(lambda _, error: heard.put(error))
    rig.give(rows)
    assert rig.ends.wait(rig.submitted)[-1][1] is None
    assert isinstance(heard.get(timeout=WAIT_S), StoreFull)
    rig.store.renew()
    assert contents(rig.store) == expected
    rig.close()
    with opened(tmp_path / "state") as again:
        assert contents(again.store) == (expected[0] | rows, expected[1])


def test_closed_is_closed(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "state")
    rig.close()
    rig.close()
    with pytest.raises(StoreClosed):
        rig.store.check_readers()
