import pytest

from shard_node.sandbox.gate import Gate, SendLimit, Verdict


def gate(**settings: object) -> Gate:
    values = {
        "window_s": 5.0,
        "max_concurrency": 1,
        "total": 1000,
        "reset_s": 86_400.0,
        "now": 0.0,
        **settings,
    }
    return Gate(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gap_s", "verdict"),
    [(0.0, Verdict.TOO_FAST), (4.999, Verdict.TOO_FAST), (5.0, Verdict.ADMITTED)],
)
def test_one_identify_per_window(gap_s: float, verdict: Verdict) -> None:
    door = gate()
    assert door.identify(0, 10.0) is Verdict.ADMITTED
    assert door.identify(1, 10.0 + gap_s) is verdict


def test_keys_are_apart() -> None:
    door = gate(max_concurrency=4)
    assert [door.identify(shard, 0.0) for shard in range(4)] == [Verdict.ADMITTED] * 4
    assert door.identify(6, 1.0) is Verdict.TOO_FAST
    assert door.identify(7, 5.0) is Verdict.ADMITTED


def test_a_refused_identify_starts_no_window() -> None:
    door = gate()
    door.identify(0, 0.0)
    assert door.identify(0, 4.0) is Verdict.TOO_FAST
    assert door.identify(0, 5.0) is Verdict.ADMITTED


def test_budget_ends_and_comes_back() -> None:
    door = gate(total=2, window_s=0.0)
    assert door.identify(0, 0.0) is Verdict.ADMITTED
    assert door.identify(0, 1.0) is Verdict.ADMITTED
    assert door.limit(1.0)["remaining"] == 0
    assert door.identify(0, 2.0) is Verdict.BUDGET_SPENT
    assert door.identify(0, 86_400.0) is Verdict.ADMITTED
    assert door.limit(86_400.0) == {
        "total": 2,
        "remaining": 1,
        "reset_after": 86_400_000,
        "max_concurrency": 1,
    }


def test_a_refused_identify_costs_budget() -> None:
    door = gate(total=10)
    door.identify(0, 0.0)
    door.identify(0, 0.1)
    assert door.remaining(1.0) == 8


def test_reset_skips_whole_periods() -> None:
    door = gate(reset_s=10.0)
    assert door.limit(35.0)["reset_after"] == 5_000


def test_sends_slide() -> None:
    limit = SendLimit(3, 60.0)
    assert [limit.allows(t) for t in (0.0, 20.0, 40.0, 59.9)] == [True, True, True, False]
    assert limit.allows(60.0)
    assert not limit.allows(60.1)
