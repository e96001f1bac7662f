"""Several logs as one: by time, with one style of moments, no log's own order changed."""

from __future__ import annotations

from datetime import UTC

from shardctl.merge import merged, moment_of, plain, timed


def test_moments() -> None:
    same = moment_of("2026-01-02T03:04:05Z x")
    assert same == moment_of("2026-01-02T05:04:05+02:00 x")
    assert moment_of("2026-01-02 03:04:05,123 INFO x") is not None
    assert moment_of("[2026-01-02 03:04:05] x") is not None
    for line in ("", "hello", "2026-13-99T99:99:99Z x", "20 guilds"):
        assert moment_of(line) is None


def test_one_style() -> None:
    assert plain("2026-01-02T05:04:05.678+02:00 x", UTC) == "2026-01-02 03:04:05 x"
    for line in ("2026-01-02 03:04:05,123 INFO of the bot", "no moment"):
        assert plain(line) == line


def test_by_time_and_a_log_keeps_its_order() -> None:
    one = timed(
        "one", ["early", "2026-01-01T00:00:02Z b", "  | quoted", "old: kept below"], None, 0
    )
    two = timed("two", ["2026-01-01T00:00:01Z a", "2026-01-01T00:00:03Z c"], None, 1)
    back = timed("back", ["2026-01-01T00:00:03Z d", "2026-01-01T00:00:00Z clock set back"], None, 2)
    lines = [entry.line for entry in merged([one, two, back])]
    assert lines == [two[0].line, *(entry.line for entry in one), two[1].line,
                     *(entry.line for entry in back)]  # fmt: skip
    assert [e.line for e in merged([one])] == [e.line for e in one]
    assert [e.line for e in merged([back])] == [e.line for e in back]
