"""Events a second, from sequence numbers."""

from __future__ import annotations

import pytest

from shard_node.rates import WITHIN_S, Rates


def test_a_steady_shard_has_its_rate_from_the_second_look_on() -> None:
    rates = Rates()
    assert rates.look({0: 100}, 0.0) == {0: 0.0}
    for second in range(1, 60):
        assert rates.look({0: 100 + 25 * second}, float(second))[0] == pytest.approx(25.0)


def test_it_follows_within_its_time_and_looks_that_come_at_once_change_nothing() -> None:
    rates = Rates()
    rates.look({0: 1}, 0.0)
    rates.look({0: 1001}, 10.0)
    before = rates.look({0: 1006}, 10.1)
    assert before[0] == pytest.approx(100.0)
    silent = 100.0
    for second in range(1, int(3 * WITHIN_S) + 1):
        silent = rates.look({0: 1001}, 10.0 + second)[0]
    assert silent == pytest.approx(100.0 * 2.718281828**-3, rel=0.01)


def test_a_new_session_counts_from_nothing() -> None:
    rates = Rates()
    rates.look({0: 5000}, 0.0)
    rates.look({0: 5010}, 1.0)
    assert rates.look({0: 10}, 2.0)[0] == pytest.approx(10.0)
    rates.forget(0)
    assert rates.look({0: 7}, 3.0) == {0: 0.0}


def test_a_session_that_is_taken_over_brings_no_events_of_its_past() -> None:
    rates = Rates()
    rates.look({0: 0}, 0.0)
    rates.look({0: 0}, 1.0)
    assert rates.look({0: 5000}, 2.0) == {0: 0.0}
    assert rates.look({0: 5003}, 3.0)[0] == pytest.approx(3.0)
