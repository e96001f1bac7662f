"""The audit proves the sums, and each planted fault is found by it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from shard_node.state.audit import Finding, audit, audit_log, compare
from shard_node.state.economy import Account, Deposit, SetFloor, Total, Transfer, Withdraw
from shard_node.state.keys import Table, key_of
from shard_node.state.log import Entry, make_entry
from shard_node.state.rollback import Rollback
from shard_node.state.rows import write
from shard_node.state.undo import Give
from shard_node.state.values import SetValue
from tests.support.state import World


@pytest.fixture
def world() -> World:
    world = World()
    world.do(Deposit("a", 100, "daily"))
    world.do(Transfer("a", "b", 40))
    world.do(Withdraw("b", 15, "shop"), SetValue("v", 1))
    world.do(Rollback(2 + 1))
    world.do(Rollback(4))
    world.do(SetFloor("a", -5))
    return world


def all_findings(world: World) -> list[Finding]:
    tables, one = audit(world.view)
    log, two = audit_log(world.log())
    return [*one, *two, *compare(tables, log)]


def put(world: World, table: Table, name: tuple[str, ...], row: Account | Total | None) -> None:
    world.view.write({key_of(table, *name): None if row is None else write(row)})


def test_tables_and_log_agree(world: World) -> None:
    assert all_findings(world) == []
    sums, _ = audit(world.view)
    assert sums.plain() == {
        "accounts": 2,
        "balance": 85,
        "sources": {"daily": 100},
        "sinks": {"shop": 15},
        "created": 85,
    }


def test_a_trimmed_log_goes_on_from_what_was_before_it(world: World) -> None:
    start, _ = audit(world.view)
    kept = world.place.lsn
    world.do(Transfer("a", "b", 1))
    world.do(Deposit("c", 1))
    log, findings = audit_log([e for e in world.log() if e.lsn > kept], start)
    assert (findings, compare(audit(world.view)[0], log)) == ([], [])


TABLE_FAULTS: list[tuple[str, Callable[[World], None]]] = [
    ("sum", lambda w: put(w, Table.ACCOUNT, ("a",), Account(balance=61))),
    ("sum", lambda w: put(w, Table.ACCOUNT, ("a",), None)),
    ("sum", lambda w: put(w, Table.ACCOUNT, ("thief",), Account(balance=1))),
    ("sum", lambda w: put(w, Table.TOTAL, ("source", "daily"), Total(amount=101))),
    ("limit", lambda w: put(w, Table.ACCOUNT, ("a",), Account(balance=-1))),
    ("total", lambda w: put(w, Table.TOTAL, ("sink", "shop"), Total(amount=-1))),
    ("row", lambda w: w.view.write({key_of(Table.ACCOUNT, "a"): b"\x93\x01\x01"})),
    ("row", lambda w: w.view.write({key_of(Table.ACCOUNT, "a"): write(SetTo(balance="1"))})),
]


class SetTo(Total, frozen=True):
    balance: str = ""


@pytest.mark.parametrize(("code", "plant"), TABLE_FAULTS, ids=range(len(TABLE_FAULTS)))
def test_a_fault_in_the_tables_is_found(
    world: World, code: str, plant: Callable[[World], None]
) -> None:
    plant(world)
    assert code in {finding.code for finding in audit(world.view)[1]}
    assert compare(audit(world.view)[0], audit_log(world.log())[0])


def test_money_that_moved_between_accounts_behind_the_log_is_found_with_it(world: World) -> None:
    put(world, Table.ACCOUNT, ("a",), Account(balance=61))
    put(world, Table.ACCOUNT, ("b",), Account(balance=24))
    assert audit(world.view)[1] == []
    assert [f.where for f in all_findings(world)] == ["a", "b"]


def remade(world: World, lsn: int, minted: int | None = None, **change: object) -> Entry:
    entry = world.entries[lsn]
    payload = entry.payload()
    assert payload is not None
    payload = msgspec.structs.replace(payload, **change)
    return make_entry(
        lsn, 0, entry.op_id, payload, entry.salt, bytes(32),
        entry.minted if minted is None else minted,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"ops": (Transfer("a", "b", 41),)},
        {"ops": (Deposit("a", 40),)},
        {"ops": ()},
        {"undo": ()},
        {"undo": (Give("a", 40), Give("b", -41))},
        {"minted": 1},
    ],
    ids=str,
)
def test_a_fault_in_a_record_is_found(world: World, change: dict) -> None:
    world.entries[2] = remade(world, 2, **change)
    assert "record" in {finding.code for finding in all_findings(world)}


def test_a_record_applied_twice_or_dropped_is_found(world: World) -> None:
    tables, _ = audit(world.view)
    entries = world.log()
    for bad in (entries + [entries[0]], entries[1:], [e for e in entries if e.lsn != 2]):
        assert compare(tables, audit_log(bad)[0])
