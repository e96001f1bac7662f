from __future__ import annotations

import random

from shard_node.sandbox.ledger import (
    ORDER_STARTS_MAX,
    ORDER_WINDOW_MAX,
    EventLedger,
    parse_nonce,
)


def sent(ledger: EventLedger, guild: int, count: int, now: float = 0.0) -> list[str]:
    nonces = [ledger.new_nonce(guild) for _ in range(count)]
    for nonce in nonces:
        ledger.sent(nonce, now)
    return nonces


def handled(ledger: EventLedger, nonce: str, at: float) -> None:
    assert ledger.started(nonce, at)
    assert ledger.ended(nonce)


def test_nonces_count_up_by_guild() -> None:
    ledger = EventLedger(grace_s=5.0)
    assert [ledger.new_nonce(7), ledger.new_nonce(7), ledger.new_nonce(8)] == ["7:0", "7:1", "8:0"]


def test_handled_once_in_order() -> None:
    ledger = EventLedger(grace_s=5.0)
    for at, nonce in enumerate(sent(ledger, 7, 10)):
        handled(ledger, nonce, float(at))
    counts = ledger.counts(100.0)
    assert (counts.sent, counts.once, counts.never) == (10, 10, 0)
    assert (counts.twice, counts.out_of_order, counts.unfinished) == (0, 0, 0)


def test_planted_missing_doubled_and_swapped() -> None:
    ledger = EventLedger(grace_s=5.0)
    a, b, c, d = sent(ledger, 7, 4)
    handled(ledger, a, 1.0)
    handled(ledger, a, 1.5)
    handled(ledger, c, 2.0)
    handled(ledger, b, 3.0)
    counts = ledger.counts(100.0)
    assert (counts.once, counts.twice, counts.never, counts.out_of_order) == (2, 1, 1, 1)
    handled(ledger, d, 4.0)
    assert ledger.counts(100.0).never == 0


def test_other_guilds_do_not_disturb_the_order() -> None:
    ledger = EventLedger(grace_s=5.0)
    first, second = sent(ledger, 7, 1), sent(ledger, 8, 1)
    handled(ledger, second[0], 1.0)
    handled(ledger, first[0], 2.0)
    assert ledger.counts(3.0).out_of_order == 0


def test_pending_within_the_grace() -> None:
    ledger = EventLedger(grace_s=5.0)
    sent(ledger, 7, 2, now=0.0)
    handled(ledger, sent(ledger, 7, 1, now=3.0)[0], 3.1)
    assert (ledger.counts(5.0).pending, ledger.counts(5.0).never) == (2, 0)
    assert (ledger.counts(5.1).pending, ledger.counts(5.1).never) == (0, 2)


def test_order_is_by_the_common_clock_not_by_arrival() -> None:
    """Two nodes report on two connections: the first's report may come second."""
    ledger = EventLedger(grace_s=5.0)
    a, b, c = sent(ledger, 7, 3)
    handled(ledger, b, 2.0)
    handled(ledger, c, 3.0)
    handled(ledger, a, 1.0)
    assert ledger.counts(9.0).out_of_order == 0


def test_a_report_that_overtook_shows_others_out_of_order() -> None:
    ledger = EventLedger(grace_s=5.0)
    a, b = sent(ledger, 7, 2)
    handled(ledger, a, 2.0)
    handled(ledger, b, 1.0)
    assert ledger.counts(9.0).out_of_order == 1


def test_order_agrees_with_a_plain_count_whatever_the_arrival() -> None:
    rng = random.Random(3)
    for _ in range(200):
        ledger = EventLedger(grace_s=5.0)
        nonces = sent(ledger, 7, 12)
        starts = [(rng.random(), n) for n in range(12)]
        expected = sum(any(at < mine and m > n for at, m in starts) for mine, n in starts)
        rng.shuffle(starts)
        for at, n in starts:
            handled(ledger, nonces[n], at)
        assert ledger.counts(9.0).out_of_order == expected


def test_started_without_end_is_unfinished() -> None:
    ledger = EventLedger(grace_s=5.0)
    (nonce,) = sent(ledger, 7, 1)
    ledger.started(nonce, 1.0)
    assert ledger.counts(9.0).unfinished == 1
    ledger.ended(nonce)
    assert ledger.counts(9.0).unfinished == 0


def test_end_before_start_is_taken_as_it_comes() -> None:
    ledger = EventLedger(grace_s=5.0)
    (nonce,) = sent(ledger, 7, 1)
    ledger.ended(nonce)
    assert ledger.counts(9.0).never == 1
    ledger.started(nonce, 1.0)
    assert (ledger.counts(9.0).once, ledger.counts(9.0).unfinished) == (1, 0)


def test_a_nonce_that_was_not_sent_is_not_counted() -> None:
    ledger = EventLedger(grace_s=5.0)
    nonce = ledger.new_nonce(7)
    assert not ledger.started(nonce, 1.0)
    assert not ledger.started("7:99", 1.0)
    assert ledger.counts(9.0).sent == 0


def test_memory_is_bounded_and_counts_stay_exact() -> None:
    ledger = EventLedger(grace_s=5.0, tracked_max=1000, recent_max=10)
    for number in range(10_000):
        guild = number % 7
        nonce = ledger.new_nonce(guild)
        ledger.sent(nonce, float(number))
        if number % 3:
            handled(ledger, nonce, float(number))
    counts = ledger.counts(1e6)
    assert sum(len(guild.slots) for guild in ledger._guilds.values()) <= 1000
    assert counts.sent == 10_000
    assert counts.once == sum(1 for n in range(10_000) if n % 3)
    assert counts.never == counts.sent - counts.once
    assert not ledger.started("0:0", 1.0)
    assert ledger.known("0:0")


def test_reset_goes_on_counting_nonces_and_ignores_the_old() -> None:
    ledger = EventLedger(grace_s=5.0)
    (old,) = sent(ledger, 7, 1)
    ledger.reset()
    assert not ledger.started(old, 1.0)
    assert ledger.known(old)
    assert sent(ledger, 7, 1) == ["7:1"]
    assert ledger.counts(0.0).pending == 1


def test_many_starts_of_one_event_count_one_twice() -> None:
    ledger = EventLedger(grace_s=5.0)
    (nonce,) = sent(ledger, 7, 1)
    for at in range(100):
        handled(ledger, nonce, float(at))
    assert (ledger.counts(9.0).twice, ledger.counts(9.0).once) == (1, 0)


def test_parse_nonce() -> None:
    assert parse_nonce("12:3") == (12, 3)
    for bad in ("", "12", ":3", "12:", "a:1", "1:-1", "1:2:3", "1:" + "9" * 99):
        assert parse_nonce(bad) is None


def test_a_report_told_again_is_no_second_start() -> None:
    ledger = EventLedger(grace_s=5.0)
    (nonce,) = sent(ledger, 7, 1)
    handled(ledger, nonce, 1.5)
    handled(ledger, nonce, 1.5)
    assert (ledger.counts(9.0).once, ledger.counts(9.0).twice) == (1, 0)
    handled(ledger, nonce, 1.6)
    assert ledger.counts(9.0).twice == 1


def test_a_whole_batch_told_again_is_no_second_start() -> None:
    ledger = EventLedger(grace_s=5.0)
    nonces = sent(ledger, 7, 2 * ORDER_WINDOW_MAX)
    for _ in range(2):
        for at, nonce in enumerate(nonces):
            ledger.started(nonce, float(at), "a#1")
            ledger.ended(nonce)
    counts = ledger.counts(100.0)
    assert (counts.once, counts.twice, counts.unfinished) == (len(nonces), 0, 0)


def test_two_nodes_at_the_same_moment_are_two_starts() -> None:
    ledger = EventLedger(grace_s=5.0)
    (nonce,) = sent(ledger, 7, 1)
    ledger.started(nonce, 1.0, "a#1")
    ledger.started(nonce, 1.0, "b#1")
    assert ledger.counts(100.0).twice == 1


def test_starts_kept_for_the_order_are_bounded_over_all_guilds() -> None:
    ledger = EventLedger(grace_s=5.0)
    guilds = ORDER_STARTS_MAX // ORDER_WINDOW_MAX + 2
    for guild in range(guilds):
        for at, nonce in enumerate(sent(ledger, guild, ORDER_WINDOW_MAX)):
            handled(ledger, nonce, float(at))
    assert ledger.starts_in_order() <= ORDER_STARTS_MAX
    late, later = sent(ledger, 0, 2)
    handled(ledger, later, 900.0)
    assert ledger.counts(0.0).out_of_order == 0
    handled(ledger, late, 901.0)
    assert ledger.counts(0.0).out_of_order == 1
