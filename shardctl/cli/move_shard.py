"""`shardctl move-shard`."""

from __future__ import annotations

import click

from shard_node.wire.limits import SHARDS_MAX
from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
    no_wait_option,
    queue_option,
)
from shardctl.cli.opwords import Shown, how, of_shards


@click.command()
@click.argument("shard", type=click.IntRange(0, SHARDS_MAX - 1), metavar="SHARD")
@click.argument("node", metavar="NODE")
@queue_option
@dry_run_option("Say from where to where; change nothing.")
@no_wait_option
@json_option
@fleet_option
@click.pass_context
def move_shard(
    ctx: click.Context,
    shard: int,
    node: str,
    queue: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Hand SHARD over to NODE by RESUME; other shards are not touched."""
    from shard_node.wire.operations import MoveRequest
    from shardctl.cli.following import finish
    from shardctl.client import Client
    from shardctl.opclient import Operations

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        reply = Operations(client).move(MoveRequest(shard, node, dry_run, queue))
    plan = reply.plan
    source, target = plan.get("from", ""), plan.get("to", node)
    if dry_run:
        if as_json:
            echo_json({"dry_run": True, "plan": plan})
        else:
            click.echo(f"shard {shard} would move from {source} to {target}")
        return

    def moved(shown: Shown) -> str:
        words = filter(None, (how(one) for _, one in of_shards(shown)))
        return ", ".join((f"shard {shard} moved from {source} to {target}", *words))

    began = {"dry_run": False, "plan": plan}
    ctx.exit(finish(paths, reply.op, began, no_wait=no_wait, as_json=as_json, said=moved))
