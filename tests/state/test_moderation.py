"""Bans: scopes, ends by log time, history."""

from __future__ import annotations

import pytest

from shard_node.state.errors import NotThere
from shard_node.state.moderation import BanUser, UnbanUser, bans, history, is_banned
from tests.support.state import START_MS, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_ban_in_one_guild_and_one_everywhere(world: World) -> None:
    world.do(BanUser(7, 100, "spam"), user=5)
    assert is_banned(world.view, 7, 200, START_MS) is None
    ban = is_banned(world.view, 7, 100, START_MS)
    assert ban is not None
    assert (ban.reason, ban.by, ban.since_ms, ban.until_ms) == ("spam", 5, START_MS, 0)
    assert is_banned(world.view, 7, 0, START_MS) is None
    world.do(BanUser(7, "global", "worse"))
    for guild in (0, 100, 200):
        found = is_banned(world.view, 7, guild, START_MS)
        assert found is not None
        assert found.reason == "worse"
    assert is_banned(world.view, 8, 100, START_MS) is None
    assert sorted(str(scope) for scope, _ in bans(world.view, 7, START_MS)) == ["100", "global"]


def test_a_ban_ends_by_log_time(world: World) -> None:
    end = START_MS + 1000
    world.do(BanUser(7, "global", "spam", end))
    assert is_banned(world.view, 7, 1, end - 1)
    assert is_banned(world.view, 7, 1, end) is None
    assert list(bans(world.view, 7, end)) == []
    world.now_ms = end
    with pytest.raises(NotThere):
        world.do(UnbanUser(7, "global"))


def test_a_ban_that_stands_is_replaced_and_lifted(world: World) -> None:
    world.do(BanUser(7, "global", "spam", START_MS + 10))
    assert world.result(BanUser(7, "global", "for ever")) == {"version": 2}
    ban = is_banned(world.view, 7, 0, START_MS + 10)
    assert ban is not None
    assert ban.reason == "for ever"
    world.do(UnbanUser(7, "global", "appeal"))
    assert is_banned(world.view, 7, 0, START_MS) is None
    assert list(history(world.view, "user:7")) == [1, 2, 3]
    assert list(history(world.view, "user:70")) == []
