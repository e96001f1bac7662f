"""`shardctl reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from shardctl.cli.columns import safe
from shardctl.cli.common import chosen_fleet, dry_run_option, echo_json, fleet_option, json_option
from shardctl.errors import EXIT_FAILED, EXIT_NOT_FOUND, EXIT_OK, ShardctlError

if TYPE_CHECKING:
    from shardctl.opclient import Operations

TIMEOUT_S: Final = 30.0
"""Of each node, one after the other: an extension may take long to load."""
_NOT_LOADED: Final = "ExtensionNotLoaded"


@click.command()
@click.argument("extension", metavar="EXTENSION")
@dry_run_option("Name the nodes; change nothing.")
@json_option
@fleet_option
@click.pass_context
def reload(
    ctx: click.Context, extension: str, dry_run: bool, as_json: bool, fleet: str | None
) -> None:
    """Reload EXTENSION, such as cogs.fun, on every node, and say how it went on each."""
    from shardctl.client import Client
    from shardctl.opclient import Operations

    with Client(chosen_fleet(fleet), TIMEOUT_S) as client:
        names = [node["id"] for node in client.status()["nodes"] if node["pid"]]
        if dry_run:
            if as_json:
                echo_json({"dry_run": True, "extension": extension, "nodes": names})
            else:
                click.echo(f"{extension} would be reloaded on {', '.join(names) or 'no node'}")
            return
        errors = {name: _reload(Operations(client), extension, name) for name in names}
    if as_json:
        echo_json({"dry_run": False, "extension": extension, "nodes": errors})
    else:
        width = max(map(len, errors), default=0)
        for name, error in sorted(errors.items()):
            click.echo(f"{name.ljust(width)}  {safe(error) or 'reloaded'}")
    ctx.exit(exit_code(errors))


def _reload(operations: Operations, extension: str, node: str) -> str:
    """What went wrong on a node, or an empty text: the other nodes have their turn."""
    try:
        return operations.reload(extension, node)
    except ShardctlError as error:
        return error.message


def exit_code(errors: dict[str, str]) -> int:
    """4 where no node has it loaded, 1 where any failed."""
    if not any(errors.values()):
        return EXIT_OK
    nowhere = all(error.startswith(_NOT_LOADED) for error in errors.values())
    return EXIT_NOT_FOUND if nowhere else EXIT_FAILED
