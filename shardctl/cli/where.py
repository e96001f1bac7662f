"""`shardctl where`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from shardctl.cli.common import chosen_fleet, echo_json, fleet_option, json_option
from shardctl.cli.peers import peer_name

if TYPE_CHECKING:
    from shard_node.wire.bodies import WhereReply

GUILD_MAX: Final = 2**63 - 1
NAMES_SHOWN_MAX: Final = 16
KINDS: Final = ("shard", "node", "topic", "pool")
OTHERS: Final = "shard:N, node:NAME, topic:NAME, pool:NAME"
METAVAR: Final = "GUILD|KIND:NAME"
_EPILOG: Final = """\
Examples: shardctl where 1084201937583439872, shardctl where shard:3,
shardctl where topic:STATS_UPDATE
"""


def place(value: Any) -> tuple[int, str]:
    """A click type: a guild's id and no text, or 0 and a kind with a name."""
    kind, colon, name = str(value).partition(":")
    if not colon or kind == "guild":
        return _whole(name if colon else kind), ""
    if kind not in KINDS or not name:
        msg = f"{value!r} is none of {OTHERS} and no guild's id."
        raise click.BadParameter(msg)
    return 0, f"shard:{_whole(name)}" if kind == "shard" else f"{kind}:{name}"


def _whole(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= len(str(GUILD_MAX)):
        number = int(text)
        if number <= GUILD_MAX:
            return number
    msg = f"{text!r} is not a whole number; a guild's id is meant, or {OTHERS}."
    raise click.BadParameter(msg)


@click.command(epilog=_EPILOG)
@click.argument("meant", type=place, metavar=METAVAR)
@json_option
@fleet_option
def where(meant: tuple[int, str], as_json: bool, fleet: str | None) -> None:
    """Say who gets what is sent somewhere, and by which rule.

    A number is a guild's id; the kinds are shard:N, node:NAME (of a client too), topic:NAME
    and pool:NAME. The route is `formula`, (id >> 22) % shards, or `override`; of
    anything else `registration`, `subscriptions` or `rule`, an operator's [[routes]].
    """
    from shardctl.client import Client

    guild, what = meant
    with Client(chosen_fleet(fleet)) as client:
        reply = client.where(guild, what)
    if as_json:
        echo_json(_of_what(reply) if what else _of_guild(reply))
        return
    click.echo(_line_of_what(reply) if what else _line_of_guild(reply))
    if reply.why:
        click.echo(f"  why: {reply.why}")
    click.echo(f"  routing table: version {reply.version}")


def _of_guild(reply: WhereReply) -> dict[str, Any]:
    return {
        "guild": str(reply.guild),
        "shard": reply.shard,
        "num_shards": reply.num_shards,
        "node": reply.node,
        "route": reply.route,
        "why": reply.why,
        "version": reply.version,
    }


def _of_what(reply: WhereReply) -> dict[str, Any]:
    return {
        "what": reply.what,
        "route": reply.route,
        "to": list(reply.nodes),
        "more": reply.more,
        "lane": _lane(reply) or None,
        "why": reply.why,
        "version": reply.version,
    }


def _line_of_guild(reply: WhereReply) -> str:
    node = f"node {reply.node}" if reply.node is not None else "no node now"
    return f"guild {reply.guild}: shard {reply.shard} of {reply.num_shards}, {node} ({reply.route})"


def _line_of_what(reply: WhereReply) -> str:
    kind, _, name = reply.what.partition(":")
    of = f" of {reply.num_shards}" if kind == "shard" else ""
    some = reply.nodes[:NAMES_SHOWN_MAX]
    names = [each if kind == "node" else peer_name(each) for each in some]
    rest = len(reply.nodes) - len(names) + reply.more
    who = ", ".join(names) + (f" and {rest} more" if rest else "")
    lane = f", lane {lane}" if (lane := _lane(reply)) else ""
    return f"{kind} {name}{of}: {who or 'nobody'}{lane} ({reply.route})"


def _lane(reply: WhereReply) -> str:
    """The lane of a topic: by a rule, else its own where the vocabulary has it."""
    from shard_node.wire.topics import TOPICS

    kind, _, name = reply.what.partition(":")
    spec = TOPICS.get(name) if kind == "topic" else None
    return reply.lane or (spec.lane.name.lower() if spec is not None else "")
