"""`shardctl reconnect`."""

from __future__ import annotations

from typing import Final

import click

from shard_node.wire.limits import SHARDS_MAX
from shardctl.cli.common import chosen_fleet, dry_run_option, echo_json, fleet_option, json_option

TIMEOUT_S: Final = 90.0
"""A new session waits for its permit."""


@click.command()
@click.argument("shard", type=click.IntRange(0, SHARDS_MAX - 1), metavar="SHARD")
@click.option("--fresh", is_flag=True, help="IDENTIFY, with a new session, within the budget.")
@dry_run_option("Say where and how; change nothing.")
@json_option
@fleet_option
def reconnect(shard: int, fresh: bool, dry_run: bool, as_json: bool, fleet: str | None) -> None:
    """Open the gateway connection of SHARD anew, by RESUME; its process goes on."""
    from shard_node.wire.operations import ReconnectRequest
    from shardctl.cli.known import node_of
    from shardctl.client import Client
    from shardctl.opclient import Operations

    with Client(chosen_fleet(fleet), TIMEOUT_S) as client:
        if dry_run:
            node = node_of(client.status(), shard)
            if as_json:
                echo_json({"dry_run": True, "shard": shard, "node": node, "fresh": fresh})
            else:
                does = "IDENTIFY with a new session" if fresh else "RESUME"
                click.echo(f"shard {shard} of node {node} would {does}")
            return
        reply = Operations(client).reconnect(ReconnectRequest(shard, fresh))
    if as_json:
        found = {"node": reply.node, "gap_ms": reply.gap_ms, "identified": reply.identified}
        echo_json({"dry_run": False, "shard": shard, **found})
        return
    how = "identified" if reply.identified else "resumed"
    click.echo(f"shard {shard} of node {reply.node} {how} in {reply.gap_ms:.0f} ms")
