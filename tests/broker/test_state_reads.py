"""What is asked of the state: rows, scans, the log by filters and from its ends, marks."""

from __future__ import annotations

from typing import Any

import pytest

from broker.services import statereads
from shard_node.state.economy import Account, Deposit, Transfer
from shard_node.state.keys import Table, key_of
from shard_node.state.log import read_entry
from shard_node.state.rollback import Rollback
from shard_node.state.rows import read
from shard_node.state.tx import Actor
from shard_node.state.values import SetValue, Value
from shard_node.wire import topics
from shard_node.wire.limits import BODY_MAX_BYTES, STATE_KEYS_MAX
from shard_node.wire.state import (
    StateAt,
    StateLog,
    StateLogged,
    StateMark,
    StateRead,
    StateRows,
    StateScan,
    StateScanned,
)
from tests.support.state_world import OP, WALL_MS, A, StateWorld


def filled(count: int = 60) -> StateWorld:
    """Records 1, 4, 7 ... set values, the others pay ann or bob; user = lsn % 5."""
    world = StateWorld(auto=True)
    for lsn in range(1, count + 1):
        account = "ann" if lsn % 3 == 2 else "bob"
        op: Any = SetValue(f"v{lsn}", lsn) if lsn % 3 == 1 else Deposit(account, 1)
        world.outcome(op, actor=Actor("a", lsn % 5))
    return world


def log(world: StateWorld, *args: Any, **how: Any) -> StateLogged:
    answer = world.ask(topics.STATE_LOG, StateLog(*args, **how), OP)
    assert isinstance(answer, StateLogged), answer
    return answer


def lsns(page: StateLogged) -> list[int]:
    return [read_entry(data).lsn for data in page.entries]


# --- rows


def test_only_what_is_durable_is_read() -> None:
    world = StateWorld()
    world.do(world.tx(SetValue("x", 1)))
    key = key_of(Table.VALUE, "x")
    assert world.ask(topics.STATE_READ, StateRead((key,))) == StateRows(0, (None,))
    assert world.ask(topics.STATE_SCAN, StateScan(key[:2])) == StateScanned(0, ())
    world.commit()
    rows = world.ask(topics.STATE_READ, StateRead((b"nothing", key)))
    assert (rows.lsn, rows.rows[0], read(Value, rows.rows[1]).value) == (1, None, 1)


def test_too_many_rows_are_refused_and_a_scan_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    world = StateWorld(auto=True)
    keys = tuple(b"k" * 3 for _ in range(STATE_KEYS_MAX + 1))
    assert world.ask(topics.STATE_READ, StateRead(keys)).code == "E_TOO_LARGE"
    for number in range(20):
        world.outcome(SetValue(f"x{number}", "y" * 60_000))
    wanted = tuple(key_of(Table.VALUE, f"x{number}") for number in range(20))
    error = world.ask(topics.STATE_READ, StateRead(wanted))
    assert (error.code, error.hint) == ("E_TOO_LARGE", "ask for fewer rows at a time")
    found: list[bytes] = []
    after, more = b"", True
    while more:
        page = world.ask(topics.STATE_SCAN, StateScan(b"", after))
        assert sum(len(row) for _, row in page.rows) < BODY_MAX_BYTES
        found += [key for key, _ in page.rows]
        after, more = found[-1], page.more
    assert found == sorted(world.port.view.rows)


@pytest.mark.parametrize("limit", [-5, 0, 1, 7, 10**9])
def test_a_scan_goes_on_where_it_was_cut(limit: int) -> None:
    world = filled(30)
    found: list[bytes] = []
    page = world.ask(topics.STATE_SCAN, StateScan(b"", b"", limit))
    found += [key for key, _ in page.rows]
    while page.more:
        page = world.ask(topics.STATE_SCAN, StateScan(b"", found[-1], limit))
        found += [key for key, _ in page.rows]
    assert found == sorted(world.port.view.rows)


def test_a_prefix_is_one_table_of_one_partition() -> None:
    world = filled()
    key = key_of(Table.ACCOUNT, "ann")
    ((found, row),) = world.ask(topics.STATE_SCAN, StateScan(key)).rows
    assert found == key
    account = read(Account, row)
    assert account is not None
    assert account.balance == 20


# --- the log


@pytest.mark.parametrize("limit", [1, 7, 60, 500])
def test_the_log_is_read_in_pages(limit: int) -> None:
    world = filled()
    found: list[int] = []
    page = log(world, 0, limit)
    found += lsns(page)
    while page.more:
        page = log(world, page.read_to, limit)
        found += lsns(page)
    assert found == list(range(1, 61))
    assert (page.read_to, page.first, page.last) == (60, 1, 60)


def model(after: int, kinds: tuple[str, ...], user: int, account: str) -> list[int]:
    found = []
    for lsn in range(after + 1, 61):
        kind = "SetValue" if lsn % 3 == 1 else "Deposit"
        of = "" if lsn % 3 == 1 else "ann" if lsn % 3 == 2 else "bob"
        if kinds and kind not in kinds:
            continue
        if (user and lsn % 5 != user) or (account and of != account):
            continue
        found.append(lsn)
    return found


@pytest.mark.parametrize("after", [0, 1, 31, 60, 99])
@pytest.mark.parametrize("kinds", [(), ("Deposit",), ("SetValue", "Transfer"), ("Transfer",)])
@pytest.mark.parametrize("user", [0, 3])
@pytest.mark.parametrize("account", ["", "ann", "zoe"])
@pytest.mark.parametrize("limit", [1, 4, 100])
def test_filters(after: int, kinds: tuple[str, ...], user: int, account: str, limit: int) -> None:
    world = FILLED
    wanted = model(after, kinds, user, account)
    page = log(world, after, limit, kinds=kinds, user=user, account=account)
    assert lsns(page) == wanted[:limit]
    found = lsns(page)
    while page.more:
        page = log(world, page.read_to, limit, kinds=kinds, user=user, account=account)
        found += lsns(page)
    assert found == wanted
    newest = log(world, after, limit, newest=True, kinds=kinds, user=user, account=account)
    assert lsns(newest) == wanted[-limit:]


FILLED = filled()


def test_a_rollback_is_in_the_history_of_its_accounts() -> None:
    world = StateWorld(auto=True)
    world.outcome(Deposit("ann", 5))
    world.outcome(Transfer("ann", "bob", 2))
    world.outcome(SetValue("x", 1))
    world.outcome(Rollback(2), actor=Actor("a", 0, "a mistake"))
    assert lsns(log(world, account="bob")) == [2, 4]
    assert lsns(log(world, account="ann", newest=True, limit=2)) == [2, 4]


def test_a_log_that_was_trimmed_says_where_it_begins() -> None:
    world = filled()
    world.port.trim(41)
    page = log(world, 5, 10)
    assert (lsns(page), page.first) == (list(range(41, 51)), 41)
    assert lsns(log(world, 0, 3, account="ann")) == [41, 44, 47]
    assert lsns(log(world, newest=True, limit=30)) == list(range(41, 61))
    assert world.outcome(Rollback(7), actor=Actor("a", 0, "why")).error.code == "E_NO_TX"


def test_a_search_looks_at_so_many_records_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statereads, "STATE_SCANNED_MAX", 10)
    world = filled()
    page = log(world, 0, 100, kinds=("Nothing",))
    assert (page.entries, page.read_to, page.more) == ((), 10, True)
    page = log(world, 55, 100, kinds=("Nothing",))
    assert (page.entries, page.read_to, page.more) == ((), 60, False)
    newest = log(world, 0, 100, newest=True, kinds=("Deposit",))
    assert lsns(newest) == [51, 53, 54, 56, 57, 59, 60]


def test_records_that_are_large_come_in_several_answers() -> None:
    world = StateWorld(auto=True)
    for number in range(30):
        world.outcome(SetValue("x", str(number) * 30_000))
    page = log(world, 0, 100)
    assert page.more
    found = lsns(page)
    while page.more:
        assert sum(map(len, page.entries)) < BODY_MAX_BYTES
        page = log(world, page.read_to, 100)
        found += lsns(page)
    assert found == list(range(1, 31))


def test_an_empty_log() -> None:
    world = StateWorld()
    for how in ({}, {"newest": True}, {"account": "ann", "newest": True}, {"user": 3}):
        assert log(world, **how) == StateLogged((), 0, 1, 0)


# --- marks


def test_a_mark_says_where_the_log_stands() -> None:
    world = filled(3)
    world.now += 2
    assert world.ask(topics.STATE_MARK, StateMark()) == StateAt(3, WALL_MS, 1, WALL_MS + 2000)


def test_a_mark_is_answered_when_it_is_reached_not_before() -> None:
    world = StateWorld()
    second = world.send(A, topics.STATE_MARK, StateMark(2))
    first = world.send(A, topics.STATE_MARK, StateMark(1))
    world.do(world.tx(SetValue("x", 1)))
    world.do(world.tx(SetValue("x", 2)))
    assert (world.answer(first), world.answer(second)) == (None, None)
    world.commit()
    assert world.answer(first).lsn == 1
    assert world.answer(second) is None
    world.commit()
    assert world.answer(second).lsn == 2


def test_a_mark_waits_no_longer_than_its_deadline() -> None:
    world = StateWorld()
    number = world.send(A, topics.STATE_MARK, StateMark(9), ttl_ms=500)
    world.tick(0.6)
    error = world.answer(number)
    assert (error.code, error.retryable) == ("E_TIMEOUT", True)


def test_marks_are_bounded_and_dead_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statereads, "STATE_MARKS_MAX", 3)
    world = StateWorld()
    for _ in range(3):
        world.send(A, topics.STATE_MARK, StateMark(9), ttl_ms=500)
    assert world.ask(topics.STATE_MARK, StateMark(9)).code == "E_BUSY"
    world.tick(1)
    number = world.send(A, topics.STATE_MARK, StateMark(1))
    world.do(world.tx(SetValue("x", 1)))
    world.commit()
    assert world.answer(number).lsn == 1


def test_a_failed_commit_reaches_no_mark() -> None:
    world = StateWorld()
    number = world.send(A, topics.STATE_MARK, StateMark(1))
    world.do(world.tx(SetValue("x", 1)))
    world.fail()
    assert world.answer(number) is None
