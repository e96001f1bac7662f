"""Rows that go with trimmed records, and what ``apply`` gives without them."""

from __future__ import annotations

from shard_node.state.economy import Deposit
from shard_node.state.keys import Table
from shard_node.state.moderation import history
from shard_node.state.rollback import Rollback
from shard_node.state.trimming import outlived
from shard_node.state.values import SetValue
from tests.support.state import World


def test_what_tells_only_of_older_records_goes_with_them() -> None:
    world = World()
    for _ in range(5):
        world.do(Deposit("a", 1))
    world.do(SetValue("v", 1))
    for tx in (6, 7, 8):
        world.do(Rollback(tx))
    for first, tables in ((9, {Table.HISTORY}), (10, {Table.UNDONE})):
        gone = {key: None for key, row in world.view.rows.items() if outlived(key, row, first)}
        assert {Table(key[1]) for key in gone} == tables
        if first == 9:
            world.view.write(gone)
    assert list(history(world.view, "account:a")) == []
    for lsn in range(1, 9):
        del world.entries[lsn]
    world.do(Rollback(9))
    assert world.place.lsn == 10
