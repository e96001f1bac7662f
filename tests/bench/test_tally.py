"""The account that a kill of the broker is judged by finds what it is there to find."""

from __future__ import annotations

from tests.bench.tally import EVENTS, Heard, judge, numbers, ranges


def heard(stream: str, *numbers: int) -> dict[str, object]:
    found = Heard()
    for number in numbers:
        found.take(stream, number)
    return found.report()


def test_ranges_hold_all_numbers_and_no_other() -> None:
    assert ranges([5, 1, 2, 3]) == [[1, 3], [5, 5]]
    assert numbers([[1, 3], [5, 5]]) == {1, 2, 3, 5}


def test_what_was_handled_once_and_in_order_is_well() -> None:
    assert judge({"a>b": [[1, 3]]}, [heard("a>b", 1, 2, 3), heard("c>b", 1)]) == (3, 0, 0, 0)


def test_an_acknowledged_message_that_nobody_handled_is_lost() -> None:
    assert judge({"a>b": [[1, 3]], "a>c": [[1, 1]]}, [heard("a>b", 1, 3)]).lost == 2


def test_a_double_is_found_in_one_member_and_across_two() -> None:
    assert judge({}, [heard("a>b", 1, 2, 1)]).twice == 1
    assert judge({}, [heard("a>b", 1, 2), heard("a>b", 2, 3)]).twice == 1


def test_everybody_handles_an_event_once() -> None:
    stream = "a" + EVENTS
    assert judge({}, [heard(stream, 1, 2), heard(stream, 1, 2)]).twice == 0
    assert judge({}, [heard(stream, 1, 1), heard(stream, 1)]).twice == 1


def test_what_overtakes_is_found() -> None:
    assert judge({}, [heard("a>b", 1, 3, 2)]).late == 1
