"""Premium: tiers, their ends by log time, and what extends them."""

from __future__ import annotations

import pytest

from shard_node.state.errors import BadValue, NotThere
from shard_node.state.keys import Table
from shard_node.state.premium import (
    END_MAX_MS,
    TIERS_MAX,
    Grant,
    GrantPremium,
    Premium,
    RevokePremium,
    active,
    is_active,
)
from shard_node.state.rollback import Rollback
from tests.support.state import START_MS, World

DAY_MS = 86_400_000
WHO = "user:7"


@pytest.fixture
def world() -> World:
    return World()


def row(world: World) -> Premium | None:
    return world.row(Premium, Table.PREMIUM, WHO)


def test_a_tier_is_active_until_its_end_and_not_at_it(world: World) -> None:
    end = START_MS + DAY_MS
    assert world.result(GrantPremium(WHO, "gold", end)) == {"until_ms": end}
    assert is_active(row(world), end - 1, "gold")
    assert is_active(row(world), end - 1)
    assert not is_active(row(world), end - 1, "silver")
    assert not is_active(row(world), end)
    assert not is_active(None, 0)


def test_a_grant_moves_the_end_only_ahead(world: World) -> None:
    world.do(GrantPremium(WHO, "gold", START_MS + 5 * DAY_MS))
    late = world.result(GrantPremium(WHO, "gold", START_MS + DAY_MS))
    assert late == {"until_ms": START_MS + 5 * DAY_MS}
    assert world.result(GrantPremium(WHO, "gold", START_MS + 9 * DAY_MS))["until_ms"] == (
        START_MS + 9 * DAY_MS
    )
    assert world.result(GrantPremium(WHO, "gold")) == {"until_ms": 0}
    assert world.result(GrantPremium(WHO, "gold", START_MS + DAY_MS)) == {"until_ms": 0}
    assert is_active(row(world), END_MAX_MS, "gold")


def test_to_shorten_it_is_revoked_and_granted_at_once(world: World) -> None:
    world.do(GrantPremium(WHO, "gold"))
    world.do(RevokePremium(WHO, "gold"), GrantPremium(WHO, "gold", START_MS + 1))
    assert not is_active(row(world), START_MS + 1)
    world.do(Rollback(2))
    assert is_active(row(world), END_MAX_MS)


def test_a_length_is_added_to_what_is_left(world: World) -> None:
    assert world.result(GrantPremium(WHO, "gold", for_ms=10)) == {"until_ms": START_MS + 10}
    assert world.result(GrantPremium(WHO, "gold", for_ms=10)) == {"until_ms": START_MS + 20}
    world.now_ms = START_MS + 20
    assert world.result(GrantPremium(WHO, "gold", for_ms=10)) == {"until_ms": START_MS + 30}
    assert world.result(GrantPremium(WHO, "gold", for_ms=END_MAX_MS)) == {"until_ms": END_MAX_MS}


def test_tiers_stand_beside_each_other_and_end_each_for_itself(world: World) -> None:
    world.do(GrantPremium(WHO, "gold", START_MS + 10, source="sku 1"))
    world.do(GrantPremium(WHO, "silver", START_MS + 20))
    assert list(active(row(world), START_MS)) == ["gold", "silver"]
    assert list(active(row(world), START_MS + 10)) == ["silver"]
    world.now_ms = START_MS + 10
    world.do(GrantPremium(WHO, "bronze"))
    assert row(world).grants == {  # type: ignore[union-attr]
        "silver": Grant(START_MS, START_MS + 20),
        "bronze": Grant(START_MS + 10, 0),
    }
    assert world.result(RevokePremium(WHO)) == {"tiers": ["silver", "bronze"]}
    assert row(world) is None


def test_what_has_ended_cannot_be_revoked(world: World) -> None:
    world.do(GrantPremium(WHO, "gold", START_MS + 10))
    world.now_ms += 10
    with pytest.raises(NotThere):
        world.do(RevokePremium(WHO, "gold"))


def test_an_entitlement_told_twice_changes_nothing(world: World) -> None:
    for _ in range(2):
        world.do(GrantPremium("guild:9", "gold", START_MS + 10, source="entitlement 5"))
    found = world.row(Premium, Table.PREMIUM, "guild:9")
    assert found is not None
    assert found.version == 1


def test_there_is_an_end_to_tiers(world: World) -> None:
    for number in range(TIERS_MAX):
        world.do(GrantPremium(WHO, f"tier {number}"))
    with pytest.raises(BadValue):
        world.do(GrantPremium(WHO, "one more"))
