from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shard_node.sandbox.snowflake import (
    EPOCH_MS,
    INCREMENT_MAX,
    Snowflakes,
    mix,
    shard_of,
    snowflake,
)


def test_shard_is_discords_formula() -> None:
    assert shard_of(197038439483310086, 4) == (197038439483310086 >> 22) % 4


def test_identifiers_grow_while_the_clock_stands_still() -> None:
    flakes = Snowflakes(lambda: EPOCH_MS + 1_000)
    made = [flakes.next() for _ in range(3 * INCREMENT_MAX)]
    assert made == sorted(set(made))


def test_identifiers_grow_when_the_clock_steps_back() -> None:
    ticks = iter([EPOCH_MS + 50, EPOCH_MS + 20, EPOCH_MS + 60])
    flakes = Snowflakes(lambda: next(ticks))
    made = [flakes.next() for _ in range(3)]
    assert made == sorted(set(made))
    assert made[2] >> 22 == 60


@given(st.integers(0, 2**41 - 1), st.integers(0, 2**64))
def test_time_survives_any_low_bits(ms: int, low: int) -> None:
    assert snowflake(ms, low) >> 22 == ms


@given(st.lists(st.integers(0, 2**64), min_size=1, max_size=4))
def test_mix_is_deterministic_and_bounded(parts: list[int]) -> None:
    assert mix(*parts) == mix(*parts)
    assert 0 <= mix(*parts) < 2**64


def test_mix_spreads() -> None:
    counts = Counter(mix(7, number) % 10 for number in range(10_000))
    assert min(counts.values()) > 900
