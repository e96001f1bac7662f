"""`shardctl balance`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from shardctl.cli.columns import columns
from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
    no_wait_option,
)
from shardctl.cli.report import size


@click.command()
@dry_run_option("Print the moves; change nothing.")
@no_wait_option
@json_option
@fleet_option
@click.pass_context
def balance(
    ctx: click.Context, dry_run: bool, no_wait: bool, as_json: bool, fleet: str | None
) -> None:
    """Move shards from busy nodes to idle ones, by events, CPU and memory."""
    from shard_node.wire.operations import BalanceRequest
    from shardctl.cli.following import finish
    from shardctl.client import Client
    from shardctl.opclient import Operations

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        reply = Operations(client).balance(BalanceRequest(dry_run))
    began = {"dry_run": dry_run, "plan": reply.plan}
    if not as_json:
        for line in moves_lines(reply.plan):
            click.echo(line, err=bool(reply.op))
    if not reply.op:
        if as_json:
            echo_json({"op": "", **began})
        return
    ctx.exit(finish(paths, reply.op, began, no_wait=no_wait, as_json=as_json))


def moves_lines(plan: Mapping[str, Any]) -> list[str]:
    """The moves as a table, or why there are none."""
    moves = plan.get("moves") or ()
    if not moves:
        times = plan.get("imbalance", 1.0)
        return [f"nothing to move: the busiest node has {times:.2f}x the mean load"]
    titles = ("shard", "from", "to", "events/s", "CPU", "memory", "gain")
    return list(columns(titles, [_row(move) for move in moves], "shard events/s CPU memory gain"))


def _row(move: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(move["shard"]),
        str(move["from"]),
        str(move["to"]),
        f"{move.get('events_per_s', 0.0):.1f}",
        f"{100 * move.get('cpu', 0.0):.0f} %",
        size(move.get("rss_bytes")),
        f"{100 * move.get('gain', 0.0):.0f} %",
    )
