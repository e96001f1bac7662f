"""The processes of a measurement and what is made of their figures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from shardctl.bench import runs
from shardctl.bench.measure import body_of, latency, medians, percentile, rate_between
from shardctl.bench.worker import Link, Worker, WorkerFailed
from shardctl.cli import bench as bench_cli

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests.shardctl.test_bench"


async def echo(link: Link, word: str) -> dict[str, Any]:
    print("what a library prints")
    link.say({"pid": os.getpid()})
    return {"word": word, **await link.hear()}


async def deaf(link: Link) -> dict[str, Any]:
    link.say({})
    await asyncio.Event().wait()
    return {}


async def broken(link: Link) -> dict[str, Any]:
    raise RuntimeError("the cause")


def test_a_body_has_the_size_that_is_asked_for() -> None:
    assert len(msgspec.msgpack.encode(body_of(256))) == 256


def test_percentiles_and_medians() -> None:
    assert percentile(range(100), 0.99) == 99
    assert percentile([5], 0.5) == 5
    assert latency([1000, 3000, 2000]) == {"p50_us": 2.0, "p99_us": 3.0, "max_us": 3.0}
    assert medians([{"x": 1}, {"x": 9}, {"x": 2}]) == {"x": 2}


def test_a_rate_counts_what_lies_in_the_span() -> None:
    second = 10**9
    samples = [(0, 0), (1 * second, 100), (3 * second, 300), (9 * second, 9000)]
    assert rate_between(samples, 1, 4 * second) == 100.0
    assert rate_between(samples, 4 * second, 5 * second) == 0.0


@pytest.mark.slow
def test_a_worker_hears_says_and_returns() -> None:
    with Worker(f"{HERE}:echo", ROOT, word="x") as worker:
        assert worker.hear() == {"pid": worker.pid}
        worker.say(more=1)
        assert worker.hear() == {"word": "x", "more": 1}


@pytest.mark.slow
def test_a_worker_that_fails_shows_why() -> None:
    with Worker(f"{HERE}:broken", ROOT) as worker, pytest.raises(WorkerFailed, match="the cause"):
        worker.hear()


@pytest.mark.slow
def test_a_worker_that_says_nothing_is_given_up() -> None:
    with Worker(f"{HERE}:echo", ROOT, word="x") as worker:
        worker.hear()
        with pytest.raises(WorkerFailed, match="says nothing"):
            worker.hear(0.05)


@pytest.mark.slow
def test_a_worker_ends_with_its_parent() -> None:
    with Worker(f"{HERE}:deaf", ROOT) as worker:
        worker.hear()
        assert worker._process.stdin is not None
        worker._process.stdin.close()
        assert worker._process.wait(10) == 1


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that answers, and figures that are known."""

    @contextlib.contextmanager
    def measuring(name: str, fleet: str | None, seconds: float | None = None) -> Any:
        yield "ipc:///nowhere", runs.no_tick

    monkeypatch.setattr(bench_cli, "_measuring", measuring)
    for verb in ("publish", "request", "gather", "priority"):
        figures = {"msgs_s": 1234567.8, "p50_us": 12.345, "sent": 5, "start_ns": 1}
        monkeypatch.setattr(runs, verb, lambda *_args, _figures=figures, **_options: _figures)


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("verb", ["publish", "request", "gather", "priority"])
def test_figures_for_people_and_for_programs(verb: str) -> None:
    told = CliRunner().invoke(bench_cli.bench, [verb])
    assert told.exit_code == 0, told.output
    assert "1,234,568" in told.output and "12.35" in told.output
    read = json.loads(CliRunner().invoke(bench_cli.bench, [verb, "--json"]).stdout)
    assert read == {
        "schema": 1, "bench": verb, "msgs_s": 1234567.8, "p50_us": 12.345, "sent": 5,
    }  # fmt: skip
