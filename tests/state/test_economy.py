"""Money: what moves it, its limits, and its history."""

from __future__ import annotations

import pytest

from shard_node.state.audit import audit
from shard_node.state.economy import (
    AMOUNT_MAX,
    RECENT_MAX,
    Account,
    Deposit,
    SetFloor,
    Total,
    Transfer,
    Withdraw,
    history,
)
from shard_node.state.errors import BadAmount, InsufficientFunds, StateError
from shard_node.state.keys import Table
from shard_node.state.rollback import Rollback
from tests.support.state import World


@pytest.fixture
def world() -> World:
    world = World()
    world.do(Deposit("a", 100, "bank"))
    return world


def test_money_moves_and_totals_are_counted(world: World) -> None:
    assert world.result(Transfer("a", "b", 30)) == {"source": 70, "target": 30}
    assert world.result(Withdraw("b", 10, "shop")) == {"balance": 20}
    assert world.row(Total, Table.TOTAL, "source", "bank").amount == 100  # type: ignore[union-attr]
    assert world.row(Total, Table.TOTAL, "sink", "shop").amount == 10  # type: ignore[union-attr]
    assert [entry.minted for entry in world.log()] == [100, 0, -10]


def test_the_last_coin_can_be_spent_and_no_more(world: World) -> None:
    world.do(Transfer("a", "b", 100))
    assert world.balance("a") == 0
    with pytest.raises(InsufficientFunds):
        world.do(Transfer("a", "b", 1))
    world.do(Transfer("b", "a", 100))


def test_an_account_that_may_go_below_zero(world: World) -> None:
    world.do(SetFloor("a", -50))
    world.do(Withdraw("a", 150))
    assert world.balance("a") == -50
    with pytest.raises(InsufficientFunds):
        world.do(Withdraw("a", 1))
    with pytest.raises(InsufficientFunds):
        world.do(SetFloor("a", -49))
    world.do(Deposit("a", 1))
    world.do(SetFloor("a", -49))
    assert audit(world.view)[1] == []


def test_a_transaction_may_not_go_below_on_its_way(world: World) -> None:
    with pytest.raises(InsufficientFunds):
        world.do(Transfer("a", "b", 101), Transfer("b", "a", 101))
    world.do(Transfer("a", "b", 100), Transfer("b", "a", 100))
    assert world.balance("a") == 100


def test_the_largest_amounts_fit_and_no_more() -> None:
    world = World()
    world.do(Deposit("a", AMOUNT_MAX, "one"))
    with pytest.raises(BadAmount):
        world.do(Deposit("a", 1, "two"))
    with pytest.raises(BadAmount):
        world.do(Deposit("b", 1, "one"))
    with pytest.raises(BadAmount):
        world.do(Deposit("b", AMOUNT_MAX, "two"), Deposit("c", 1, "three"))
    world.do(Transfer("a", "b", AMOUNT_MAX))
    world.do(Deposit("c", AMOUNT_MAX, "two"))
    assert audit(world.view)[0].balance == 2 * AMOUNT_MAX


def test_an_account_has_its_history(world: World) -> None:
    world.do(Transfer("a", "b", 1))
    world.do(Deposit("b", 1))
    world.do(Transfer("a", "c", 1))
    world.do(SetFloor("a", -1))
    assert list(history(world.view, "a")) == [1, 2, 4, 5]
    assert list(history(world.view, "a", 2)) == [4, 5]
    assert list(history(world.view, "b")) == [2, 3]
    assert list(history(world.view, "nobody")) == []


def test_a_long_history_lies_in_few_rows_and_has_each_transaction_once(world: World) -> None:
    mine = [1]
    for number in range(5 * RECENT_MAX):
        if number % 3:
            ops = [Deposit("a", 1), Transfer("a", "b", 1)] if number % 2 else [Deposit("a", 1)]
            mine.append(world.do(*ops).lsn)
        else:
            world.do(Deposit("c", 1))
        assert list(history(world.view, "a")) == mine
    rows = [key for key in world.view.rows if key[1] == Table.HISTORY and b"account:a" in key]
    assert len(rows) == (len(mine) - 1) // RECENT_MAX == 3
    for after in range(world.place.lsn + 1):
        assert list(history(world.view, "a", after)) == [lsn for lsn in mine if lsn > after]
    world.do(Rollback(mine[-1]))
    assert list(history(world.view, "a"))[-1] == world.place.lsn


def floor_of(world: World, account: str) -> int:
    row = world.row(Account, Table.ACCOUNT, account)
    assert row is not None
    return row.floor


def test_rolling_a_floor_back_leaves_the_balance(world: World) -> None:
    world.do(SetFloor("a", -50))
    world.do(Withdraw("a", 60))
    world.do(Rollback(2))
    assert (world.balance("a"), floor_of(world, "a")) == (40, 0)
    world.do(Rollback(4))
    assert (world.balance("a"), floor_of(world, "a")) == (40, -50)
    world.do(Withdraw("a", 60))
    for force in (False, True):
        with pytest.raises(InsufficientFunds):
            world.do(Rollback(2, force=force))


def test_floors_are_rolled_back_newest_first(world: World) -> None:
    world.do(SetFloor("a", -50))
    world.do(SetFloor("a", -70))
    with pytest.raises(StateError) as caught:
        world.do(Rollback(2))
    assert caught.value.details["conflicts"] == [3]
    world.do(Rollback(3))
    assert floor_of(world, "a") == -50
    world.do(Rollback(2))
    assert floor_of(world, "a") == 0


@pytest.mark.parametrize(
    "ops",
    [
        (SetFloor("a", -50), Withdraw("a", 150)),
        (Transfer("a", "b", 100), Transfer("b", "c", 100), Withdraw("c", 100)),
        (Transfer("a", "b", 60), SetFloor("b", -10), Transfer("b", "a", 70)),
        (Withdraw("a", 40), Deposit("a", 40), SetFloor("a", -5), SetFloor("a", -6)),
    ],
    ids=range(4),
)
def test_a_transaction_and_its_way_back_and_forth(world: World, ops: tuple) -> None:
    world.do(*ops)
    there = {n: (r.balance, r.floor) for n, r in accounts(world).items()}
    world.do(Rollback(2))
    assert {n: (r.balance, r.floor) for n, r in accounts(world).items() if r.balance} == {
        "a": (100, 0)
    }
    assert all(row.floor == 0 for row in accounts(world).values())
    world.do(Rollback(3))
    assert {n: (r.balance, r.floor) for n, r in accounts(world).items()} == there
    assert audit(world.view)[1] == []


def test_a_loan_that_was_paid_back_can_be_rolled_back_with_its_floor(world: World) -> None:
    world.do(SetFloor("a", -50), Withdraw("a", 120))
    world.do(Deposit("a", 20), SetFloor("a", 0))
    world.do(Rollback(3))
    assert (world.balance("a"), floor_of(world, "a")) == (-20, -50)


def accounts(world: World) -> dict[str, Account]:
    found = {name: world.row(Account, Table.ACCOUNT, name) for name in "abc"}
    return {name: row for name, row in found.items() if row is not None}
