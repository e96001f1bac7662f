"""A partition goes out to a file and comes in again, or nothing does."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from shard_node.state.economy import RECENT_MAX, Account, Deposit, history
from shard_node.state.errors import UndoConflict
from shard_node.state.keys import BOOKKEEPING, Table, key_of
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.rollback import Rollback
from shard_node.state.rows import head, origin_of, read
from shard_node.state.values import SetValue, Value
from store.check import check
from store.errors import ExportRefused, StoreInUse
from store.offline import LOCK_FILE
from store.partitions import check_export, export, import_partition
from store.snapshot import take
from store.state import StateStore
from tests.support.state_store import Rig, contents, opened

KEY = key_of(Table.VALUE, "name1")
PARTITION = KEY[0]


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Rig, Path]:
    """A state at rest, and its partition of the value ``name1``."""
    with opened(tmp_path / "data" / "state") as rig:
        rig.fill(150)
        rig.do(SetValue("name1", "as exported"))
        rig.flush()
        file = tmp_path / "partition"
        rows = export(rig.store.view, PARTITION, rig.store.era(), rig.store.place().lsn, file)
        assert rows == sum(key[0] == PARTITION for key in rig.model.view.rows)
    return rig, file


def reopened(rig: Rig) -> tuple[dict[bytes, bytes], list[object]]:
    store = StateStore.open(rig.folder)
    try:
        return contents(store)
    finally:
        store.close()


def test_it_says_what_it_is_and_is_private(exported: tuple[Rig, Path]) -> None:
    rig, file = exported
    about, rows = check_export(file)
    assert (about.partition, about.lsn, len(about.era)) == (PARTITION, rig.model.place.lsn, 32)
    assert rows >= 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.with_name("partition.part").exists()


def test_a_file_in_its_place_is_kept(exported: tuple[Rig, Path]) -> None:
    with pytest.raises(ExportRefused, match="exists"):
        export(exported[0].model.view, PARTITION, "", 1, exported[1])
    with pytest.raises(ValueError, match="no partition"):
        export(exported[0].model.view, 256, "", 1, exported[1])


def test_it_replaces_what_is_there(exported: tuple[Rig, Path], tmp_path: Path) -> None:
    """Rows come back as newer versions, those that the file has not go, others stay."""
    rig, file = exported
    new = next(n for n in range(10_000) if key_of(Table.VALUE, f"new{n}")[0] == PARTITION)
    rig = Rig(tmp_path / "again" / "state")
    rig.fill(150)
    rig.do(SetValue("name1", "later"))
    rig.do(SetValue("name1", "later still"))
    rig.do(SetValue(f"new{new}", 1))
    rig.flush()
    rig.close()
    before, log = reopened(rig)
    done = import_partition(rig.folder, file)
    after, log_after = reopened(rig)
    lsn = rig.model.place.lsn
    assert log_after == log
    row = read(Value, after[KEY])
    assert row is not None
    assert (row.value, row.lsn, row.origin) == ("as exported", lsn, lsn)
    assert row.version == max(head(before[KEY])[0], 1) + 1
    assert key_of(Table.VALUE, f"new{new}") in before.keys() - after.keys()
    assert done.removed == 1
    strangers = {key: before[key] for key in before if key[0] != PARTITION}
    assert {key: after[key] for key in after if key[0] != PARTITION} == strangers
    kept = {k: v for k, v in before.items() if k[0] == PARTITION and k[1] in BOOKKEEPING}
    assert kept.items() <= after.items()
    report = check(rig.folder)
    assert report.problems == []
    assert "imported" in report.notes[0]


def test_copies_of_the_rows_do_not_follow_from_what_was_imported(
    exported: tuple[Rig, Path],
) -> None:
    rig, file = exported
    found = []
    for imports in (False, False, True, True):
        if imports:
            import_partition(rig.folder, file)
        store = StateStore.open(rig.folder)
        found.append((store.era(), store.descent()))
        store.close()
    eras, descents = zip(*found, strict=True)
    assert (len(set(eras)), len(set(descents))) == (1, 3)
    assert descents[0] == descents[1]


def test_what_was_imported_is_not_rolled_back_unawares(exported: tuple[Rig, Path]) -> None:
    rig, file = exported
    lsn = rig.model.place.lsn
    import_partition(rig.folder, file)
    assert origin_of(reopened(rig)[0][KEY]) == lsn
    with opened(rig.folder, seed=3) as again:
        again.model.view.write(contents(again.store)[0])
        again.model.entries, again.model.place = rig.model.entries, rig.model.place
        older = max(
            entry.lsn
            for entry in rig.model.entries.values()
            if entry.kinds == ("SetValue",) and entry.lsn < lsn
            if entry.payload().ops[0].name == "name1"  # type: ignore[union-attr]
        )
        with pytest.raises(UndoConflict):
            again.do(Rollback(older), reason="test")
        take(again.store.env, file.with_name("snap"), 0.0)
        again.do(SetValue("name1", "after"))
        again.flush()
    assert check(rig.folder, since=file.with_name("snap")).replayed


def test_what_is_kept_of_members_elsewhere_follows(tmp_path: Path) -> None:
    """A member's row lies with the guild, the way to find it with the user."""
    guild, user = 11, 22
    index = key_of(Table.OF_USER, user, int(Table.MEMBER), guild)
    partition = key_of(Table.MEMBER, guild, user)[0]
    with opened(tmp_path / "state") as rig:
        rig.do(UpdateMember(fields={"nick": "x"}, guild=guild, user=user))
        rig.flush()
        export(rig.store.view, partition, rig.store.era(), 1, tmp_path / "file")
    with opened(tmp_path / "other" / "state") as other:
        other.do(SetValue("x", 1))
        other.flush()
    import_partition(tmp_path / "other" / "state", tmp_path / "file")
    assert index in reopened(other)[0]
    with opened(tmp_path / "third" / "state") as third:
        third.do(UpdateMember(fields={"nick": "y"}, guild=guild, user=user))
        third.do(DeleteMember(guild=guild, user=user))
        third.flush()
    import_partition(tmp_path / "third" / "state", tmp_path / "file")
    assert head(reopened(third)[0][key_of(Table.MEMBER, guild, user)])[0] >= 2


def test_a_running_broker_is_refused(exported: tuple[Rig, Path]) -> None:
    rig, file = exported
    with (rig.folder.parent / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreInUse):
            import_partition(rig.folder, file)


def test_what_is_damaged_anywhere_is_refused_and_changes_nothing(
    exported: tuple[Rig, Path],
) -> None:
    rig, file = exported
    whole, before = file.read_bytes(), reopened(rig)
    damaged = [whole[:-1], whole + b"\0", b"", whole[: len(whole) // 2], b"\xff" * 9]
    for at in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        damaged.append(bytes(changed))
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(ExportRefused):
            import_partition(rig.folder, file)
    with pytest.raises(ExportRefused):
        check_export(file.with_name("nowhere"))
    assert reopened(rig) == before


def test_accounts_go_with_their_names(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(20)
        key = key_of(Table.ACCOUNT, "a")
        export(rig.store.view, key[0], rig.store.era(), 20, tmp_path / "file")
    import_partition(tmp_path / "state", tmp_path / "file")
    old, new = read(Account, rig.model.view.rows[key]), read(Account, reopened(rig)[0][key])
    assert old is not None
    assert new is not None
    assert (new.balance, new.floor) == (old.balance, old.floor)


def test_an_accounts_history_is_that_of_this_log(tmp_path: Path) -> None:
    """What the file says of it is of another moment, or of another log."""
    file = tmp_path / "partition"
    with opened(tmp_path / "data" / "state") as rig:
        for _ in range(RECENT_MAX + 3):
            rig.do(Deposit("a", 1))
        rig.flush()
        key = key_of(Table.ACCOUNT, "a")
        export(rig.store.view, key[0], rig.store.era(), rig.store.place().lsn, file)
        for _ in range(RECENT_MAX):
            rig.do(Deposit("a", 1))
        rig.flush()
        empty = tmp_path / "empty"
    import_partition(rig.folder, file)
    store = StateStore.open(rig.folder)
    row = read(Account, store.view.get(key))
    assert row is not None
    assert row.balance == RECENT_MAX + 3
    assert list(history(store.view, "a")) == list(range(1, 2 * RECENT_MAX + 4))
    store.close()
    with opened(tmp_path / "other" / "state") as other:
        export(other.store.view, key[0], other.store.era(), 0, empty)
    assert import_partition(rig.folder, empty).removed == 1
    store = StateStore.open(rig.folder)
    assert store.view.get(key) is None
    assert list(history(store.view, "a")) == list(range(1, 2 * RECENT_MAX + 4))
    store.close()
    import_partition(other.folder, file)
    store = StateStore.open(other.folder)
    assert list(history(store.view, "a")) == []
    store.close()
