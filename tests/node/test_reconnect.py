"""The plan of a lost shard: RESUME, RESUME at the main URL, IDENTIFY."""

from __future__ import annotations

from shard_node.reconnect import (
    BACKOFF_MAX_S,
    RESUME_MAIN_TRIES_MAX,
    RESUME_TRIES_MAX,
    STEADY_S,
    ReconnectPlan,
    Way,
)


def test_a_dead_resume_url_falls_back_to_the_main_one_and_then_identifies() -> None:
    plan, ways = ReconnectPlan(), []
    for _ in range(RESUME_TRIES_MAX + RESUME_MAIN_TRIES_MAX + 2):
        ways.append(plan.next(has_session=True).way)
        plan.failed()
    assert ways == (
        [Way.RESUME] * RESUME_TRIES_MAX + [Way.RESUME_MAIN] * RESUME_MAIN_TRIES_MAX
        + [Way.IDENTIFY] * 2
    )  # fmt: skip


def test_without_a_session_it_identifies() -> None:
    assert ReconnectPlan().next(has_session=False).way is Way.IDENTIFY


def test_the_first_try_waits_for_nothing_and_the_others_longer_and_longer() -> None:
    plan = ReconnectPlan()
    assert plan.next(has_session=True).delay_s == 0.0
    waits = []
    for _ in range(20):
        plan.failed()
        waits.append(plan.next(has_session=True, spread=0.5).delay_s)
    assert waits == sorted(waits)
    assert waits[0] > 0
    assert waits[-1] == BACKOFF_MAX_S


def test_jitter_spreads_a_wait() -> None:
    plan = ReconnectPlan()
    plan.failed()
    low, high = (plan.next(has_session=True, spread=s).delay_s for s in (0.0, 1.0))
    assert high == 3 * low


def test_a_connection_that_lasted_clears_the_count() -> None:
    plan = ReconnectPlan()
    for _ in range(9):
        plan.failed()
    plan.succeeded(100.0)
    plan.connection_ended(100.0 + STEADY_S)
    assert plan.next(has_session=True) == (Way.RESUME, 0.0)


def test_connections_that_do_not_last_do_not_spin_and_never_cost_the_session() -> None:
    plan = ReconnectPlan()
    for second in range(20):
        plan.succeeded(second)
        plan.connection_ended(second + 0.1)
    attempt = plan.next(has_session=True)
    assert attempt.way is Way.RESUME
    assert attempt.delay_s > 10


def test_a_connection_that_never_got_ready_counts_as_failed() -> None:
    plan = ReconnectPlan()
    for _ in range(RESUME_TRIES_MAX):
        plan.connection_ended(0.0)
    assert plan.next(has_session=True).way is Way.RESUME_MAIN
