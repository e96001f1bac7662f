"""`shardctl bench publish|request|gather|priority`: how fast is the fleet that runs here.

Clients of its broker, in processes of their own, send bodies of 256 bytes to each other; the
bots' nodes take no part except in `gather`, which asks every node.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click

from shardctl.cli.common import chosen_fleet, echo_json, fleet_option, json_option
from shardctl.errors import EXIT_TEMPFAIL, ShardctlError

Tick = Callable[[float], None]

SECONDS_MAX: Final = 600.0
REQUESTS_MAX: Final = 1_000_000
RESPONDERS_MAX: Final = 64
LANES: Final = ("high", "normal", "low")

_WORDS: Final = {
    "msgs_s": "messages/s",
    "sent": "sent",
    "received": "received",
    "requests_s": "requests/s",
    "p50_us": "p50, us",
    "p99_us": "p99, us",
    "max_us": "slowest, us",
    "replies": "replies",
    "errors": "errors",
    "quiet_p50_us": "no flood: p50, us",
    "quiet_p99_us": "no flood: p99, us",
    "flood_msgs_s": "flood alone, messages/s",
    "other_p50_us": "flood of another node: p50, us",
    "other_p99_us": "flood of another node: p99, us",
    "other_p50": "  p50, times no flood",
    "other_p99": "  p99, times no flood",
    "other_keeps": "  the receiver keeps of its rate",
    "same_p50_us": "flood of the same node: p50, us",
    "same_p99_us": "flood of the same node: p99, us",
    "same_p50": "  p50, times no flood",
    "same_p99": "  p99, times no flood",
    "same_keeps": "  the receiver keeps of its rate",
}
"""Figures in the order in which people read them."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure the fleet's message plane from this machine.

    The load is real: do not measure a fleet that people use.
    """


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    uvloop = click.option("--uvloop", is_flag=True, help="Run the clients on uvloop.")
    return json_option(fleet_option(uvloop(command)))


def _seconds(default: float) -> Callable[[Any], Any]:
    return click.option(
        "--seconds",
        type=click.FloatRange(0.1, SECONDS_MAX),
        default=default,
        show_default=True,
        help="How long messages flow.",
    )


def _count(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--count",
        type=click.IntRange(1, REQUESTS_MAX),
        default=default,
        show_default=True,
        help="How many requests.",
    )


@bench.command()
@_seconds(3.0)
@click.option("--lane", type=click.Choice(LANES), default="normal", show_default=True)
@_common
def publish(seconds: float, lane: str, uvloop: bool, as_json: bool, fleet: str | None) -> None:
    """Publish from one client to another, as fast as it goes."""
    from shardctl.bench import runs

    with _measuring("publish", fleet, seconds) as (endpoint, tick):
        figures = runs.publish(endpoint, seconds, tick, lane=lane, uvloop=uvloop)
    _show("publish", figures, as_json)


@bench.command()
@_count(5000)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Requests at any time.",
)
@_common
def request(count: int, in_flight: int, uvloop: bool, as_json: bool, fleet: str | None) -> None:
    """Ask one client from another."""
    from shardctl.bench import runs

    with _measuring("request", fleet) as (endpoint, tick):
        figures = runs.request(endpoint, count, in_flight=in_flight, tick=tick, uvloop=uvloop)
    _show("request", figures, as_json)


@bench.command()
@_count(200)
@click.option(
    "--responders",
    type=click.IntRange(1, RESPONDERS_MAX),
    default=4,
    show_default=True,
    help="Clients that answer, besides the fleet's nodes.",
)
@_common
def gather(count: int, responders: int, uvloop: bool, as_json: bool, fleet: str | None) -> None:
    """Ask every node at once; the bots' nodes answer that they know nothing of it."""
    from shardctl.bench import runs

    with _measuring("gather", fleet) as (endpoint, tick):
        figures = runs.gather(endpoint, responders, count, tick=tick, uvloop=uvloop)
    _show("gather", figures, as_json)


@bench.command()
@_seconds(2.0)
@_count(500)
@_common
def priority(seconds: float, count: int, uvloop: bool, as_json: bool, fleet: str | None) -> None:
    """Ask a client in the high lane while the low lane floods it."""
    from shardctl.bench import runs

    with _measuring("priority", fleet, seconds) as (endpoint, tick):
        figures = runs.priority(endpoint, seconds, count, tick, uvloop=uvloop)
    _show("priority", figures, as_json)


@contextlib.contextmanager
def _measuring(
    name: str, fleet: str | None, seconds: float | None = None
) -> Iterator[tuple[str, Tick]]:
    """The endpoint of a fleet that answers, and a bar on stderr while it is measured."""
    from shardctl.bench.worker import WorkerFailed
    from shardctl.client import Client

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        client.status()
    try:
        with _bar(name, seconds) as tick:
            yield paths.endpoint, tick
    except WorkerFailed as error:
        raise ShardctlError(
            f"the measurement broke off: {error}",
            consequence="Its processes are ended; the fleet goes on.",
            hint=f"shardctl status --fleet {paths.fleet}",
            code="E_BENCH",
            exit_code=EXIT_TEMPFAIL,
        ) from error


@contextlib.contextmanager
def _bar(name: str, seconds: float | None) -> Iterator[Tick]:
    from shardctl.cli.show import console_for

    console = console_for(sys.stderr)
    if not console.is_terminal:
        yield lambda _elapsed_s: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("bench {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=seconds)
        yield lambda elapsed_s: bar.update(task, completed=elapsed_s)


def _show(name: str, figures: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        wanted = {key: value for key, value in figures.items() if not key.endswith("_ns")}
        echo_json({"bench": name, **wanted})
        return
    from rich.table import Table

    from shardctl.cli.show import console_for

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for key, words in _WORDS.items():
        if key in figures:
            table.add_row(words, _digits(figures[key]))
    console_for().print(table)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.2f}"
