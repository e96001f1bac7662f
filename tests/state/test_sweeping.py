"""Sweeping: what goes, what stays, and that versions never come again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shard_node.state import context, sweeping
from shard_node.state.economy import RECENT_MAX, Deposit, history
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import (
    BadName,
    BadValue,
    NotUndoable,
    StateError,
    TooLarge,
    UnknownTransaction,
    VersionConflict,
)
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.keys import BOOKKEEPING, Table, parse_key, partition_of
from shard_node.state.log import GENESIS
from shard_node.state.machine import MemoryState, Place, apply
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.moderation import BanUser, UnbanUser
from shard_node.state.rollback import Rollback
from shard_node.state.rows import head
from shard_node.state.sweeping import SWEPT_MAX, TABLES, Sweep, goes, name_of
from shard_node.state.traces import mentions
from shard_node.state.tx import Tx
from shard_node.state.values import DeleteValue, SetValue
from tests.support.state import LmdbView, World


def trim(world: World, up_to: int) -> None:
    """The records go, and nothing else: as if the store had found nothing to go with them."""
    for lsn in [lsn for lsn in world.entries if lsn <= up_to]:
        del world.entries[lsn]


def old(world: World, first: int) -> list[Any]:
    return [name_of(key) for key, row in world.view.rows.items() if goes(key, row, first)]


def sweep(world: World, up_to: int) -> Any:
    return world.result(Sweep(up_to, tuple(old(world, up_to + 1))))


def count(world: World, table: Table) -> int:
    return sum(key[1] == table for key in world.view.rows)


def test_marks_of_ever_new_names_go_and_one_version_for_a_table_and_partition_stays() -> None:
    world = World()
    for number in range(600):
        for _ in range(number % 3 + 1):
            world.do(SetValue(f"n{number}", number))
        world.do(DeleteValue(f"n{number}"))
    last = world.place.lsn
    names = old(world, last + 1)
    assert (len(names), count(world, Table.GONE)) == (600, 600)
    for start in range(0, 600, SWEPT_MAX):
        world.do(Sweep(last, tuple(names[start : start + SWEPT_MAX])))
    assert count(world, Table.GONE) == 0
    assert len(world.view.rows) == count(world, Table.SWEPT) <= 256
    for number in range(600):
        highest = max(n % 3 + 1 for n in range(600) if home(n) == home(number))
        assert world.result(SetValue(f"n{number}", 0)) == {"version": highest + 1}


def home(number: int) -> int:
    return partition_of(f"n{number}")


def test_a_mark_goes_only_where_it_is_as_old_as_it_is_said_to_be() -> None:
    world = World()
    world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))
    (name,) = old(world, 3)
    world.do(SetValue("w", 1))
    assert world.result(Sweep(1, (name,))) == {"marks": 0}
    assert count(world, Table.GONE) == 1
    world.do(SetValue("v", 1))  # there again, and so it has no mark
    world.do(DeleteValue("v"))
    assert world.result(Sweep(3, (name,))) == {"marks": 0}
    assert world.result(Sweep(6, (name, name))) == {"marks": 1}
    assert world.result(Sweep(6, (name,))) == {"marks": 0}


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (Sweep(0, ()), BadValue),
        (Sweep(-1, ()), BadValue),
        (Sweep(4, ()), BadValue),
        (Sweep(1, ((Table.VALUE, "v"),)), BadValue),
        (Sweep(1, ((Table.SWEPT, 5, 1),)), BadValue),
        (Sweep(1, ((99, "v"),)), BadValue),
        (Sweep(1, ((Table.GONE,),)), BadValue),
        (Sweep(1, ((),)), BadValue),
        (Sweep(1, ((Table.GONE, ""),)), BadName),
        (Sweep(1, ((Table.GONE, "v", 1),) * (SWEPT_MAX + 1)), TooLarge),
    ],
    ids=str,
)
def test_a_sweep_that_is_none_is_refused(op: Sweep, kind: type[StateError]) -> None:
    world = World()
    for _ in range(3):
        world.do(SetValue("v", 1))
    rows = dict(world.view.rows)
    with pytest.raises(kind):
        world.do(op)
    assert (world.view.rows, world.place.lsn) == (rows, 3)


def test_a_sweep_is_a_transaction_of_its_own_and_stays() -> None:
    world = World()
    world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))
    with pytest.raises(BadValue, match="of its own"):
        world.do(Sweep(2, ()), SetValue("w", 1))
    sweep(world, 2)
    with pytest.raises(NotUndoable):
        world.do(Rollback(3))


def test_a_deletion_whose_mark_was_swept_cannot_be_rolled_back_and_says_why() -> None:
    world = World()
    world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))
    sweep(world, 2)
    with pytest.raises(NotUndoable, match="deleted longer ago than such is kept"):
        world.do(Rollback(2))  # of a log that is longer than it was said to be
    trim(world, 2)
    with pytest.raises(UnknownTransaction, match="trimmed from the log") as caught:
        world.do(Rollback(2))
    assert caught.value.hint == "run: shardctl backup list"
    assert world.result(SetValue("v", 2, if_version=0)) == {"version": 2}
    with pytest.raises(VersionConflict):
        world.do(SetValue("v", 3, if_version=1))
    world.do(Rollback(4))  # what came after is rolled back as ever
    assert world.result(SetValue("v", 4)) == {"version": 3}


def test_what_pointed_to_a_member_s_mark_goes_with_it() -> None:
    for table, made, deleted in (
        (Table.MEMBER, UpdateMember(41, 7, fields={"x": 1}), DeleteMember(41, 7)),
        (Table.BAN, BanUser(7, 41, "why"), UnbanUser(7, 41)),
        (Table.CONFIG, UpdateConfig(41, fields={"x": 1}), DeleteConfig(41)),
    ):
        world = World()
        world.do(made)
        world.do(deleted)
        assert count(world, Table.GONE) == 1
        up_to = world.place.lsn
        trim(world, up_to)
        assert sweep(world, up_to) == {"marks": 1}
        assert {Table(key[1]) for key in world.view.rows} <= {Table.SWEPT}, table
        world.do(made)
        (row,) = (row for key, row in world.view.rows.items() if key[1] == table)
        assert head(row)[0] == 2
    world = World()
    world.do(UpdateMember(41, 8, fields={"x": 1}))
    world.do(UpdateMember(41, 9, fields={"x": 1}))
    world.do(DeleteMember(41, 9))
    sweep(world, world.place.lsn)
    assert count(world, Table.OF_USER) == 1  # of the one who is there
    world.do(ForgetUser(8))
    assert count(world, Table.MEMBER) == count(world, Table.OF_USER) == 0


def test_the_history_of_a_rare_account_goes_although_it_was_written_late() -> None:
    world = World()
    for _ in range(RECENT_MAX):
        world.do(Deposit("rare", 1))
    trim(world, RECENT_MAX)
    world.do(Deposit("rare", 1))  # the older ones go into a row, which no trimming comes to
    assert count(world, Table.HISTORY) == 1
    assert sweep(world, RECENT_MAX) == {"marks": 0}
    assert count(world, Table.HISTORY) == 0
    assert list(history(world.view, "rare")) == [RECENT_MAX + 1]
    for _ in range(RECENT_MAX):
        world.do(Deposit("rare", 1))
    sweep(world, RECENT_MAX)
    assert count(world, Table.HISTORY) == 1  # its last record is in the log


def test_the_books_of_erased_records_go() -> None:
    world = World()
    world.do(SetValue("v", 1))
    world.do(Rollback(1))
    world.do(BanUser(7, "global", "why"))
    assert {name[0] for name in old(world, 4)} == {Table.GONE, Table.UNDONE, Table.HISTORY}
    sweep(world, 3)
    assert {Table(key[1]) for key in world.view.rows} == {Table.BAN, Table.SWEPT}


def test_a_sweep_tells_of_a_person_as_any_record_does() -> None:
    user = 80351110224678912
    world = World()
    for op, deletion in (
        (UpdateMember(41, user, fields={"x": 1}), DeleteMember(41, user)),
        (SetValue(f"user:{user}:cart", 1), DeleteValue(f"user:{user}:cart")),
    ):
        world.do(op)
        world.do(deletion)
        sweep(world, world.place.lsn)
        payload = world.log()[-1].payload()
        assert mentions(payload, user)
        assert not mentions(payload, user + 1)


# --- any sequence

names = st.sampled_from(["user:1", "b", "c"])
ids = st.integers(1, 2)
fields = st.dictionaries(st.sampled_from("xy"), st.integers(0, 9), min_size=1)
rows = (
    st.builds(SetValue, names, st.integers(0, 9))
    | st.builds(DeleteValue, names)
    | st.builds(UpdateConfig, ids, fields=fields)
    | st.builds(DeleteConfig, ids)
    | st.builds(UpdateMember, ids, ids, fields=fields)
    | st.builds(DeleteMember, ids, ids)
    | st.builds(BanUser, ids, st.just("global"), st.just("why"))
    | st.builds(UnbanUser, ids, st.just("global"))
    | st.builds(Deposit, names, st.just(5))
)


class AnySweeping(RuleBasedStateMachine):
    """One state is swept; its twin does everything but that, and is what is right: after each
    step both hold the same, but for versions, and answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.world, self.twin, self.lmdb = World(), World(), LmdbView(self.folder)
        self.all: list[tuple[Tx, int]] = []
        self.place = Place(0, GENESIS, 0)
        self.versions: dict[bytes, int] = {}
        self.seen: dict[bytes, bytes] = {}
        self.first = 1
        self.sweeps: set[int] = set()

    def submit(self, *ops: Any, twin: Any = None) -> None:
        tx, other = self.world.tx(*ops), self.twin.tx(*(twin or ops))
        kind: type[StateError] | None = None
        try:
            self.twin.submit(other, self.twin.now_ms)
        except StateError as error:
            kind = type(error)
        try:
            mine = apply(self.lmdb, self.world, tx, self.world.now_ms, self.place)
        except StateError as error:
            assert type(error) is kind
            with pytest.raises(type(error)):
                self.world.submit(tx, self.world.now_ms)
            return
        assert kind is None
        assert self.world.submit(tx, self.world.now_ms) == mine
        self.lmdb.write(mine.writes)
        assert mine.entry is not None
        self.place = Place(mine.lsn, mine.entry.digest, mine.entry.at_ms)
        self.all.append((tx, mine.entry.at_ms))

    @rule(ops=st.lists(rows, min_size=1, max_size=3))
    def transact(self, ops: list[Any]) -> None:
        self.submit(*ops)

    @precondition(lambda self: self.place.lsn)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        tx = data.draw(st.integers(1, self.place.lsn))
        if tx not in self.sweeps:
            self.submit(Rollback(tx))

    @precondition(lambda self: self.place.lsn)
    @rule(data=st.data())
    def trim_and_sweep(self, data: st.DataObject) -> None:
        up_to = data.draw(st.integers(1, self.place.lsn))
        trim(self.world, up_to)
        trim(self.twin, up_to)
        self.first = max(self.first, up_to + 1)
        found = old(self.world, up_to + 1)
        some = found[: data.draw(st.integers(0, len(found)))]
        self.submit(Sweep(up_to, tuple(some)), twin=(Deposit("pad", 1),))
        self.sweeps.add(self.place.lsn)
        if some == found:
            assert not old(self.world, up_to + 1)

    @precondition(lambda self: self.place.lsn)
    @rule(name=names, data=st.data())
    def expect_a_version(self, name: str, data: st.DataObject) -> None:
        """One that the row had once fits only what is there now."""
        key = sweeping.key_of(Table.VALUE, name)
        expected = data.draw(st.integers(0, 6))
        row = self.world.view.get(key)
        fits = expected == (0 if row is None else head(row)[0])
        before = self.place.lsn
        tx = self.world.tx(SetValue(name, 1, expected))
        if fits:
            self.submit(SetValue(name, 1, expected), twin=(SetValue(name, 1),))
            assert self.place.lsn == before + 1
        else:
            with pytest.raises(VersionConflict):
                self.world.submit(tx, self.world.now_ms)

    @invariant()
    def both_hold_the_same_and_no_version_comes_again(self) -> None:
        mine = {k: row for k, row in self.world.view.rows.items() if k[1] not in BOOKKEEPING}
        theirs = {k: row for k, row in self.twin.view.rows.items() if k[1] not in BOOKKEEPING}
        pads = {Table.TOTAL, Table.ACCOUNT}
        assert {k for k in mine if k[1] not in pads} == {k for k in theirs if k[1] not in pads}
        for key, row in mine.items():
            if key[1] not in pads:
                assert bare(row) == bare(theirs[key]), parse_key(key)
            if row != self.seen.get(key):
                version = head(row)[0]
                assert version > self.versions.get(key, 0), parse_key(key)
                self.versions[key], self.seen[key] = version, row
        for key in [key for key in self.seen if key not in mine]:
            del self.seen[key]  # the same may come back, as another version

    def teardown(self) -> None:
        assert self.lmdb.rows() == self.world.view.rows
        again = MemoryState()  # whoever has the whole log and nothing else comes to the same
        for tx, at_ms in self.all:
            again.submit(tx, at_ms)
        assert again.place == self.world.place
        assert lasting(again, self.first) == lasting(self.world, self.first)
        self.lmdb.env.close()
        shutil.rmtree(self.folder)


def lasting(state: MemoryState, first: int) -> dict[bytes, bytes]:
    return {k: r for k, r in state.view.rows.items() if not sweeping.outlived(k, r, first)}


def bare(row: bytes) -> list[Any]:
    import msgspec

    found: list[Any] = msgspec.msgpack.decode(row)
    return found[1:]


def settings_of(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        database=None,
    )


TestAnySweeping = AnySweeping.TestCase
TestAnySweeping.settings = settings_of(150)
TestAnySweeping = pytest.mark.slow(TestAnySweeping)


def no_version_stays(key: bytes) -> bytes:
    return b"nowhere"


def all_goes(key: bytes, row: bytes, first: int) -> bool:
    return key[1] in TABLES


FAULTS = {
    "versions begin anew": (context, "swept_key", no_version_stays),
    "marks go that the log needs": (sweeping, "goes", all_goes),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    place, name, wrong = FAULTS[fault]
    monkeypatch.setattr(place, name, wrong)
    if wrong is all_goes:
        monkeypatch.setattr("tests.state.test_sweeping.goes", wrong)
    found = settings(settings_of(200), phases=(Phase.generate,), derandomize=True)
    with pytest.raises((AssertionError, KeyError)):
        run_state_machine_as_test(AnySweeping, settings=found)
