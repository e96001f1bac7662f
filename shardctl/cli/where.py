"""`shardctl where`."""

from __future__ import annotations

import click

from shardctl.cli.common import chosen_fleet, echo_json, fleet_option, json_option

GUILD_MAX = 2**63 - 1


@click.command()
@click.argument("guild", type=click.IntRange(0, GUILD_MAX))
@json_option
@fleet_option
def where(guild: int, as_json: bool, fleet: str | None) -> None:
    """Say which node handles GUILD, a guild's id, and by which shard.

    The route is `formula`, (id >> 22) % shards, or `override`.
    """
    from shardctl.client import Client

    with Client(chosen_fleet(fleet)) as client:
        reply = client.where(guild)
    if as_json:
        echo_json(
            {
                "guild": str(reply.guild),
                "shard": reply.shard,
                "num_shards": reply.num_shards,
                "node": reply.node,
                "route": reply.route,
            }
        )
        return
    node = f"node {reply.node}" if reply.node is not None else "no node now"
    click.echo(
        f"guild {reply.guild}: shard {reply.shard} of {reply.num_shards}, {node} ({reply.route})"
    )
