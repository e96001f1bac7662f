"""Rows that go with trimmed records, and what ``apply`` gives without them."""

from __future__ import annotations

from shard_node.state.economy import RECENT_MAX, Deposit, history
from shard_node.state.keys import Table
from shard_node.state.moderation import BanUser
from shard_node.state.moderation import history as bans_of
from shard_node.state.rollback import Rollback
from shard_node.state.sweeping import outlived
from shard_node.state.values import SetValue
from tests.support.state import World


def test_what_tells_only_of_older_records_goes_with_them() -> None:
    world = World()
    for _ in range(5):
        world.do(BanUser(7, "global", "why"))
    world.do(SetValue("v", 1))
    for tx in (6, 7, 8):
        world.do(Rollback(tx))
    for first, tables in ((9, {Table.HISTORY}), (10, {Table.UNDONE})):
        gone = {key: None for key, row in world.view.rows.items() if outlived(key, row, first)}
        assert {Table(key[1]) for key in gone} == tables
        if first == 9:
            world.view.write(gone)
    assert list(bans_of(world.view, "user:7")) == []
    for lsn in range(1, 9):
        del world.entries[lsn]
    world.do(Rollback(9))
    assert world.place.lsn == 10


def test_a_row_of_an_accounts_history_goes_with_the_last_of_its_records() -> None:
    world = World()
    for _ in range(2 * RECENT_MAX + 1):
        world.do(Deposit("a", 1))
    rows = [(key, row) for key, row in world.view.rows.items() if key[1] == Table.HISTORY]
    assert len(rows) == 2
    for first, gone in ((RECENT_MAX, 0), (RECENT_MAX + 1, 1), (2 * RECENT_MAX + 1, 2)):
        assert sum(outlived(key, row, first) for key, row in rows) == gone
    world.view.write({key: None for key, row in rows if outlived(key, row, RECENT_MAX + 1)})
    assert list(history(world.view, "a")) == list(range(RECENT_MAX + 1, 2 * RECENT_MAX + 2))
