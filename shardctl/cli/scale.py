"""`shardctl scale`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from shardctl.cli.balance import moves_lines
from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
    no_wait_option,
    queue_option,
)
from shardctl.cli.opwords import some
from shardctl.cli.report import ranges
from shardctl.config import NODES_MAX
from shardctl.errors import Refused


@click.command()
@click.option(
    "--nodes", type=click.IntRange(1, NODES_MAX), required=True, metavar="N", help="So many."
)
@queue_option
@dry_run_option("Say which nodes begin or end, and which shards move; change nothing.")
@no_wait_option
@json_option
@fleet_option
@click.pass_context
def scale(
    ctx: click.Context,
    nodes: int,
    queue: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Have N nodes: new ones take shards over, or the last ones give theirs up and end."""
    from shard_node.wire.operations import ScaleRequest
    from shardctl.cli.following import finish
    from shardctl.client import Client
    from shardctl.opclient import Operations

    paths = chosen_fleet(fleet)
    try:
        with Client(paths) as client:
            reply = Operations(client).scale(ScaleRequest(nodes, dry_run, queue))
    except Refused as error:
        if error.code != "E_BAD_REQUEST":
            raise
        raise click.UsageError(f"{error.message}; {error.hint}", ctx) from error
    began = {"dry_run": dry_run, "plan": reply.plan}
    if not as_json:
        click.echo(plan_line(reply.plan, nodes), err=bool(reply.op))
        for line in moves_lines(reply.plan) if dry_run and reply.plan.get("moves") else ():
            click.echo(line)
    if not reply.op:
        if as_json:
            echo_json({"op": "", **began})
        return
    ctx.exit(finish(paths, reply.op, began, no_wait=no_wait, as_json=as_json))


def plan_line(plan: Mapping[str, Any], nodes: int) -> str:
    """`new nodes c d; shards 3, 7 move`."""
    parts = []
    for key, word in (("start", "new"), ("end", "ending")):
        names = plan[key]
        if names:
            parts.append(f"{word} node{'s' * (len(names) != 1)} {some(names)}")
    moved = [move["shard"] for move in plan["moves"]]
    if moved:
        one = len(moved) == 1
        parts.append(f"shard{'' if one else 's'} {ranges(moved)} move{'s' * one}")
    if parts:
        return "; ".join(parts)
    return f"there {'is 1 node' if nodes == 1 else f'are {nodes} nodes'} already"
