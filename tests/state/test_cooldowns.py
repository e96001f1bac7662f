"""Cooldowns: as disnake counts, exact to the ms, and gone when they are over."""

from __future__ import annotations

import pytest
from disnake.ext.commands.cooldowns import Cooldown as Disnakes
from hypothesis import given
from hypothesis import strategies as st

from shard_node.state import cooldowns
from shard_node.state.cooldowns import (
    AcquireCooldown,
    ClearCooldown,
    Cooldown,
    acquire,
)
from shard_node.state.errors import NotThere, Throttled
from shard_node.state.keys import Table
from shard_node.state.values import SetValue
from tests.support.state import World


@given(
    st.integers(1, 5),
    st.integers(1, 1000),
    st.lists(st.integers(0, 700), min_size=1, max_size=40),
)
def test_uses_are_counted_as_disnake_counts_them(rate: int, per_ms: int, waits: list[int]) -> None:
    """In whole seconds, so that disnake's floats are exact; and at the very end of a window,
    where disnake still refuses for 0 s, the next one begins."""
    theirs = Disnakes(rate, per_ms)
    start, used, now = 0, 0, 1000
    for wait in waits:
        now += wait
        if used and now == start + per_ms:
            now += 1
        step = acquire(start, used, rate, per_ms, now)
        after_s = theirs.update_rate_limit(float(now))
        assert step.retry_after_ms == (after_s or 0)
        start, used = step.start_ms, step.used


@given(st.integers(1, 5), st.integers(1, 10**9), st.integers(0, 10**13))
def test_after_exactly_the_time_that_it_says_it_is_allowed(rate: int, per: int, now: int) -> None:
    step = acquire(now, rate, rate, per, now)
    assert step.retry_after_ms == per
    assert acquire(now, rate, rate, per, now + per - 1).retry_after_ms == 1
    assert acquire(now, rate, rate, per, now + per) == (now + per, 1, 0)


def test_a_key_is_allowed_so_often_and_then_says_when() -> None:
    world = World()
    op = AcquireCooldown("daily:7", 2, 90_500)
    assert world.result(op) == {"remaining": 1}
    world.now_ms += 500
    assert world.result(op) == {"remaining": 0}
    world.now_ms += 1
    with pytest.raises(Throttled) as caught:
        world.do(op)
    assert caught.value.details == {
        "key": "daily:7",
        "retry_after_s": 89.999,
        "retry_after_ms": 89_999,
    }
    assert caught.value.retryable
    assert world.place.lsn == 2  # a refusal leaves no record
    world.now_ms += 89_999
    assert world.result(op) == {"remaining": 1}


def test_the_clock_going_back_ends_nothing_early() -> None:
    world = World()
    op = AcquireCooldown("k", 1, 90_000)
    world.do(op)
    world.now_ms -= 3 * 3_600_000
    with pytest.raises(Throttled) as caught:
        world.do(op)
    assert caught.value.details["retry_after_ms"] == 90_000


def test_all_or_nothing_with_what_it_guards() -> None:
    world = World()
    op = AcquireCooldown("k", 1, 90_000)
    with pytest.raises(Throttled):
        world.do(op, op)
    world.do(op)


def test_a_key_is_cleared() -> None:
    world = World()
    world.do(AcquireCooldown("k", 1, 90_000))
    world.do(ClearCooldown("k"))
    world.do(AcquireCooldown("k", 1, 90_000))
    world.now_ms += 90_000
    with pytest.raises(NotThere):
        world.do(ClearCooldown("k"))


def test_windows_that_are_over_are_swept_by_and_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooldowns, "SWEEP_EVERY", 4)
    world = World()
    for number in range(6000):
        world.now_ms += 100  # 600 of them run at a time
        world.do(AcquireCooldown(f"key:{number}", 1, 60_001))
        if number % 2:
            world.do(SetValue("between", 1))
    assert sum(key[1] == Table.COOLDOWN for key in world.view.rows) < 3000
    assert world.row(Cooldown, Table.COOLDOWN, "key:5999") is not None
    with pytest.raises(Throttled):
        world.do(AcquireCooldown("key:5500", 1, 60_001))
