from __future__ import annotations

import doctest
import math

from hypothesis import given
from hypothesis import strategies as st

from shard_node.sandbox import answers, archive, pace
from shard_node.sandbox.pace import Pace


def test_the_first_is_due_at_once_and_the_last_before_the_end() -> None:
    steady = Pace(50, 10)
    assert steady.total == 500
    assert steady.next_at_s(0) == 0.0
    assert steady.next_at_s(499) < 10
    assert steady.next_at_s(500) == math.inf


def test_no_rate_is_never_due() -> None:
    assert Pace(0, 10).next_at_s(0) == math.inf


@given(st.floats(0.1, 2000), st.floats(0.1, 100))
def test_deadlines_do_not_drift(rate: float, seconds: float) -> None:
    steady = Pace(rate, seconds)
    last = steady.total - 1
    if last >= 0:
        assert math.isclose(steady.next_at_s(last), last / rate)
        assert steady.next_at_s(last) <= seconds


def test_examples_in_docstrings_hold() -> None:
    for module in (answers, pace):
        assert doctest.testmod(module).failed == 0
    names = {"Archive": archive.Archive, "Entry": archive.Entry}
    assert doctest.testmod(archive, extraglobs=names).failed == 0
