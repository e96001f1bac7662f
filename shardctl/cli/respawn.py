"""`shardctl respawn`."""

from __future__ import annotations

import click

from shard_node.wire.limits import SHARDS_MAX
from shardctl.cli.common import chosen_fleet, dry_run_option, echo_json, fleet_option, json_option
from shardctl.cli.report import ranges


@click.command()
@click.argument(
    "shards", nargs=-1, required=True, type=click.IntRange(0, SHARDS_MAX - 1), metavar="SHARD..."
)
@dry_run_option("Say which shards would move; change nothing.")
@json_option
@fleet_option
def respawn(shards: tuple[int, ...], dry_run: bool, as_json: bool, fleet: str | None) -> None:
    """Start the processes that hold SHARD... again, gracefully.

    A process holds several shards: all of them move with it. Each new process IDENTIFYs
    its shards.
    """
    from shardctl.client import Client

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        reply = client.respawn(tuple(dict.fromkeys(shards)), dry_run=dry_run)
    if as_json:
        nodes = {name: list(held) for name, held in reply.nodes.items()}
        echo_json({"dry_run": dry_run, "nodes": nodes})
        return
    does = "would start again" if dry_run else "starts again"
    for name, held in sorted(reply.nodes.items()):
        moved = sorted(set(held) - set(shards))
        also = f" ({_moving(moved)} with it)" if moved else ""
        click.echo(f"node {name} {does}: shards {ranges(list(held))}{also}")
    if not dry_run:
        click.echo(f"progress: shardctl status --fleet {paths.fleet} --watch 1", err=True)


def _moving(shards: list[int]) -> str:
    return f"shards {ranges(shards)} move" if len(shards) > 1 else f"shard {shards[0]} moves"
