"""Short cooldowns in memory: like those in the log, bounded, kept by checkpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.state.buckets import Buckets
from shard_node.state.cooldowns import AcquireCooldown
from shard_node.state.errors import BadName, BadValue, Throttled
from tests.support.state import World

uses = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(1, 3), st.sampled_from([5, 10, 50]), st.integers(0, 9)
    ),
    max_size=60,
)


@given(uses, st.integers(0, 60))
def test_they_do_as_those_in_the_log_and_a_checkpoint_changes_nothing(
    steps: list, stop: int
) -> None:
    world, buckets = World(), Buckets()
    for place, (key, rate, per_ms, wait) in enumerate(steps):
        world.now_ms += wait
        if place == stop:
            saved, buckets = buckets.checkpoint(world.now_ms), Buckets()
            buckets.restore([list(one) for one in saved], world.now_ms)
        mine = buckets.acquire(key, rate, per_ms, world.now_ms)
        try:
            theirs = (0, world.result(AcquireCooldown(key, rate, per_ms))["remaining"])
        except Throttled as error:
            theirs = (error.details["retry_after_ms"], 0)
        if len({s[1:3] for s in steps if s[0] == key}) == 1:  # its rate did not change meanwhile
            assert mine == theirs


def test_memory_is_bounded_and_what_ends_first_goes() -> None:
    buckets = Buckets(100)
    for number in range(1000):
        buckets.acquire(f"k{number}", 1, 1000, number)
    assert len(buckets) == 100
    assert buckets.evicted == 900
    assert buckets.acquire("k999", 1, 1000, 999) == (1000, 0)
    assert buckets.acquire("k0", 1, 1000, 999) == (0, 0)


def test_what_is_over_goes_by_itself_and_is_no_eviction() -> None:
    buckets = Buckets(1000)
    for number in range(500):
        buckets.acquire(f"k{number}", 1, 10, 0)
    for number in range(4):
        buckets.acquire("x", 9, 1000, 10 + number)
    assert len(buckets) == 1
    assert buckets.evicted == 0


def test_clearing_and_taking_again_and_again_keeps_no_memory() -> None:
    buckets = Buckets(1000)
    for now in range(5000):
        assert buckets.acquire("k", 1, 60_000, now) == (0, 0)
        assert buckets.clear("k")
    assert not buckets.clear("k")
    assert len(buckets._ends) < 200


def test_show_and_forget() -> None:
    buckets = Buckets()
    for key in ("b:7", "a:7", "a:8"):
        buckets.acquire(key, 2, 50, 100)
    buckets.acquire("a:9", 2, 10, 100)
    assert list(buckets.show("a:", 110)) == [("a:7", 100, 150, 1), ("a:8", 100, 150, 1)]
    assert buckets.forget(lambda key: key.endswith(":7")) == 2
    assert [one[0] for one in buckets.checkpoint(100)] == ["a:8", "a:9"]


@pytest.mark.parametrize(
    "saved",
    [1, "k", [], ["k", 1, 2], ["k", 1, 2, 0], ["k", 2, 1, 1], ["", 1, 2, 1], ["k", 1.0, 2, 1],
     [1, 1, 2, 1], ["k", True, 2, 1]],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_that_is_none_is_refused(saved: object) -> None:
    with pytest.raises(BadValue):
        Buckets().restore([saved], 0)


def test_keys_and_rates_that_are_none_are_refused() -> None:
    with pytest.raises(BadName):
        Buckets().acquire("x" * 201, 1, 1, 0)
    for rate, per_ms in ((0, 1), (1, 0), (True, 1), (1, 1.5)):
        with pytest.raises(BadValue):
            Buckets().acquire("k", rate, per_ms, 0)  # type: ignore[arg-type]
