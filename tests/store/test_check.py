"""The check, and that it finds each fault that is planted."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shard_node.state.economy import Deposit
from shard_node.state.errors import StateError
from shard_node.state.files import BASE_KEY, LOG, MARK_KEY, META, ROWS, lsn_key, pack, write_mark
from shard_node.state.keys import Table, key_of
from shard_node.state.log import make_entry, write_entry
from shard_node.state.rollback import Rollback
from shard_node.state.rows import Row, write
from shard_node.state.values import SetValue
from store.check import PROBLEMS_MAX, Report, check, check_file
from store.errors import StoreInUse, StoreOpenError
from store.offline import DATA_FILE, LOCK_FILE
from store.snapshot import take
from store.state import StateStore
from store.trim import erasing
from tests.support.state_store import Rig, opened, plant


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A state of 60 records, at rest."""
    with opened(tmp_path / "data" / "state") as rig:
        rig.fill(50)
        while rig.model.place.lsn < 60:
            try:
                rig.do(Rollback(rig.random.randrange(1, 50)), reason="a test")
            except StateError:
                continue
        rig.flush()
    return rig


def test_what_is_right_is_said_to_be(rig: Rig) -> None:
    report = check(rig.folder)
    assert (report.problems, report.notes, report.replayed) == ([], [], True)
    assert (report.records, report.erased) == (60, 0)
    assert report.rows == len(rig.model.view.rows)
    assert report.mark.lsn == 60


def test_an_empty_state_is_right(tmp_path: Path) -> None:
    StateStore.open(tmp_path / "state").close()
    assert check(tmp_path / "state").problems == []


def test_it_refuses_a_running_broker_and_a_folder_without_one(rig: Rig, tmp_path: Path) -> None:
    with (rig.folder.parent / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreInUse):
            check(rig.folder)
    with pytest.raises(StoreOpenError):
        check_file(tmp_path / "nowhere")


def drop_record(rig: Rig) -> None:
    plant(rig.folder, LOG, lsn_key(30), None)


def cut_the_end(rig: Rig) -> None:
    plant(rig.folder, LOG, lsn_key(60), None)


def apply_twice(rig: Rig) -> None:
    """One record more than was confirmed, its rows left as they are."""
    old = rig.model.entries[60]
    entry = make_entry(61, old.at_ms, old.op_id, old.payload(), old.salt, old.digest)
    put_entry(rig, entry)
    mark = msgspec.structs.replace(check(rig.folder).mark, lsn=61, digest=entry.digest)
    plant(rig.folder, META, MARK_KEY, pack(MARK_KEY, write_mark(mark)))


def change_payload(rig: Rig) -> None:
    entry = rig.model.entries[20]
    put_entry(rig, msgspec.structs.replace(entry, body=entry.body[:-1] + b"\x01"))


def change_header(rig: Rig) -> None:
    put_entry(rig, msgspec.structs.replace(rig.model.entries[20], at_ms=1_000_000))


def steal_money(rig: Rig) -> None:
    """A whole row, with a right checksum, that no record explains."""
    key = key_of(Table.ACCOUNT, "a")
    fields = msgspec.msgpack.decode(rig.model.view.rows[key])
    fields[3] += 1
    plant(rig.folder, ROWS, key, pack(key, msgspec.msgpack.encode(fields)))


def lose_row(rig: Rig) -> None:
    plant(rig.folder, ROWS, key_of(Table.ACCOUNT, "b"), None)


def invent_row(rig: Rig) -> None:
    key = key_of(Table.VALUE, "invented")
    plant(rig.folder, ROWS, key, pack(key, write(Row(1, 5))))


def misplace_row(rig: Rig) -> None:
    key = key_of(Table.VALUE, "x")
    key = bytes((key[0] ^ 1,)) + key[1:]
    plant(rig.folder, ROWS, key, pack(key, write(Row(1, 5))))


def row_of_the_future(rig: Rig) -> None:
    key = key_of(Table.VALUE, "x")
    plant(rig.folder, ROWS, key, pack(key, write(Row(1, 61))))


def break_checksum(rig: Rig) -> None:
    key = key_of(Table.ACCOUNT, "a")
    plant(rig.folder, ROWS, key, b"0000" + rig.model.view.rows[key])


def strange_key(rig: Rig) -> None:
    plant(rig.folder, ROWS, b"\0\xee\x07", pack(b"\0\xee\x07", b"\x93\1\1\1"))


def strange_meta(rig: Rig) -> None:
    plant(rig.folder, META, b"strange", pack(b"strange", b""))


def break_base(rig: Rig) -> None:
    plant(rig.folder, META, BASE_KEY, pack(BASE_KEY, b"\xc1"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (drop_record, "record 31 where 30 was due"),
        (cut_the_end, "it ends at 59, the mark says 60"),
        (apply_twice, "record 61 is another"),
        (change_payload, "record 20: its payload is not the one"),
        (change_header, "record 20: its digest"),
        (steal_money, "is not what the log says"),
        (lose_row, "is not what the log says"),
        (invent_row, "is not what the log says"),
        (misplace_row, "partition that is not its own"),
        (row_of_the_future, "written by 61"),
        (break_checksum, "checksum"),
        (strange_key, "cannot be read"),
        (strange_meta, "none of ours"),
        (break_base, "cannot be read"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_planted_fault_is_found(rig: Rig, fault: Callable[[Rig], None], said: str) -> None:
    fault(rig)
    report = check(rig.folder)
    assert any(said in problem for problem in report.problems), report.problems


def test_a_long_log_is_not_replayed_unasked(rig: Rig) -> None:
    report = check(rig.folder, replay_max=59)
    assert (report.problems, report.replayed) == ([], False)
    assert "60 records, more than 59" in report.notes[0]


def test_an_erased_payload_leaves_the_chain_whole(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(30)
        rig.give(work=erasing((4, 5, 9, 99)))
        rig.give(work=erasing((4,)))
        rig.flush()
        entry = rig.store.entry(4)
        assert entry is not None
        assert (entry.body, entry.salt, entry.digest) == (None, b"", rig.model.entries[4].digest)
        snap = tmp_path / "snap"
        take(rig.store.env, snap, 0.0)
        rig.do(Deposit("a", 5))
        rig.flush()
    report = check(tmp_path / "state")
    assert (report.problems, report.erased, report.replayed) == ([], 3, False)
    assert "record 4 was erased" in report.notes[0]
    since = check(tmp_path / "state", since=snap)
    assert (since.problems, since.notes, since.replayed) == ([], [], True)
    body = rig.model.entries[4].body
    assert body is not None
    assert body not in (snap / DATA_FILE).read_bytes()


def test_since_a_snapshot_finds_a_fault_as_well(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as rig:
        rig.fill(30)
        take(rig.store.env, tmp_path / "snap", 0.0)
        for amount in range(1, 20):
            rig.do(Deposit("a", amount))
            rig.do(SetValue("name1", amount))
        rig.do(Rollback(25, force=True), reason="of before the snapshot")
        rig.flush()
    assert check(tmp_path / "state", since=tmp_path / "snap").replayed
    steal_money(rig)
    assert "not what the log says" in check(tmp_path / "state", since=tmp_path / "snap").problems[0]


def test_a_snapshot_of_another_state_is_refused(rig: Rig, tmp_path: Path) -> None:
    with opened(tmp_path / "other", seed=9) as other:
        other.fill(20)
        take(other.store.env, tmp_path / "snap", 0.0)
    assert "no snapshot of this state" in check(rig.folder, since=tmp_path / "snap").problems[0]


def test_problems_are_bounded() -> None:
    report = Report()
    for number in range(10 * PROBLEMS_MAX):
        report.add(str(number))
    assert len(report.problems) == PROBLEMS_MAX


def put_entry(rig: Rig, entry: object) -> None:
    lsn = entry.lsn  # type: ignore[attr-defined]
    plant(rig.folder, LOG, lsn_key(lsn), pack(lsn_key(lsn), write_entry(entry)))  # type: ignore[arg-type]
