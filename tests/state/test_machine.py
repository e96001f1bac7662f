"""``apply``: once, all or nothing, at monotone times, and the same whenever it is done again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.state.economy import Deposit, Transfer
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import BadName, BadValue, OpIdReused, StateError, TooLarge
from shard_node.state.keys import Table
from shard_node.state.log import GENESIS, erased
from shard_node.state.machine import MemoryState, Place, apply, encode_tx, read_tx
from shard_node.state.opids import OpIds, Window
from shard_node.state.ops import APPLY, AnyOp
from shard_node.state.rollback import Rollback
from shard_node.state.tx import OPS_MAX, Actor, Tx
from shard_node.state.users import UpdateUser
from shard_node.state.values import DeleteValue, SetValue, Value
from tests.support.state import START_MS, LmdbView, World


def test_every_operation_has_who_applies_it_and_a_tag_of_its_own() -> None:
    kinds = AnyOp.__args__
    assert set(kinds) == set(APPLY)
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags)
    assert all(isinstance(tag, str) for tag in tags)


def test_a_transaction_sent_again_is_not_applied_again() -> None:
    world = World()
    tx = world.tx(Deposit("a", 5), SetValue("v", 1))
    first = world.submit(tx, START_MS)
    rows = dict(world.view.rows)
    again = world.submit(msgspec.structs.replace(tx, salt=bytes(16)), START_MS + 5)
    assert (again.lsn, again.results) == (first.lsn, first.results)
    assert (again.entry, again.writes) == (None, {})
    assert (world.view.rows, world.place.lsn) == (rows, 1)


def test_an_op_id_names_one_transaction() -> None:
    world = World()
    tx = world.tx(Deposit("a", 5))
    world.submit(tx, START_MS)
    with pytest.raises(OpIdReused) as caught:
        world.submit(msgspec.structs.replace(tx, ops=(Deposit("a", 6),)), START_MS)
    assert caught.value.details == {"tx": 1}


def test_a_refused_transaction_may_be_sent_again() -> None:
    world = World()
    tx = world.tx(Transfer("a", "b", 5))
    with pytest.raises(StateError):
        world.submit(tx, START_MS)
    world.do(Deposit("a", 5))
    assert world.submit(tx, START_MS).results == ({"source": 0, "target": 5},)


def test_op_ids_are_forgotten_in_their_order() -> None:
    world = World()
    world.op_ids = OpIds(window=Window(10, 30_000, 10))
    txs = [world.tx(SetValue("v", number)) for number in range(50)]
    for tx in txs:
        world.submit(tx, START_MS)
    assert [world.applied(tx.op_id) for tx in txs[39:42]] == [None, 41, 42]
    assert world.submit(txs[40], START_MS).lsn == 41
    assert world.submit(txs[39], START_MS).lsn == 51  # too old: done again
    assert world.applied(txs[39].op_id) == 51
    assert [world.applied(tx.op_id) for tx in txs[40:42]] == [None, 42]
    assert len(world.op_ids) == 10


def test_sent_again_after_its_payload_was_erased_it_has_no_results() -> None:
    world = World()
    tx = world.tx(Deposit("a", 5))
    world.submit(tx, START_MS)
    world.entries[1] = erased(world.entries[1])
    again = world.submit(tx, START_MS)
    assert (again.lsn, again.results, again.entry, again.writes) == (1, (), None, {})
    other = world.submit(msgspec.structs.replace(tx, ops=(Deposit("a", 6),)), START_MS)
    assert (other.lsn, other.entry) == (1, None)
    assert world.balance("a") == 5


@given(
    st.lists(st.integers(0, 30) | st.integers(-9, -1), max_size=60),
    st.integers(1, 8),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_op_ids_go_back_and_are_filled_up_from_before(
    steps: list, kept: int, kept_ms: int, more: int
) -> None:
    """Below 0: one more record, so much later; a number: back so far, and those before it read
    again. Found are those of the window, exactly."""
    every: list[tuple[bytes, int]] = []
    window = Window(kept, kept_ms, kept + more)
    ids, at_ms = OpIds(window=window), 0
    for number, step in enumerate(steps):
        if step < 0:
            at_ms -= step + 1
            every.append((number.to_bytes(16, "big"), at_ms))
            ids.add(*every[-1])
        else:
            del every[max(0, len(every) - step) :]
            at_ms = every[-1][1] if every else 0
            ids.back_to(len(every))
            after = window.before(len(every), at_ms, 1, lambda lsn: every[lsn - 1][1])
            missing = max(0, len(every) - len(ids) - after)
            ids.add_older(every[after : after + missing])
        last = len(every)
        for lsn, (op_id, logged) in enumerate(every, 1):
            recent = lsn > last - window.most and logged >= at_ms - kept_ms
            assert ids.lsn_of(op_id) == (lsn if lsn > last - kept or recent else None)
        assert ids.newest() == (every[-1][0] if every else None)


def test_what_is_too_old_is_let_go_of_little_by_little() -> None:
    ids = OpIds(window=Window(10, 1000, 100))
    for number in range(100):
        ids.add(number.to_bytes(16, "big"), 0)
    assert len(ids) == 100
    ids.add(bytes(15) + b"x", 5000)
    assert len(ids) == 99
    assert [ids.lsn_of(number.to_bytes(16, "big")) for number in (90, 91, 92)] == [None, 92, 93]
    ids.add((3).to_bytes(16, "big"), 5000)
    assert ids.lsn_of((3).to_bytes(16, "big")) == 102
    for number in range(200, 300):
        ids.add(number.to_bytes(16, "big"), 5000)
    assert len(ids) == 100


def test_log_time_never_goes_back() -> None:
    world = World()
    times = [5, 7, 3, 3, 9, -1]
    for at_ms in times:
        world.submit(world.tx(SetValue("v", at_ms)), at_ms)
    assert [entry.at_ms for entry in world.log()] == [5, 7, 7, 7, 9, 9]


def test_the_same_transactions_give_the_same_rows_and_digests_on_any_view(tmp_path: Path) -> None:
    world, rows = World(), LmdbView(tmp_path)
    place = Place(0, GENESIS, 0)
    ops = [
        (Deposit("a", 50), SetValue("v", 1)),
        (Transfer("a", "b", 20),),
        (DeleteValue("v"), UpdateUser(3, fields={"b": 1, "a": [1.5, None]})),
        (Rollback(3),),
        (Rollback(4),),
        (ForgetUser(3),),
    ]
    for one in ops:
        tx = world.tx(*one)
        applied = apply(rows, world, tx, START_MS, place)
        assert applied.entry is not None
        rows.write(applied.writes)
        place = Place(applied.lsn, applied.entry.digest, applied.entry.at_ms)
        mine = world.submit(tx, START_MS)
        assert mine == applied
        assert list(mine.writes) == list(applied.writes)
    assert rows.rows() == world.view.rows
    assert place == world.place


def test_apply_changes_nothing_itself() -> None:
    world = World()
    world.do(Deposit("a", 50))
    rows, entries = dict(world.view.rows), dict(world.entries)
    tx = world.tx(Transfer("a", "b", 20), Rollback(1))
    with pytest.raises(StateError):
        apply(world.view, world, tx, START_MS, world.place)
    one = apply(world.view, world, world.tx(SetValue("a", 1)), START_MS, world.place)
    assert one.writes
    assert (world.view.rows, world.entries) == (rows, entries)


def test_versions_count_on_after_a_deletion_so_that_an_old_one_fits_nothing_new() -> None:
    world = World()
    for _ in range(3):
        world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))
    assert world.result(SetValue("v", 2, if_version=0)) == {"version": 4}
    world.do(DeleteValue("v"), SetValue("v", 3))
    row = world.row(Value, Table.VALUE, "v")
    assert row is not None
    assert (row.version, row.lsn, row.value) == (5, 6, 3)
    assert not any(key[1] == Table.GONE for key in world.view.rows)


def test_two_changes_of_one_row_in_a_transaction_are_two_versions() -> None:
    world = World()
    done = world.do(SetValue("v", 1), SetValue("v", 2, if_version=1), SetValue("w", 1))
    assert done.results == ({"version": 1}, {"version": 2}, {"version": 1})


def tx_of(**change: object) -> Tx:
    return msgspec.structs.replace(World().tx(SetValue("v", 1)), **change)


@pytest.mark.parametrize(
    ("tx", "kind"),
    [
        (tx_of(op_id=b""), BadValue),
        (tx_of(op_id=bytes(17)), BadValue),
        (tx_of(salt=bytes(15)), BadValue),
        (tx_of(ops=()), TooLarge),
        (tx_of(ops=(SetValue("v", 1),) * (OPS_MAX + 1)), TooLarge),
        (tx_of(actor=Actor("n" * 201)), BadName),
        (tx_of(actor=Actor(user=-1)), BadName),
    ],
)
def test_a_transaction_that_is_none_is_refused(tx: Tx, kind: type[StateError]) -> None:
    with pytest.raises(kind):
        MemoryState().submit(tx, START_MS)


def test_what_cannot_be_rolled_back_stands_alone() -> None:
    for ops in ((SetValue("v", 1), ForgetUser(1)), (ForgetUser(1), SetValue("v", 1))):
        with pytest.raises(BadValue):
            World().do(*ops)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x94",
        b"\xc1" * 8,
        msgspec.msgpack.encode([bytes(16), bytes(16), [["no_such_op", 1]], ["", 0, ""]]),
        msgspec.msgpack.encode([bytes(16), bytes(16), [["deposit", "a", 1.5]], ["", 0, ""]]),
        msgspec.msgpack.encode([bytes(16), bytes(16), [["deposit", "a", True]], ["", 0, ""]]),
        msgspec.msgpack.encode([bytes(16), bytes(16), [["deposit", "a"]], ["", 0, ""]]),
        b"\x91" * 5000,
        b"\x94\xc4\x00\xc4\x00\x91\x93\xa9set_value\xa1\xff\x01\x93\xa0\x00\xa0",
    ],
    ids=range(9),
)
def test_bytes_that_are_no_transaction_are_a_bad_value(data: bytes) -> None:
    with pytest.raises(BadValue):
        read_tx(data)


def test_depth_that_no_value_has_is_a_bad_value() -> None:
    head = msgspec.msgpack.encode([bytes(16), bytes(16)])[1:]
    deep = b"\x94" + head + b"\x91\x93\xa9set_value\xa1v" + b"\x91" * 200_000 + b"\xc0"
    with pytest.raises(BadValue):
        read_tx(deep)
    with pytest.raises(TooLarge):
        read_tx(deep * 3)


def test_a_transaction_goes_over_the_wire_as_it_is() -> None:
    tx = tx_of(ops=(SetValue("v", {"a": [1, None, b"x", 2.5]}), Deposit("a", 1)))
    assert read_tx(encode_tx(tx)) == tx
