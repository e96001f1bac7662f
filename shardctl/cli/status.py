"""`shardctl status`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from shardctl.cli.common import JSON_SCHEMA, chosen_fleet, fleet_option, json_option
from shardctl.cli.report import all_ready
from shardctl.cli.table import COLUMNS
from shardctl.errors import EXIT_DEGRADED, EXIT_INTERRUPTED, EXIT_OK, NoBroker


@click.command(epilog="Exit codes: 0 all shards ready, 3 degraded, 69 no broker.")
@json_option
@click.option(
    "--watch",
    "watch_s",
    type=click.FloatRange(min=0.1, max=3600),
    metavar="SECONDS",
    help="Show it again and again until Ctrl-C.",
)
@click.option(
    "--sort",
    type=click.Choice(list(COLUMNS)),
    default="shard",
    envvar="SHARDCTL_STATUS_SORT",
    show_envvar=True,
    help="The column that orders the rows.",
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="The first N rows only.")
@click.option("--verbose", "-v", is_flag=True, help="Nodes with their processes, more log lines.")
@click.option("--all", "every", is_flag=True, help="List all fleets of this user.")
@fleet_option
@click.pass_context
def status(
    ctx: click.Context,
    every: bool,
    as_json: bool,
    watch_s: float | None,
    sort: str,
    top: int | None,
    verbose: bool,
    fleet: str | None,
) -> None:
    """Show shards, nodes and the IDENTIFY budget."""
    from shardctl.client import Client

    if every:
        from shardctl.cli.fleets import echo_fleets

        echo_fleets(as_json=as_json)
        return
    show = _Show(as_json, sort, top, verbose, repeated=watch_s is not None)
    with Client(chosen_fleet(fleet)) as client:
        if watch_s is None:
            report = client.status()
            show.report(report)
            ctx.exit(EXIT_OK if all_ready(report) else EXIT_DEGRADED)
        try:
            while True:
                _look(client, show)
                time.sleep(watch_s)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


def _look(client: Any, show: _Show) -> None:
    """One look of many: a broker that is away now may be back at the next."""
    try:
        show.report(client.status())
    except NoBroker as error:
        click.echo(error.message, err=True)


class _Show:
    """How a report is printed, once or again and again."""

    def __init__(
        self, as_json: bool, sort: str, top: int | None, verbose: bool, *, repeated: bool
    ) -> None:
        self._as_json = as_json
        self._sort = sort
        self._top = top
        self._verbose = verbose
        self._repeated = repeated

    def report(self, report: dict[str, Any]) -> None:
        if self._as_json:
            value = {"schema": JSON_SCHEMA, **report}
            click.echo(json.dumps(value, indent=None if self._repeated else 2))
            return
        from shardctl.cli.show import console_for, print_status

        console = console_for()
        if self._repeated and console.is_terminal:
            console.clear()
        print_status(report, console, sort=self._sort, top=self._top, verbose=self._verbose)
        if self._repeated and not console.is_terminal:
            click.echo()
