"""Each refusal is raised somewhere, is its own, tells what to do, and leaves nothing written."""

from __future__ import annotations

from typing import Any

import pytest

from shard_node.state import errors
from shard_node.state.cooldowns import AcquireCooldown, ClearCooldown
from shard_node.state.economy import AMOUNT_MAX, Deposit, SetFloor, Transfer, Withdraw
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import BY_CODE, StateError, from_code
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.moderation import BanUser, UnbanUser
from shard_node.state.premium import GrantPremium, RevokePremium
from shard_node.state.rollback import Rollback
from shard_node.state.users import UpdateUser
from shard_node.state.values import DeleteValue, SetValue
from tests.support.state import START_MS, World

DEEP: Any = "x"
for _ in range(40):
    DEEP = [DEEP]

REFUSED: list[tuple[str, Any]] = [
    ("BadName", SetValue("", 1)),
    ("BadName", SetValue("x" * 201, 1)),
    ("BadName", UpdateConfig(-1, fields={"a": 1})),
    ("BadName", Deposit("a\0b", 1)),
    ("BadName", Deposit("a" * 193, 1)),
    ("BadName", BanUser(0, "global", "why")),
    ("BadName", BanUser(1, "everywhere", "why")),
    ("BadName", BanUser(1, 0, "why")),
    ("BadName", GrantPremium("role:1", "gold")),
    ("BadName", GrantPremium("user:01", "gold")),
    ("BadName", GrantPremium("user:", "gold")),
    ("BadName", GrantPremium(f"user:{1 << 64}", "gold")),
    ("BadName", ForgetUser(0)),
    ("BadName", AcquireCooldown("", 1, 1)),
    ("BadValue", SetValue("a", float("nan"))),
    ("BadValue", SetValue("a", float("inf"))),
    ("BadValue", SetValue("a", {1: 2})),
    ("BadValue", SetValue("a", DEEP)),
    ("BadValue", SetValue("a", 1 << 64)),
    ("BadValue", SetValue("a", object())),
    ("BadValue", UpdateConfig(1)),
    ("BadValue", UpdateConfig(1, fields={"a": 1}, remove=("a",))),
    ("BadValue", UpdateConfig(1, fields={"": 1})),
    ("BadValue", UpdateConfig(1, fields={str(n): n for n in range(257)})),
    ("BadValue", UpdateConfig("1", fields={"a": 1})),  # type: ignore[arg-type]
    ("BadValue", BanUser(1, "global", "why", START_MS)),
    ("BadValue", GrantPremium("user:1", "gold", START_MS)),
    ("BadValue", GrantPremium("user:1", "gold", START_MS + 1, for_ms=1)),
    ("BadValue", GrantPremium("user:1", "gold", for_ms=-1)),
    ("BadValue", GrantPremium("user:1", "")),
    ("BadValue", GrantPremium("user:1", "gold", source="x" * 65)),
    ("BadValue", AcquireCooldown("k", 0, 1)),
    ("BadValue", AcquireCooldown("k", 1, 0)),
    ("BadAmount", Deposit("rich", 0)),
    ("BadAmount", Deposit("rich", -1)),
    ("BadAmount", Deposit("rich", True)),
    ("BadAmount", Deposit("rich", 1.0)),  # type: ignore[arg-type]
    ("BadAmount", Deposit("rich", "1")),  # type: ignore[arg-type]
    ("BadAmount", Deposit("rich", AMOUNT_MAX)),
    ("BadAmount", Deposit("poor", AMOUNT_MAX)),  # the source's total
    ("BadAmount", Transfer("rich", "poor", AMOUNT_MAX + 1)),
    ("BadAmount", Withdraw("rich", 1 << 64)),
    ("BadAmount", SetFloor("rich", 1)),
    ("BadAmount", SetFloor("rich", -AMOUNT_MAX - 1)),
    ("SelfTransfer", Transfer("rich", "rich", 1)),
    ("UnknownAccount", Transfer("nobody", "rich", 1)),
    ("UnknownAccount", Withdraw("nobody", 1)),
    ("UnknownAccount", SetFloor("nobody", 0)),
    ("InsufficientFunds", Transfer("rich", "poor", 101)),
    ("InsufficientFunds", Withdraw("rich", 101)),
    ("VersionConflict", SetValue("there", 2, if_version=0)),
    ("VersionConflict", SetValue("there", 2, if_version=2)),
    ("VersionConflict", SetValue("new", 2, if_version=1)),
    ("VersionConflict", DeleteValue("there", if_version=2)),
    ("VersionConflict", UpdateConfig(1, fields={"a": 1}, if_version=1)),
    ("NotThere", DeleteValue("new")),
    ("NotThere", DeleteConfig(1)),
    ("NotThere", UnbanUser(1, "global")),
    ("NotThere", RevokePremium("user:1")),
    ("NotThere", RevokePremium("user:2", "silver")),
    ("NotThere", ClearCooldown("k")),
    ("ReasonRequired", BanUser(1, "global", "")),
    ("ReasonRequired", BanUser(1, "global", " \n")),
    ("ReasonRequired", BanUser(1, "global", "x" * 513)),
    ("UnknownTransaction", Rollback(0)),
    ("UnknownTransaction", Rollback(-1)),
    ("UnknownTransaction", Rollback(999)),
    ("AlreadyUndone", Rollback(5)),
    ("NotUndoable", Rollback(7)),
    ("UndoConflict", Rollback(2)),
    ("TooLarge", SetValue("a", "x" * 70_000)),
    ("TooLarge", SetValue("a", "x" * 600_000)),
    ("Throttled", AcquireCooldown("slow", 1, 90_000)),
]
OTHERWISE = {"OpIdReused", "StateError", "StoreDamaged", "StoreFailed", "StoreFull"}


@pytest.fixture
def world() -> World:
    world = World()
    world.do(Deposit("rich", 100))  # 1
    world.do(SetValue("twice", 1))  # 2
    world.do(SetValue("twice", 2))  # 3
    world.do(SetValue("there", 1))  # 4
    world.do(UpdateUser(9, fields={"a": 1}))  # 5
    world.do(Rollback(5))  # 6
    world.do(AcquireCooldown("slow", 1, 90_000))  # 7
    world.do(GrantPremium("user:2", "gold"))  # 8
    return world


@pytest.mark.parametrize(
    ("kind", "op"), REFUSED, ids=lambda value: str(value).split(" object at ")[0][:60]
)
def test_a_refusal_is_its_own_and_leaves_nothing(world: World, kind: str, op: Any) -> None:
    rows, place = dict(world.view.rows), world.place
    for ops in ((op,), (SetValue("first", 1), Deposit("poor", 5), op)):
        with pytest.raises(StateError) as caught:
            world.do(*ops)
        assert type(caught.value).__name__ == kind
        assert (world.view.rows, world.place) == (rows, place)


def test_every_refusal_happens() -> None:
    assert {kind for kind, _ in REFUSED} | OTHERWISE == {k.__name__ for k in BY_CODE.values()}


def test_every_refusal_has_a_code_of_its_own_and_travels_by_it() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    own = [kind for kind in kinds if issubclass(kind, StateError)]
    assert len({kind.code for kind in own}) == len(own)
    for code, kind in BY_CODE.items():
        error = from_code(code, "text", "", {"a": 1})
        assert (type(error), str(error), error.details) == (kind, "text", {"a": 1})
        assert from_code(code, "text", "do this", {}).hint == "do this"
    assert type(from_code("E_NEW", "text", "", {})) is StateError


def test_every_refusal_says_what_to_do() -> None:
    for kind in BY_CODE.values():
        assert kind("why").hint, kind.__name__
        assert from_code(kind.code, "why", "", {}).hint == kind.hint


def test_versions_and_amounts_are_in_the_details(world: World) -> None:
    with pytest.raises(errors.VersionConflict) as conflict:
        world.do(SetValue("there", 2, if_version=7))
    assert conflict.value.details == {"found": 1, "expected": 7}
    with pytest.raises(errors.InsufficientFunds) as short:
        world.do(Withdraw("rich", 101))
    assert short.value.details == {"account": "rich", "balance": 100, "amount": 101, "floor": 0}
    with pytest.raises(errors.UndoConflict) as newer:
        world.do(Rollback(2))
    assert newer.value.details == {"tx": 2, "conflicts": [3], "all": True}
    with pytest.raises(errors.AlreadyUndone) as undone:
        world.do(Rollback(5))
    assert undone.value.details == {"tx": 5, "by": 6}


@pytest.mark.parametrize("reason", ["", "  ", "x" * 513])
def test_a_rollback_needs_a_reason(world: World, reason: str) -> None:
    with pytest.raises(errors.ReasonRequired):
        world.do(Rollback(1), reason=reason)
