"""`shardctl wait`."""

from __future__ import annotations

import click

from shardctl.cli.common import Length, chosen_fleet, echo_json, fleet_option, json_option
from shardctl.cli.opwords import header, is_over


@click.command()
@click.argument("op", metavar="OP")
@click.option(
    "--timeout",
    "timeout_s",
    type=Length(),
    metavar="LENGTH",
    help="Wait so long at most, such as 90 (seconds) or 10m.",
)
@json_option
@fleet_option
@click.pass_context
def wait(
    ctx: click.Context, op: str, timeout_s: float | None, as_json: bool, fleet: str | None
) -> None:
    """Wait until the operation OP is over; Ctrl-C leaves it to go on."""
    from shardctl.cli.following import conclude, detached, follow
    from shardctl.client import Client
    from shardctl.opclient import Operations

    paths = chosen_fleet(fleet)
    with Client(paths) as client:
        shown = Operations(client).show(op)
    past = is_over(shown)
    if not past:
        click.echo(header(shown), err=True)
        try:
            shown = follow(paths, op, timeout_s)
        except KeyboardInterrupt:
            ctx.exit(detached(paths, op))
    if as_json:
        echo_json({"operation": shown})
    ctx.exit(conclude(paths, shown, quiet=as_json, past=past))
