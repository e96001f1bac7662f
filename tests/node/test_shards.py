"""States of the shards: when ready, when lost, what the heartbeat says."""

from __future__ import annotations

from shard_node.shards import ShardTable
from shard_node.wire.bodies import ShardReady, ShardReport, ShardState

S = ShardState


def guild(shard: int, number: int, num_shards: int = 2) -> int:
    return ((number * num_shards + shard) << 22) + 1


def table() -> ShardTable:
    return ShardTable([0, 1], 2, quiet_s=2.0)


def identified(t: ShardTable, shard: int) -> None:
    t.permitted(shard)
    assert t.state(shard) is S.IDENTIFYING


def test_a_shard_is_ready_when_its_last_guild_came() -> None:
    t = table()
    identified(t, 1)
    ids = [guild(1, n) for n in range(3)]
    assert t.ready_received(1, ids, 0.0) == []
    assert t.guild_arrived(ids[0], 0.1) == []
    assert t.guild_arrived(guild(0, 9), 0.1) == []  # another shard's
    assert t.guild_arrived(ids[1], 0.2) == []
    assert t.guild_arrived(ids[2], 0.3) == [ShardReady(1, 2, 0)]
    assert t.state(1) is S.READY
    assert t.next_deadline() is None


def test_a_shard_without_guilds_is_ready_at_once() -> None:
    t = table()
    identified(t, 0)
    assert t.ready_received(0, [], 0.0) == [ShardReady(0, 2, 0)]


def test_guilds_in_an_outage_are_not_waited_for_for_ever() -> None:
    t = table()
    identified(t, 0)
    ids = [guild(0, n) for n in range(2)]
    t.ready_received(0, ids, 0.0)
    t.guild_arrived(ids[0], 1.5)
    assert t.next_deadline() == 3.5
    assert t.tick(3.4) == []
    assert t.tick(3.5) == [ShardReady(0, 2, 0)]
    assert t.tick(9.9) == []


def test_a_resume_is_ready_again() -> None:
    t = table()
    identified(t, 0)
    t.ready_received(0, [], 0.0)
    t.disconnected(0, resumable=True)
    assert t.state(0) is S.RESUMING
    assert t.resumed(0) == [ShardReady(0, 2, 0, resumed=True)]


def test_a_session_that_is_gone_queues_again() -> None:
    t = table()
    identified(t, 0)
    t.ready_received(0, [guild(0, 1)], 0.0)
    t.disconnected(0, resumable=False)
    assert t.state(0) is S.QUEUED
    assert t.next_deadline() is None  # the guilds of the lost session are nobody's


def test_a_draining_shard_stays_draining() -> None:
    t = table()
    identified(t, 0)
    t.drain()
    for event in (lambda: t.disconnected(0, resumable=True), lambda: t.closed(0)):
        event()
        assert t.state(0) is S.DRAINING


def test_an_author_may_close_and_reopen() -> None:
    t = table()
    identified(t, 0)
    t.ready_received(0, [], 0.0)
    t.closed(0)
    assert t.state(0) is S.LOST
    t.disconnected(0, resumable=True)
    assert t.state(0) is S.RESUMING


def test_reports_fill_what_is_unknown() -> None:
    t = table()
    assert t.reports({1: 5}, {1: 12.5}, {1: 77}) == (
        ShardReport(0, S.QUEUED),
        ShardReport(1, S.QUEUED, 5, 12.5, 77),
    )
