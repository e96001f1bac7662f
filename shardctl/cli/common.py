"""What several commands share: options and the choice of the fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click

from shardctl.paths import FleetPaths, fleet_name, fleet_paths

JSON_SCHEMA: Final = 1

fleet_option = click.option(
    "--fleet",
    envvar="SHARDCTL_FLEET",
    show_envvar=True,
    metavar="NAME",
    help="The fleet; by default that of the bot in this folder.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def chosen_fleet(fleet: str | None, folder: Path | None = None) -> FleetPaths:
    """The places of the fleet that ``--fleet``, its variable or the folder names."""
    return fleet_paths(fleet or fleet_name(folder or Path.cwd()))


def echo_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout, with the schema's number first."""
    click.echo(json.dumps({"schema": JSON_SCHEMA, **value}, indent=2))
