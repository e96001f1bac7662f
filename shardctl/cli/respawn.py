"""`shardctl respawn`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from shard_node.wire.bodies import RespawnReply, RespawnRequest
from shard_node.wire.limits import SHARDS_MAX
from shardctl.cli.common import (
    Length,
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
    no_wait_option,
    queue_option,
)
from shardctl.cli.opwords import some
from shardctl.cli.report import counted, ranges, span

NODES_SAID_MAX: Final = 8
"""More nodes are said in one line."""


@click.command()
@click.argument("shards", nargs=-1, type=click.IntRange(0, SHARDS_MAX - 1), metavar="[SHARD...]")
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="This node; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="All nodes, one after the other.")
@click.option(
    "--max-unavailable",
    type=click.IntRange(1, 4096),
    default=1,
    metavar="K",
    show_default=True,
    help="So many nodes at a time.",
)
@click.option("--abort-on-fail", is_flag=True, help="Replace no more nodes after one that failed.")
@click.option("--in-sequence", is_flag=True, help="The old process ends before the new one starts.")
@click.option(
    "--drain-voice",
    "drain_voice_s",
    type=Length(),
    default=0.0,
    metavar="LENGTH",
    help="Wait so long, such as 30m, for voice clients to leave.",
)
@queue_option
@dry_run_option("Say which processes would be replaced; change nothing.")
@no_wait_option
@json_option
@fleet_option
@click.pass_context
def respawn(
    ctx: click.Context,
    /,
    shards: tuple[int, ...],
    nodes: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    no_wait: bool,
    as_json: bool,
    fleet: str | None,
    **options: Any,
) -> None:
    """Replace the processes that hold SHARD..., those of a node, or all, and wait for it.

    A process holds several shards: all of them go along. The new one gets ready beside the old
    one and RESUMEs its sessions; if it does not get ready, the old one goes on.
    """
    from shardctl.cli.following import finish
    from shardctl.client import Client
    from shardctl.opclient import Operations

    if sum(map(bool, (shards, nodes, everything))) != 1:
        raise click.UsageError("name SHARD..., --node NAME or --all: one of the three.", ctx)
    chosen = {"nodes": nodes, "everything": everything, **options}
    held = tuple(dict.fromkeys(shards))
    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        operations = Operations(client)
        planned = operations.respawn(RespawnRequest(held, dry_run=True, **chosen))
        if dry_run and as_json:
            echo_json({"dry_run": True, **_plain(planned)})
            return
        for line in plan_lines(planned, set(shards), dry_run=dry_run, **options):
            click.echo(line, err=not dry_run)
        if dry_run:
            return
        reply = operations.respawn(RespawnRequest(held, **chosen))
    began = {"dry_run": False, **_plain(reply)}
    ctx.exit(finish(paths, reply.op, began, no_wait=no_wait, as_json=as_json))


def _plain(reply: RespawnReply) -> dict[str, Any]:
    return {"nodes": {name: list(held) for name, held in reply.nodes.items()}, "plan": reply.plan}


def plan_lines(
    reply: RespawnReply,
    shards: set[int],
    *,
    dry_run: bool,
    drain_voice_s: float = 0.0,
    max_unavailable: int = 1,
    **_options: Any,
) -> list[str]:
    """The nodes with the shards that go along, where two processes do not fit, and voice. Pure."""
    will = "would be replaced" if dry_run else "will be replaced"
    if len(reply.nodes) > NODES_SAID_MAX:
        held = ranges([shard for held in reply.nodes.values() for shard in held])
        lines = [f"{len(reply.nodes)} nodes {will}, {max_unavailable} at a time: shards {held}"]
    else:
        lines = [
            f"node {name} {will}: shards {ranges(list(held))}{_along(held, shards)}"
            for name, held in sorted(reply.nodes.items())
        ]
    lines += _sequence_lines(reply.plan.get("in_sequence") or {})
    voice = sum(int(count) for count in (reply.plan.get("voice") or {}).values())
    if voice:
        lines.append(_voice_line(voice, drain_voice_s))
    return lines


def _along(held: Sequence[int], shards: set[int]) -> str:
    """The shards that nobody asked for, but that live in the same process."""
    along = sorted(set(held) - shards) if shards else []
    if not along:
        return ""
    moves = f"shards {ranges(along)} move" if len(along) > 1 else f"shard {along[0]} moves"
    return f" ({moves} with it)"


def _sequence_lines(reasons: Mapping[str, str]) -> list[str]:
    """Where the old process ends first, once for each reason."""
    nodes: dict[str, list[str]] = {}
    for name, reason in sorted(reasons.items()):
        nodes.setdefault(reason, []).append(name)
    return [
        f"node{'s' * (len(names) != 1)} {some(names)} in sequence, the old process ends first: "
        f"{reason}"
        for reason, names in nodes.items()
    ]


def _voice_line(clients: int, drain_voice_s: float) -> str:
    words = counted(clients, "voice client")
    one = clients == 1
    if drain_voice_s:
        return f"{words} {'gets' if one else 'get'} {span(drain_voice_s)} to leave"
    return f"{words} will drop; --drain-voice 30m waits for {'it' if one else 'them'}"
