"""Rollbacks: of rows and of money, of rollbacks, in their order, and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from shard_node.state import rollback
from shard_node.state.audit import audit
from shard_node.state.cooldowns import AcquireCooldown, Cooldown
from shard_node.state.economy import Deposit, SetFloor, Transfer, Withdraw
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import (
    AlreadyUndone,
    InsufficientFunds,
    NotUndoable,
    Throttled,
    UndoConflict,
    UnknownTransaction,
)
from shard_node.state.guild_config import UpdateConfig
from shard_node.state.keys import Table
from shard_node.state.log import erased
from shard_node.state.moderation import BanUser, UnbanUser, history
from shard_node.state.rollback import Rollback
from shard_node.state.rows import Row
from shard_node.state.values import DeleteValue, SetValue, Value
from tests.support.state import World


@pytest.fixture
def world() -> World:
    return World()


def value(world: World, name: str = "v") -> Any:
    row = world.row(Value, Table.VALUE, name)
    return None if row is None else row.value


def undo(world: World, tx: int, *, force: bool = False) -> Any:
    return world.result(Rollback(tx, force=force))


def test_a_rollback_of_a_rollback_is_a_redo_and_so_on(world: World) -> None:
    world.do(Deposit("a", 10), SetValue("v", 1))
    world.do(Transfer("a", "b", 4), SetValue("v", 2))
    for last in range(2, 12):
        undo(world, last)
        undone = last % 2 == 0
        assert (world.balance("a"), value(world)) == ((10, 1) if undone else (6, 2))
        for tx in range(2, last + 1):
            with pytest.raises(AlreadyUndone if tx % 2 == last % 2 or tx == last else Exception):
                undo(world, tx) if tx % 2 == last % 2 else undo(world, last)
    assert audit(world.view)[1] == []


def test_after_a_redo_the_first_one_can_be_rolled_back_itself(world: World) -> None:
    world.do(Deposit("a", 10))
    world.do(Transfer("a", "b", 4), SetValue("v", 2))  # 2
    undo(world, 2)  # 3
    undo(world, 3)  # 4
    undo(world, 2)  # 5
    assert (world.balance("a"), value(world)) == (10, None)
    for tx, by in ((2, 5), (3, 4), (4, 5)):  # 4, a redo, was taken back by 5
        with pytest.raises(AlreadyUndone) as caught:
            undo(world, tx, force=True)
        assert caught.value.details["by"] == by
    undo(world, 5)  # 6
    assert (world.balance("a"), value(world)) == (6, 2)
    undo(world, 4)  # the redo itself: 2 is undone again
    assert (world.balance("a"), value(world)) == (10, None)
    with pytest.raises(AlreadyUndone):
        undo(world, 2)


def test_what_came_later_goes_first_one_after_the_other(world: World) -> None:
    for number in range(1, 6):
        world.do(SetValue("v", number))
    with pytest.raises(UndoConflict) as caught:
        undo(world, 3)
    assert caught.value.details == {"tx": 3, "conflicts": [4, 5], "all": True}
    for tx in (5, 4, 3):
        undo(world, tx)
        assert value(world) == tx - 1
    row = world.row(Value, Table.VALUE, "v")
    assert row is not None
    assert (row.version, row.lsn, row.origin) == (8, 8, 2)
    for tx in (8, 7, 6):
        undo(world, tx)
    assert value(world) == 5
    undo(world, 5)
    assert value(world) == 4


def test_newest_first_within_one_transaction_too(world: World) -> None:
    for number in range(1, 4):
        world.do(SetValue("v", number))
    world.do(Rollback(3), Rollback(2), Rollback(1))
    assert value(world) is None
    undo(world, 4)
    assert value(world) == 3
    undo(world, 3)
    assert value(world) == 2


def test_deletions_and_creations_are_undone(world: World) -> None:
    world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))
    undo(world, 2)
    assert value(world) == 1
    undo(world, 3)
    assert value(world) is None
    undo(world, 2 + 2)
    undo(world, 1)
    assert value(world) is None
    undo(world, 6)
    assert value(world) == 1


def test_a_deleted_row_that_was_made_anew_and_deleted_again_is_newer(world: World) -> None:
    world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))  # 2
    world.do(SetValue("v", 3))
    world.do(DeleteValue("v"))  # 4
    for tx, newer in ((1, [2, 3, 4]), (2, [3, 4]), (3, [4])):
        with pytest.raises(UndoConflict) as caught:
            undo(world, tx)
        assert caught.value.details["conflicts"] == newer
    for tx, now in ((4, 3), (3, None), (2, 1), (1, None)):
        undo(world, tx)
        assert value(world) == now


def test_force_overwrites_and_says_so(world: World) -> None:
    world.do(SetValue("v", 1))
    world.do(SetValue("v", 2), SetValue("w", 2))
    world.do(SetValue("v", 3))
    world.do(DeleteValue("w"))
    with pytest.raises(UndoConflict) as caught:
        undo(world, 2)
    assert caught.value.details["conflicts"] == [3, 4]
    assert undo(world, 2, force=True) == {"undone": 2, "overwrote": [3, 4]}
    assert (value(world), value(world, "w")) == (1, None)
    undo(world, 5)
    assert (value(world), value(world, "w")) == (3, None)


def test_money_is_given_back_whatever_came_later(world: World) -> None:
    world.do(Deposit("a", 100))
    world.do(Transfer("a", "b", 60))
    world.do(Transfer("b", "c", 10))
    world.do(Deposit("b", 30))
    undo(world, 2)
    assert [world.balance(name) for name in "abc"] == [100, 20, 10]


def test_money_that_was_spent_cannot_be_given_back(world: World) -> None:
    world.do(Deposit("a", 100))
    world.do(Transfer("a", "b", 60))
    world.do(Withdraw("b", 1))
    for force in (False, True):
        with pytest.raises(InsufficientFunds) as caught:
            undo(world, 2, force=force)
        assert caught.value.details["account"] == "b"
    world.do(Deposit("b", 1))
    undo(world, 2)
    assert world.balance("b") == 0
    assert audit(world.view)[1] == []


def test_the_net_is_what_counts(world: World) -> None:
    world.do(Deposit("a", 100))
    world.do(Transfer("a", "b", 100), Transfer("b", "c", 100), Transfer("c", "a", 30))
    undo(world, 2)
    assert [world.balance(name) for name in "abc"] == [100, 0, 0]
    world.do(Transfer("a", "b", 5), Transfer("b", "a", 5))
    with pytest.raises(NotUndoable):  # nothing came of it
        undo(world, 4)


def test_several_changes_of_one_row_are_undone_to_what_was_before_the_first(world: World) -> None:
    world.do(UpdateConfig(1, fields={"a": 1}))
    world.do(
        UpdateConfig(1, fields={"a": 2, "b": 2}), UpdateConfig(1, fields={"c": 3}, remove=("a",))
    )
    undo(world, 2)
    row = world.view.get(next(key for key in world.view.rows if key[1] == Table.CONFIG))
    assert row is not None
    assert b"\x81\xa1a\x01" in row


def test_a_row_that_was_made_and_deleted_at_once_is_nothing(world: World) -> None:
    world.do(SetValue("v", 1), DeleteValue("v"), SetValue("w", 1))
    undo(world, 1)
    assert (value(world), value(world, "w")) == (None, None)
    world.do(SetValue("x", 1))
    world.do(DeleteValue("x"))  # 4
    world.do(SetValue("x", 2), DeleteValue("x"))  # 5
    with pytest.raises(UndoConflict) as caught:
        undo(world, 4)
    assert caught.value.details["conflicts"] == [5]
    undo(world, 5)
    undo(world, 4)
    assert value(world, "x") == 1


def test_a_use_of_a_cooldown_is_not_given_back(world: World) -> None:
    world.do(AcquireCooldown("daily", 1, 90_000), Deposit("a", 5))
    undo(world, 1)
    assert world.balance("a") == 0
    assert world.row(Cooldown, Table.COOLDOWN, "daily") is not None
    with pytest.raises(Throttled):
        world.do(AcquireCooldown("daily", 1, 90_000), Deposit("a", 5))


def test_bans_come_and_go_with_their_history(world: World) -> None:
    world.do(BanUser(7, "global", "spam"))
    world.do(UnbanUser(7, "global"))
    undo(world, 2)
    undo(world, 3)
    assert list(history(world.view, "user:7")) == [1, 2, 3, 4]


def test_an_erased_payload_cannot_be_rolled_back(world: World) -> None:
    world.do(SetValue("v", 1))
    world.entries[1] = erased(world.entries[1])
    with pytest.raises(NotUndoable):
        undo(world, 1, force=True)


def test_a_trimmed_record_cannot_be_rolled_back(world: World) -> None:
    world.do(SetValue("v", 1))
    world.do(SetValue("v", 2))
    del world.entries[1]
    with pytest.raises(UnknownTransaction):
        undo(world, 1)
    undo(world, 2)
    assert value(world) == 1


def test_a_record_says_what_it_undoes(world: World) -> None:
    world.do(SetValue("v", 1))
    undo(world, 1)
    assert [entry.payload().undoes for entry in world.log()] == [0, 1]


def test_versions_only_grow(world: World) -> None:
    seen = 0
    world.do(SetValue("v", 1))
    world.do(DeleteValue("v"))
    for tx in (2, 3, 4, 5, 6):
        undo(world, tx)
        row = world.row(Row, Table.VALUE, "v")
        if row is not None:
            assert row.version > seen
            seen = row.version


def test_what_was_rolled_back_since_is_no_conflict(world: World) -> None:
    for number in range(1, 5):
        world.do(SetValue("v", number))
    undo(world, 4)
    undo(world, 3)
    world.do(SetValue("v", 9))  # 7
    with pytest.raises(UndoConflict) as caught:
        undo(world, 1)
    assert caught.value.details["conflicts"] == [2, 7]
    undo(world, 7)
    undo(world, 2)
    undo(world, 1)
    assert value(world) is None


def test_limits_of_accounts_are_followed_back_as_well(world: World) -> None:
    world.do(Deposit("a", 10))
    for floor in (-1, -2, -3):
        world.do(SetFloor("a", floor))
    with pytest.raises(UndoConflict) as caught:
        undo(world, 2)
    assert caught.value.details["conflicts"] == [3, 4]


@pytest.mark.parametrize("hindered", ["trimmed", "erased", "far"])
def test_where_the_log_does_not_tell_all_conflicts_it_is_said(world: World, hindered: str) -> None:
    count = 150 if hindered == "far" else 6
    for number in range(count):
        world.do(SetValue("v", number))
    if hindered == "trimmed":
        del world.entries[4]
    elif hindered == "erased":
        world.entries[4] = erased(world.entries[4])
    with pytest.raises(UndoConflict, match="followed by at least ") as caught:
        undo(world, 1)
    details = caught.value.details
    assert details["all"] is False
    assert details["conflicts"] == (
        list(range(count - rollback.CONFLICTS_READ_MAX, count + 1))
        if hindered == "far"
        else [4, 5, 6]
    )


HIS = {
    "value": (SetValue("user:1:secret", "his"), lambda: DeleteValue("user:1:secret")),
    "text": (SetValue("motto", "as 1 said"), lambda: SetValue("motto", "none")),
    "list": (SetValue("team", {"all": [1, 2]}), lambda: SetValue("team", 0)),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", sorted(HIS))
def test_nothing_of_a_forgotten_person_comes_back(world: World, kind: str, force: bool) -> None:
    made, gone = HIS[kind]
    world.do(made)
    world.do(gone())
    world.do(ForgetUser(1))
    before = dict(world.view.rows)
    with pytest.raises(NotUndoable, match="is erased"):
        undo(world, 2, force=force)
    assert world.view.rows == before


def test_a_rollback_of_a_rollback_does_not_bring_a_forgotten_person_back(world: World) -> None:
    world.do(SetValue("user:1:secret", "his"), SetValue("user:11:x", 5))
    undo(world, 1)
    world.do(ForgetUser(1))
    with pytest.raises(NotUndoable, match="is erased"):
        undo(world, 2)
    assert value(world, "user:1:secret") is None


def test_an_account_made_anew_after_its_owner_was_forgotten_is_not_rolled_back(
    world: World,
) -> None:
    world.do(Deposit("user:1", 10))
    world.do(ForgetUser(1))
    world.do(Deposit("user:1", 3))
    with pytest.raises(NotUndoable):
        undo(world, 1)
    undo(world, 3)  # what came after he was forgotten is as any other
    assert world.balance("user:1") == 0


def test_others_are_rolled_back_where_somebody_was_forgotten(world: World) -> None:
    world.do(SetValue("user:11:x", 5))
    world.do(DeleteValue("user:11:x"))
    world.do(ForgetUser(1))
    undo(world, 2)
    assert value(world, "user:11:x") == 5
