"""Records of fields: guild configurations, members, permissions, users."""

from __future__ import annotations

from typing import Any

import pytest

from shard_node.state.errors import NotThere, VersionConflict
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.keys import Table
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.permissions import DeletePermission, UpdatePermission
from shard_node.state.records import Record
from shard_node.state.users import DeleteUser, UpdateUser
from tests.support.state import World

KINDS: list[tuple[Table, Any, Any, tuple[int, ...]]] = [
    (Table.CONFIG, UpdateConfig, DeleteConfig, (5,)),
    (Table.MEMBER, UpdateMember, DeleteMember, (5, 6)),
    (Table.PERMISSION, UpdatePermission, DeletePermission, (5, 6)),
    (Table.USER, UpdateUser, DeleteUser, (6,)),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind[0].name)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def world() -> World:
    return World()


def fields(world: World, kind: Any) -> Any:
    row = world.row(Record, kind[0], *kind[3])
    return None if row is None else (row.version, row.fields)


def test_fields_are_set_kept_and_removed(world: World, kind: Any) -> None:
    _, update, delete, name = kind
    assert world.result(update(*name, fields={"a": 1, "b": [2]})) == {"version": 1}
    assert world.result(update(*name, fields={"b": 3}, remove=("a", "never"))) == {"version": 2}
    assert fields(world, kind) == (2, {"b": 3})
    assert world.result(delete(*name)) == {"version": 0}
    assert fields(world, kind) is None
    with pytest.raises(NotThere):
        world.do(delete(*name))


def test_versions_guard(world: World, kind: Any) -> None:
    _, update, delete, name = kind
    world.do(update(*name, fields={"a": 1}, if_version=0))
    for wrong in (0, 2):
        with pytest.raises(VersionConflict):
            world.do(update(*name, fields={"a": 2}, if_version=wrong))
        with pytest.raises(VersionConflict):
            world.do(delete(*name, if_version=wrong))
    world.do(update(*name, fields={"a": 2}, if_version=1))
    world.do(delete(*name, if_version=2))


def test_an_update_that_changes_nothing_is_none(world: World, kind: Any) -> None:
    _, update, _, name = kind
    assert world.result(update(*name, remove=("a",))) == {"version": 0}
    assert fields(world, kind) is None
    world.do(update(*name, fields={"a": 1}))
    assert world.result(update(*name, fields={"a": 1}, remove=("b",))) == {"version": 1}
    assert world.result(update(*name, fields={"a": True})) == {"version": 2}
    assert world.result(update(*name, fields={"a": 1.0})) == {"version": 3}


def test_a_record_may_become_empty_and_is_still_there(world: World, kind: Any) -> None:
    _, update, _, name = kind
    world.do(update(*name, fields={"a": 1}))
    world.do(update(*name, remove=("a",)))
    assert fields(world, kind) == (2, {})
