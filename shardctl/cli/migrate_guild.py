"""`shardctl migrate-guild`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from shardctl.cli.columns import safe
from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
    no_wait_option,
    queue_option,
)
from shardctl.cli.opwords import Shown, of_guild

if TYPE_CHECKING:
    from shardctl.paths import FleetPaths

GUILD_MAX: Final = (1 << 63) - 1
DRAIN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
DRAIN_MAX_S: Final = 60.0
HEAD: Final = ("GUILD", "SHARD", "GATEWAY", "HANDLED BY", "WANTED", "WAITING", "GIVEN BACK")
_EPILOG: Final = """\
Examples: shardctl migrate-guild 1084201937583439872 c,
shardctl migrate-guild 1084201937583439872 shard:3,
shardctl migrate-guild 1084201937583439872 --back
"""


def seconds(value: Any) -> float:
    """A click type: `100ms` or `2s`, in seconds."""
    if isinstance(value, float):
        return value
    found = DRAIN.fullmatch(str(value).strip())
    if found is not None:
        drain_s = float(found[1]) / (1000 if found[2] == "ms" else 1)
        if drain_s <= DRAIN_MAX_S:
            return drain_s
    msg = f"{value!r} is no time up to {DRAIN_MAX_S:g}s, like 100ms or 2s."
    raise click.BadParameter(msg)


def whither(target: str) -> tuple[str, int]:
    """A node's name and -1, or "" and a shard's number.

    >>> whither("c"), whither("shard:3"), whither("3")
    (('c', -1), ('', 3), ('', 3))
    """
    text = target.removeprefix("shard:")
    if text.isascii() and text.isdecimal() and len(text) <= len(str(GUILD_MAX)):
        return "", int(text)
    if text != target:
        msg = f"{target!r} names no shard; shard:3 is meant, or a node's name."
        raise click.BadParameter(msg, param_hint="TARGET")
    return target, -1


@click.command(epilog=_EPILOG)
@click.argument("guild", type=click.IntRange(1, GUILD_MAX), required=False, metavar="GUILD")
@click.argument("target", required=False, metavar="TARGET")
@click.option("--back", is_flag=True, help="To the node that has its shard.")
@click.option("--list", "listed", is_flag=True, help="Show the guilds that were given away.")
@click.option("--drain", type=seconds, default="100ms", metavar="TIME",
              help="So long its handlers may end, 100ms.")  # fmt: skip
@queue_option
@dry_run_option("Say from where to where; change nothing.")
@no_wait_option
@json_option
@fleet_option
@click.pass_context
def migrate_guild(
    ctx: click.Context,
    guild: int | None,
    target: str | None,
    back: bool,
    listed: bool,
    drain: float,
    queue: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Have GUILD handled by TARGET, a node or shard:N, while its shard stays where it is."""
    from shard_node.wire.migration import MigrateRequest

    paths = chosen_fleet(fleet)
    if listed:
        if guild is not None or back:
            msg = "--list stands alone."
            raise click.UsageError(msg)
        _list(paths, as_json=as_json)
        return
    if guild is None or (target is None) == (not back):
        msg = "name a GUILD, and a TARGET or --back."
        raise click.UsageError(msg)
    node, shard = whither(target) if target is not None else ("", -1)
    request = MigrateRequest(guild, node, shard, back, dry_run, queue, drain)
    ctx.exit(_migrate(paths, request, no_wait=no_wait, as_json=as_json))


def _migrate(paths: FleetPaths, request: Any, *, no_wait: bool, as_json: bool) -> int:
    from shardctl.cli.following import finish
    from shardctl.client import Client
    from shardctl.opclient import Operations

    with Client(paths) as client:
        plan = Operations(client).migrate(request)
    words = f"guild {request.guild} (shard {plan.plan['shard']})"
    source, target = plan.plan["from"], plan.plan["to"]
    if request.dry_run:
        if as_json:
            echo_json({"dry_run": True, "plan": plan.plan})
        else:
            click.echo(f"{words} would go from node {source} to node {target}")
        return 0
    if not (as_json or no_wait):
        click.echo(f"{words} goes from node {source} to node {target}", err=True)

    def said(shown: Shown) -> str:
        return f"{of_guild(shown)}; {shown['op']}"

    began = {"dry_run": False, "plan": plan.plan}
    return finish(paths, plan.op, began, no_wait=no_wait, as_json=as_json, said=said)


def _list(paths: FleetPaths, *, as_json: bool) -> None:
    from shardctl.client import Client
    from shardctl.opclient import Operations

    with Client(paths) as client:
        guilds = Operations(client).migrations()
    if as_json:
        echo_json({"guilds": guilds})
        return
    if not guilds:
        click.echo("no guild was given away: each is handled by its shard's node")
        return
    rows = [HEAD, *(_row(one) for one in guilds)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _row(one: Mapping[str, Any]) -> Sequence[str]:
    back = str(one["given_back"] or "-")
    here = one["process"] or "nobody now"
    return (
        one["guild"], str(one["shard"]), safe(one["gateway_node"]) or "-", safe(here),
        safe(one["wanted"]), str(one["waiting"]), back,
    )  # fmt: skip
