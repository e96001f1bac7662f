"""`shardctl routes`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from shardctl.cli.common import chosen_fleet, echo_json, fleet_option, json_option
from shardctl.cli.peers import peer_name
from shardctl.cli.report import counted
from shardctl.routes import in_words

ROWS_SHOWN_MAX: Final = 32
"""Of each section; `--json` has all that the broker tells."""
NAMES_SHOWN_MAX: Final = 16


@click.command(epilog="What a rule is: shardctl(1), ROUTING RULES. One entry: shardctl where.")
@json_option
@fleet_option
def routes(as_json: bool, fleet: str | None) -> None:
    """Show the routing table: nodes, clients, topics, guild overrides, the operator's rules."""
    from shardctl.client import Client

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        table = client.routes()
    if as_json:
        echo_json(table)
        return
    shards = counted(table["num_shards"], "shard")
    click.echo(f"{paths.fleet}: routing table version {table['version']}, {shards}")
    for line in lines(table):
        click.echo(line)


def lines(table: Mapping[str, Any]) -> Iterator[str]:
    """The sections of the table; each is bounded and says what it leaves out."""
    more = table["more"]
    yield from _section("nodes", [_node(node) for node in table["nodes"]], more["nodes"])
    yield from _section("clients", [_client(name) for name in table["clients"]])
    others = more.get("subscribers", {})
    topics = [(name, _names(who, others.get(name, 0))) for name, who in table["topics"].items()]
    yield from _section("topics", topics, more["topics"])
    overrides = [(f"guild {guild}", f"node {name}") for guild, name in table["overrides"].items()]
    yield from _section("overrides", overrides, more["overrides"])
    rules = [tuple(_rule(rule).split(" -> ", 1)) for rule in table["rules"]]
    yield from _section("rules", rules, more.get("rules", 0))


def _section(title: str, rows: Sequence[tuple[str, ...]], untold: int = 0) -> Iterator[str]:
    if not rows:
        yield f"{title}: none"
        return
    yield f"{title}:"
    shown = rows[:ROWS_SHOWN_MAX]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    for row in shown:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()
    rest = len(rows) - len(shown) + untold
    if rest:
        yield f"  and {rest} more (--json)"


def _node(node: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"{node['id']}#{node['epoch']}" if node["epoch"] else node["id"]
    state = counted(node["topics"], "topic") if node["registered"] else "not registered"
    return name, f"shards {_ranges(node['shards'])}", state


def _ranges(ranges: Sequence[Sequence[int]]) -> str:
    shown = ranges[:NAMES_SHOWN_MAX]
    text = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in shown)
    rest = len(ranges) - len(shown)
    return (text or "-") + (f" and {rest} more" if rest else "")


def _client(name: str) -> tuple[str, ...]:
    return peer_name(name).removeprefix("client "), name


def _names(names: Sequence[str], untold: int) -> str:
    shown = [peer_name(name) for name in names[:NAMES_SHOWN_MAX]]
    rest = len(names) - len(shown) + untold
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _rule(rule: Mapping[str, Any]) -> str:
    to = rule.get("to")
    if isinstance(to, list) and len(to) > NAMES_SHOWN_MAX:
        rest = len(to) - NAMES_SHOWN_MAX
        rule = {
            **rule,
            "to": [*to[: NAMES_SHOWN_MAX - 1], f"{to[NAMES_SHOWN_MAX - 1]} and {rest} more"],
        }
    return in_words(rule)
