"""`shardctl operations`."""

from __future__ import annotations

import time
from typing import Any

import click

from shardctl.cli.columns import columns
from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
)
from shardctl.cli.opwords import is_over, nodes_of, shards_of, some, summary
from shardctl.cli.report import ranges, span


@click.group(invoke_without_command=True)
@json_option
@fleet_option
@click.pass_context
def operations(ctx: click.Context, as_json: bool, fleet: str | None) -> None:
    """List what respawns, moves and so on run, or have run, latest first; or cancel one."""
    if ctx.invoked_subcommand is not None:
        return
    from shardctl.client import Client
    from shardctl.opclient import Operations

    with Client(chosen_fleet(fleet)) as client:
        found = Operations(client).all()
    if as_json:
        echo_json({"operations": found})
    elif not found:
        click.echo("there was no operation yet", err=True)
    else:
        now_ms = time.time() * 1000
        titles = ("id", "kind", "state", "shards", "nodes", "begun", "reason")
        for line in columns(titles, [_row(one, now_ms) for one in found]):
            click.echo(line)


@operations.command()
@click.argument("op", metavar="OP")
@dry_run_option("Say what would be cancelled.")
@json_option
@fleet_option
def cancel(op: str, dry_run: bool, as_json: bool, fleet: str | None) -> None:
    """Take OP back, as far as its shards have not changed hands yet."""
    from shardctl.client import Client
    from shardctl.opclient import Operations

    with Client(chosen_fleet(fleet)) as client:
        asked = Operations(client)
        shown = asked.show(op) if dry_run else asked.cancel(op)
    if as_json:
        echo_json({"dry_run": dry_run, "operation": shown})
    elif dry_run:
        over = is_over(shown)
        click.echo(summary(shown) if over else f"{op} ({shown['kind']}) would be cancelled")
    else:
        click.echo(summary(shown) if is_over(shown) else f"{op} is being cancelled")


def _row(shown: dict[str, Any], now_ms: float) -> tuple[str, ...]:
    return (
        shown["op"],
        shown["kind"],
        shown["state"],
        ranges(shards_of(shown)),
        some(nodes_of(shown)),
        f"{span((now_ms - shown['started_ms']) / 1000)} ago" if shown["started_ms"] else "-",
        shown["reason"],
    )
