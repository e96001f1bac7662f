"""`make bench` in small: every contender that is installed runs every line of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import run
from tests.bench.checks import CHECKS
from tests.bench.lines import LINES, NATS, NATS_UV, Bound, Goal, Line
from tests.bench.own import Limit
from tests.bench.table import line_rows

HELD_ELSEWHERE = ("stopped", "kills", "unread")
"""In tests/fleet/test_chaos.py, with their limits."""
INSTALLED = sorted(
    {one.module for line in run.ALL_LINES for one in line.counts if not one.missing()}
)


def records(tmp_path: Path, *argv: str) -> list[dict[str, object]]:
    out = tmp_path / "runs.jsonl"
    run.main(["--quick", "--out", str(out), *argv])
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", INSTALLED)
def test_a_contender_runs_each_of_its_lines(tmp_path: Path, module: str) -> None:
    keys = ",".join(line.key for line in run.ALL_LINES)
    found = records(tmp_path, "--peers", module, "--only", keys)
    found = [r for r in found if not str(r.get("failed")).startswith("not installed")]
    assert [record for record in found if "failed" in record] == []
    wanted = {
        (line.key, one.name) for line in run.ALL_LINES for one in line.counts
        if one.module == module and not one.missing()
    }  # fmt: skip
    assert {(record["line"], record["contender"]) for record in found} == wanted


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", [c.key for c in CHECKS if c.key not in HELD_ELSEWHERE])
def test_a_check_of_ours_gives_its_figures(tmp_path: Path, check: str) -> None:
    (record,) = records(tmp_path, "--only", check)
    limits = next(one.limits for one in CHECKS if one.key == check)
    assert {limit.figure for limit in limits} <= record.keys(), record.get("failed")


def test_a_ratio_is_held_against_what_is_asked() -> None:
    goals = (Goal("x", NATS, NATS_UV, 2.0), Goal("x", NATS, NATS_UV, 0.5, at_most=True))
    line = Line("k", "title", LINES[0].run, {}, goals)
    *_, least, most = line_rows(line, {NATS: [{"x": 30.0}], NATS_UV: [{"x": 10.0}]})
    assert (least.value, least.reached) == ("3.00x", True)
    assert (most.value, most.reached) == ("3.00x", False)


def test_a_figure_of_ours_is_held_against_its_bound() -> None:
    bounds = tuple(Bound(NATS, Limit("x", most)) for most in (30.0, 29.0))
    line = Line("k", "title", LINES[0].run, {}, (), bounds)
    *_, kept, broken = line_rows(line, {NATS: [{"x": 30.0}]})
    assert (kept.wanted, kept.reached, broken.reached) == ("at most 30", True, False)


def test_a_familys_name_means_all_its_lines() -> None:
    keys = {line.key for line in run.ALL_LINES if run.wanted(line.key, {"transfers"})}
    assert keys == {"transfers-1", "transfers-64", "transfers-256"}
    assert not run.wanted("request64", {"request"})


def test_a_limit_of_ours_has_a_side() -> None:
    assert Limit("x", 5.0).reached(5.0)
    assert not Limit("x", 5.0).reached(5.1)
    assert Limit("x", 0.95, at_most=False).reached(0.96)
    assert not Limit("x", 0.95, at_most=False).reached(0.94)
