"""What the commands below `shardctl sandbox` share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from shardctl.cli.common import fleet_option, json_option
from shardctl.cli.sandbox_link import find_sandbox

Command = Callable[..., Any]

_url_option = click.option(
    "--url",
    envvar="SHARDCTL_SANDBOX_URL",
    show_envvar=True,
    metavar="URL",
    help="A sandbox that no fleet started, such as http://127.0.0.1:8080.",
)


def on_sandbox(function: Command) -> Command:
    """--json, --fleet and --url; the last two arrive as ``link``."""

    def call(*, url: str | None, fleet: str | None, **options: Any) -> Any:
        return function(link=find_sandbox(url, fleet), **options)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return json_option(fleet_option(_url_option(call)))


def targeted(function: Command) -> Command:
    """--shard and --num-shards: which gateway sessions are meant."""
    shard = click.option("--shard", type=click.IntRange(min=0), help="Only this shard.")
    num_shards = click.option(
        "--num-shards", type=click.IntRange(min=1), help="Only sessions of this shard count."
    )
    return shard(num_shards(function))


def for_seconds(function: Command) -> Command:
    """--seconds and --off of a trouble that lasts."""
    seconds = click.option("--seconds", type=click.FloatRange(min=0), help="How long it lasts.")
    off = click.option("--off", is_flag=True, help="End it now.")
    return seconds(off(function))


def echo_raw_json(value: Any) -> None:
    """JSON on stdout, as the sandbox gave it."""
    click.echo(json.dumps(value, indent=2))


def without_none(**fields: Any) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}
