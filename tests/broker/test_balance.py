"""Which shards move: busy nodes are relieved, nothing gets worse, nothing goes to and fro."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.balance import (
    GAIN_MIN,
    MOVES_MAX,
    Load,
    Move,
    balanced,
    emptied,
    imbalance,
    shares,
)

NODES = "abcd"


def even(count: int = 8, nodes: str = NODES) -> list[Load]:
    return [
        Load(shard, nodes[shard * len(nodes) // count], 10.0, 0.1, 1e8) for shard in range(count)
    ]


def moved(loads: list[Load], moves: list[Move]) -> list[Load]:
    to = {move.shard: move.target for move in moves}
    return [load._replace(node=to.get(load.shard, load.node)) for load in loads]


def of_nodes(loads: list[Load], nodes: str = NODES) -> dict[str, float]:
    weights = shares(loads)
    return {node: sum(weights[x.shard] for x in loads if x.node == node) for node in nodes}


def test_an_even_fleet_stays_as_it_is() -> None:
    assert balanced(even(), NODES) == []
    assert imbalance(even(), NODES) == pytest.approx(1.0)


def test_the_busiest_gives_to_the_idlest() -> None:
    loads = [
        load._replace(events_per_s=100.0, cpu=1.0) if load.node == "a" else load for load in even()
    ]
    loads[7] = loads[7]._replace(node="c")  # d has one shard only
    before = of_nodes(loads)
    assert max(before, key=before.__getitem__) == "a"
    moves = balanced(loads, NODES)
    assert moves[0].source == "a"
    assert moves[0].target == "d"
    assert moves[0].gain > GAIN_MIN
    assert imbalance(moved(loads, moves), NODES) < imbalance(loads, NODES) - GAIN_MIN


def test_a_lone_busy_shard_stays_and_its_neighbours_go() -> None:
    loads = [Load(0, "a", 100.0), Load(1, "a", 5.0), Load(2, "b", 5.0)]
    assert [(move.shard, move.target) for move in balanced(loads, "ab", gain_min=0.0)] == [(1, "b")]
    assert balanced([Load(0, "a", 100.0), Load(1, "b", 1.0)], "ab") == []


def test_a_small_difference_moves_nothing() -> None:
    loads = [
        Load(shard, "a" if shard < 11 else "b", 10.0) for shard in range(20)
    ]  # 1.1 times the mean
    assert imbalance(loads, "ab") == pytest.approx(1.1)
    assert balanced(loads, "ab") == []
    assert len(balanced(loads, "ab", gain_min=0.0)) == 1


def test_many_small_shards_are_worth_it_together() -> None:
    loads = [Load(shard, "a" if shard < 70 else "b", 10.0) for shard in range(100)]
    for count in (1, 10):
        loads = [load for load in loads for _ in range(count)]
        loads = [load._replace(shard=shard) for shard, load in enumerate(loads)]
        moves = balanced(loads, "ab")
        assert len(moves) == MOVES_MAX
        assert {move.target for move in moves} == {"b"}


def test_what_nobody_measured_says_nothing() -> None:
    assert shares([Load(0, "a"), Load(1, "b")]) == {0: 0.5, 1: 0.5}
    assert shares([Load(0, "a", cpu=3.0), Load(1, "b", cpu=1.0)]) == {0: 0.75, 1: 0.25}
    mixed = shares([Load(0, "a", 10.0, 0.0, 300.0), Load(1, "b", 0.0, 0.0, 100.0)])
    assert mixed == {0: pytest.approx(0.875), 1: pytest.approx(0.125)}
    assert shares([]) == {}
    assert (balanced([], ""), balanced([], "ab"), imbalance([], "ab")) == ([], [], 1.0)


def test_nodes_that_end_are_emptied_evenly() -> None:
    loads = even(8)
    moves = emptied(loads, "cd", "ab")
    assert [move.shard for move in moves] == [4, 5, 6, 7]
    assert sorted(move.target for move in moves) == ["a", "a", "b", "b"]


def test_new_nodes_get_their_part() -> None:
    loads = even(8, "ab")
    moves = balanced(loads, NODES, gain_min=0.0, step_min=0.0, moves_max=None)
    assert of_nodes(moved(loads, moves)) == pytest.approx(dict.fromkeys(NODES, 0.25))


figures = st.floats(0, 1e6, allow_nan=False)
fleets = st.lists(
    st.tuples(st.sampled_from(NODES), figures, figures, figures), min_size=1, max_size=40
).map(lambda rows: [Load(shard, *row) for shard, row in enumerate(rows)])


@settings(max_examples=1000, deadline=None)
@given(fleets, st.sampled_from([0.0, GAIN_MIN]))
def test_nothing_gets_worse_and_nothing_goes_to_and_fro(loads: list[Load], gain_min: float) -> None:
    seen = {tuple(load.node for load in loads)}
    for _ in range(60):
        moves = balanced(loads, NODES, gain_min=gain_min)
        if not moves:
            break
        assert len({move.shard for move in moves}) == len(moves) <= MOVES_MAX
        assert all(move.gain > 0 and move.source != move.target for move in moves)
        after = moved(loads, moves)
        assert imbalance(after, NODES) <= imbalance(loads, NODES) + 1e-9
        squares = [sum(x * x for x in of_nodes(state).values()) for state in (loads, after)]
        assert squares[1] < squares[0]
        loads = after
        place = tuple(load.node for load in loads)
        assert place not in seen
        seen.add(place)
    else:
        pytest.fail("it never comes to rest")


@pytest.mark.parametrize("seed", range(20))
def test_loads_that_vary_move_nothing_back(seed: int) -> None:
    """50 fleets each: what moved does not return while loads vary by 5 %."""
    chance = random.Random(seed)
    for _ in range(50):
        means = {shard: chance.expovariate(0.1) for shard in range(24)}
        at = {shard: chance.choice(NODES) for shard in means}
        left: set[tuple[int, str]] = set()
        for _look in range(12):
            loads = [
                Load(shard, at[shard], mean * chance.uniform(0.95, 1.05))
                for shard, mean in means.items()
            ]
            for move in balanced(loads, NODES):
                assert (move.shard, move.target) not in left, "it went back"
                left.add((move.shard, move.source))
                at[move.shard] = move.target
