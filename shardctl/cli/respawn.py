"""`shardctl respawn`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from shard_node.wire.limits import SHARDS_MAX
from shardctl.cli.common import chosen_fleet, dry_run_option, echo_json, fleet_option, json_option
from shardctl.cli.report import READY, Report, ranges, settled
from shardctl.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, ShardctlError
from shardctl.paths import FleetPaths
from shardctl.running import supervisor_pid


@click.command()
@click.argument(
    "shards", nargs=-1, required=True, type=click.IntRange(0, SHARDS_MAX - 1), metavar="SHARD..."
)
@dry_run_option("Say which shards would move; change nothing.")
@click.option("--no-wait", is_flag=True, help="Return at once; the respawn goes on.")
@json_option
@fleet_option
@click.pass_context
def respawn(
    ctx: click.Context,
    shards: tuple[int, ...],
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Start the processes that hold SHARD... again, gracefully, and wait until they are ready.

    A process holds several shards: all of them move with it. Each new process IDENTIFYs
    its shards.
    """
    from shardctl.client import Client

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        before = client.status()
        reply = client.respawn(tuple(dict.fromkeys(shards)), dry_run=dry_run)
    nodes = {name: list(held) for name, held in reply.nodes.items()}
    if as_json:
        echo_json({"dry_run": dry_run, "nodes": nodes})
    else:
        _tell(nodes, set(shards), dry_run)
    if not (dry_run or no_wait):
        ctx.exit(_wait(paths, before, set(nodes)))


def _tell(nodes: Mapping[str, list[int]], shards: set[int], dry_run: bool) -> None:
    does = "would start again" if dry_run else "starts again"
    for name, held in sorted(nodes.items()):
        moved = sorted(set(held) - shards)
        also = f" ({_moving(moved)} with it)" if moved else ""
        click.echo(f"node {name} {does}: shards {ranges(held)}{also}")


def _wait(paths: FleetPaths, before: Report, names: set[str]) -> int:
    """Watch until each of the nodes has a new process whose shards are ready, or failed."""
    from shardctl.cli.progress import display, follow

    epochs = {node["id"]: node["epoch"] for node in before["nodes"]}

    def done(report: Report) -> bool:
        mine = [node for node in report["nodes"] if node["id"] in names]
        new = all(node["epoch"] > epochs[node["id"]] for node in mine)
        return new and settled({"nodes": mine, "shards": _of(report, names)})

    try:
        with display() as say:
            report = follow(paths, lambda: supervisor_pid(paths) is not None, say, done, before)
    except KeyboardInterrupt:
        click.echo(f"the respawn goes on; shardctl status --fleet {paths.fleet}", err=True)
        return EXIT_INTERRUPTED
    if report is None:
        raise ShardctlError(
            f"the fleet {paths.fleet} ended meanwhile.",
            hint=f"shardctl logs --fleet {paths.fleet}",
            code="E_FLEET_ENDED",
        )
    ready = all(shard["state"] == READY for shard in _of(report, names))
    return EXIT_OK if ready else EXIT_FAILED


def _of(report: Report, names: set[str]) -> list[dict[str, Any]]:
    return [shard for shard in report["shards"] if shard["node"] in names]


def _moving(shards: list[int]) -> str:
    return f"shards {ranges(shards)} move" if len(shards) > 1 else f"shard {shards[0]} moves"
