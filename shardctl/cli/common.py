"""What several commands share: options and the choice of the fleet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from shardctl.config import load
from shardctl.errors import ConfigError
from shardctl.keeping import length_ms
from shardctl.paths import FleetPaths, fleet_name, fleet_paths
from shardctl.running import where_it_runs

JSON_SCHEMA: Final = 1

fleet_option = click.option(
    "--fleet",
    envvar="SHARDCTL_FLEET",
    show_envvar=True,
    metavar="NAME",
    help="The fleet; by default that of the bot in this folder.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def dry_run_option(text: str) -> Callable[[Any], Any]:
    """``--dry-run``, which every verb that changes something has."""
    return click.option("--dry-run", is_flag=True, help=text)


def chosen_fleet(fleet: str | None, folder: Path | None = None) -> FleetPaths:
    """The places of the fleet: ``--fleet`` or its variable, the folder's file, its path."""
    if not fleet:
        folder = folder or this_folder()
        fleet = load(folder).get("fleet") or fleet_name(folder)
    return where_it_runs(fleet_paths(fleet))


def this_folder() -> Path:
    """The working folder. Raises ConfigError where it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "this folder is gone: it was deleted or moved.",
            consequence="Which fleet is meant is told by the folder.",
            hint="cd into the bot's folder, or use --fleet NAME",
            code="E_NO_FOLDER",
        ) from None


def echo_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout, with the schema's number first."""
    click.echo(json.dumps({"schema": JSON_SCHEMA, **value}, indent=2))


class Length(click.ParamType[float]):
    """A length such as `30m` or `1h30m`, or a number of seconds; its value is in seconds."""

    name = "length"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        seconds = float(value) if value.isdecimal() else length_ms(value) / 1000
        if seconds <= 0:
            self.fail(f"{value!r} is no length such as 30m or 90.", param, ctx)
        return seconds


no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Print the operation's id and return; it goes on."
)
queue_option = click.option(
    "--queue", is_flag=True, help="Wait for an operation that has the same shards."
)
