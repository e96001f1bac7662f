"""The small pure parts: plan, backoff, table, requests in flight, states, ledger."""

from __future__ import annotations

import doctest
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import backoff, plan
from broker.core.inflight import InFlight, Ref
from broker.core.ledger import MARGIN_S, USE_WITHIN_S, Ledger
from broker.core.shardrow import ShardRow
from broker.core.states import NODE_TRANSITIONS, NodeState, StateError, step
from broker.core.table import Table
from broker.services import planning
from shard_node.wire.bodies import ShardReport, ShardState
from shard_node.wire.identity import Peer, is_node_name
from shard_node.wire.lanes import Lane
from shard_node.wire.shard_states import TRANSITIONS, ShardEvent

# --- plan


@given(st.integers(1, 3000), st.integers(1, 300))
def test_a_plan_holds_each_shard_once_in_ranges(shards: int, nodes: int) -> None:
    nodes = min(nodes, shards)
    made = plan.plan(shards, nodes)
    assert list(itertools.chain.from_iterable(node.shards for node in made)) == list(range(shards))
    sizes = {len(node.shards) for node in made}
    assert max(sizes) - min(sizes) <= 1
    assert len({node.name for node in made}) == nodes
    assert all(is_node_name(node.name) for node in made)


def test_a_plan_with_empty_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="spread"):
        plan.plan(2, 3)


@pytest.mark.parametrize("module", [plan, planning], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


# --- backoff


@given(st.integers(1, 1000), st.integers(0, 1 << 63), st.integers(0, 1 << 31))
def test_a_delay_doubles_up_to_a_minute(failures: int, seed: int, count: int) -> None:
    base = min(60.0, 2.0 ** (failures - 1)) if failures < 20 else 60.0
    assert 0.8 * base <= backoff.delay_s(failures, seed, count) <= 1.2 * base
    assert backoff.delay_s(failures, seed, count) == backoff.delay_s(failures, seed, count)


def test_the_jitter_spreads() -> None:
    draws = [backoff.uniform(1, count) for count in range(1000)]
    assert min(draws) < 0.02
    assert max(draws) > 0.98
    assert 0.45 < sum(draws) / 1000 < 0.55


# --- table


def test_a_node_that_comes_back_replaces_its_older_process() -> None:
    table = Table()
    table.resize(4)
    table.join("a", 1, (0, 1))
    table.subscribe("a", frozenset({"t"}))
    version = table.version
    table.join("a", 2, (0, 1))
    assert table.version > version
    assert table.shard(1).routing_id == b"a#2"
    assert table.subscribers("t") == []
    table.leave("a")
    assert table.shard(1) is None
    assert table.everyone() == []


def test_subscriptions_are_replaced_as_a_whole() -> None:
    table = Table()
    for name in "ba":
        table.join(name, 1, ())
        table.subscribe(name, frozenset({"x", "y"}))
    table.subscribe("a", frozenset({"y", "z"}))
    names = {t: [owner.name for owner in table.subscribers(t)] for t in "xyz"}
    assert names == {"x": ["b"], "y": ["a", "b"], "z": ["a"]}


def test_an_override_wins_over_the_formula() -> None:
    table = Table()
    table.resize(2)
    table.join("a", 1, (0,))
    table.join("b", 1, (1,))
    guild = 6 << 22
    assert (table.guild(guild).owner.name, table.guild(guild).route) == ("a", "formula")
    table.override(guild, "b")
    assert (table.guild(guild).owner.name, table.guild(guild).route) == ("b", "override")
    table.leave("b")
    assert table.guild(guild).owner is None
    table.override(guild, None)
    assert table.guild(guild).owner.name == "a"


def test_a_fleet_without_shards_owns_no_guild() -> None:
    with pytest.raises(ValueError, match="shard"):
        Table().guild(1)


# --- requests in flight


def ref(deadline: float, owner: bytes = b"o", routing_id: bytes = b"r") -> Ref:
    return Ref(0, routing_id, Peer("node", "a", 1), "t", Lane.HIGH, 1, deadline, owner)


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=200))
def test_each_request_ends_once(entries: list[tuple[float, bool]]) -> None:
    table = InFlight()
    refs = [(table.add(ref(at)), early) for at, early in entries]
    ended = [r.id for r, early in refs if early and table.end(r.id)]
    expired = [r.id for at in (25.0, 50.0, 100.0) for r in table.expired(at)]
    assert sorted(ended + expired) == sorted(r.id for r, _ in refs)
    assert len(table) == 0
    assert table.next_deadline() is None


def test_requests_of_a_peer_are_found() -> None:
    table = InFlight(limit=3)
    table.add(ref(1, b"x", b"1"))
    table.add(ref(1, b"y", b"1"))
    table.add(ref(1, b"y", b"2"))
    assert table.full
    assert len(table.of_owner(b"y")) == 2
    assert len(table.of_requester(b"1")) == 1
    assert len(table) == 0


def test_answered_requests_leave_nothing_behind() -> None:
    table = InFlight()
    for _ in range(20_000):
        table.end(table.add(ref(1e9)).id)
    assert len(table._deadlines) < 2000


# --- states


def test_the_table_names_every_state() -> None:
    assert NODE_TRANSITIONS.keys() == set(NodeState)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ShardState, ShardEvent)))
def test_a_transition_outside_the_table_is_a_bug(state: ShardState, event: ShardEvent) -> None:
    row = ShardRow(0, state)
    if (state, event) in TRANSITIONS:
        row.on(event)
        assert row.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(StateError):
            row.on(event)
        assert row.state is state


def test_a_node_never_runs_twice() -> None:
    for state in (NodeState.SPAWNING, NodeState.STARTING, NodeState.UP, NodeState.STOPPING):
        with pytest.raises(StateError):
            step(state, NodeState.SPAWNING, "node") if (state is not NodeState.SPAWNING) else step(
                state, NodeState.STORING, "node"
            )


def test_a_report_may_skip_states_but_not_come_back_from_the_dead() -> None:
    row = ShardRow(0)
    assert row.observe(ShardReport(0, ShardState.ZOMBIE, 5))
    assert (row.state, row.guilds) == (ShardState.ZOMBIE, 5)
    ended = (ShardState.GONE, ShardState.DRAINING, ShardState.HUNG, ShardState.DEAD)
    for state in ended:
        row = ShardRow(0, state)
        assert not row.observe(ShardReport(0, ShardState.READY, 5))
        assert (row.state, row.guilds) == (state, 0)


# --- ledger


def ledger(remaining: int = 10, max_concurrency: int = 2) -> Ledger:
    made = Ledger(5.0)
    made.learn(
        total=1000,
        remaining=remaining,
        reset_at=1e6,
        max_concurrency=max_concurrency,
        asked_at=0.0,
    )
    return made


def test_a_key_is_used_once_in_a_window_counted_from_the_sending() -> None:
    book = ledger()
    permit = book.grant(0, "a", 1, 100.0)
    assert permit is not None
    assert book.grant(2, "a", 1, 100.0) is None, "the same key"
    assert book.grant(1, "a", 1, 100.0) is not None, "another key"
    book.sent(permit.number, 0, at=103.0, now=103.5)
    assert book.grant(2, "a", 1, 108.0) is None
    assert book.grant(2, "a", 1, 108.0 + MARGIN_S) is not None


def test_an_unused_permit_counts_as_sent_at_its_lapse() -> None:
    book = ledger()
    book.grant(0, "a", 1, 100.0)
    assert book.lapse(100.0 + USE_WITHIN_S - 0.1) == []
    assert len(book.lapse(100.0 + USE_WITHIN_S)) == 1
    assert book.ready_at(0) == 100.0 + USE_WITHIN_S + 5.0 + MARGIN_S
    assert book.remaining == 9


def test_a_sending_before_its_grant_is_not_believed() -> None:
    book = ledger()
    permit = book.grant(0, "a", 1, 100.0)
    book.sent(permit.number, 0, at=50.0, now=101.0)
    assert book.ready_at(0) == 105.0 + MARGIN_S


def test_a_late_report_counts_all_the_same() -> None:
    book = ledger()
    permit = book.grant(0, "a", 1, 100.0)
    book.lapse(130.0)
    book.sent(permit.number, 0, at=129.0, now=134.0)
    assert book.ready_at(0) == 139.0 + MARGIN_S


def test_a_returned_permit_frees_key_and_budget() -> None:
    book = ledger()
    permit = book.grant(0, "a", 1, 100.0)
    assert not book.give_back(permit.number + 1, 0)
    assert book.give_back(permit.number, 0)
    assert book.remaining == 10
    assert book.grant(2, "a", 1, 100.0) is not None


def test_the_budget_ends() -> None:
    book = ledger(remaining=1)
    assert book.grant(0, "a", 1, 0.0) is not None
    assert book.grant(1, "a", 1, 0.0) is None
    assert Ledger(5.0).grant(0, "a", 1, 0.0) is None, "nothing is known"


def test_discords_count_is_lessened_by_what_it_may_not_know() -> None:
    book = ledger()
    permit = book.grant(0, "a", 1, 100.0)
    book.sent(permit.number, 0, at=100.0, now=100.0)
    book.grant(1, "a", 1, 100.0)
    book.learn(total=1000, remaining=9, reset_at=1e6, max_concurrency=2, asked_at=100.5)
    assert book.remaining == 7
    book.learn(total=1000, remaining=8, reset_at=1e6, max_concurrency=2, asked_at=110.0)
    assert book.remaining == 7, "one permit is still outstanding"


def test_other_keys_begin_as_used() -> None:
    book = ledger(max_concurrency=2)
    permit = book.grant(0, "a", 1, 100.0)
    book.sent(permit.number, 0, at=100.0, now=100.0)
    book.learn(total=1000, remaining=9, reset_at=1e6, max_concurrency=3, asked_at=110.0)
    assert book.ready_at(2) == 105.0 + MARGIN_S


def test_a_process_that_dies_may_have_used_its_permit() -> None:
    book = ledger()
    book.grant(0, "a", 1, 100.0)
    assert not book.died("a", 2, 101.0)
    assert book.died("a", 1, 101.0)
    assert book.ready_at(0) == 106.0 + MARGIN_S
