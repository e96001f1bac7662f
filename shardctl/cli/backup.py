"""`shardctl backup create|list|verify|restore`."""

from __future__ import annotations

import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from shardctl.cli.columns import columns
from shardctl.cli.common import (
    chosen_fleet,
    dry_run_option,
    echo_json,
    fleet_option,
    json_option,
)
from shardctl.cli.offline import at_rest, must_be_down
from shardctl.cli.report import counted, size
from shardctl.cli.state_files import backup_path, replay_option, tell_report
from shardctl.cli.transact import confirmed
from shardctl.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, ShardctlError
from shardctl.keeping import BACKUPS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def backup() -> None:
    """Copies of the shared state: rows, log, and a manifest with its digest."""


@backup.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@json_option
@fleet_option
def create(folder: Path | None, as_json: bool, fleet: str | None) -> None:
    """Copy the state into the new FOLDER, while the fleet runs or not.

    Without FOLDER it goes into the data folder's `backups`, named by the moment.
    """
    paths = chosen_fleet(fleet)
    if folder is not None:
        _can_be_new(folder)
    target = folder or paths.data_dir / BACKUPS / f"{datetime.now().astimezone():%Y%m%dT%H%M%S%f}"
    done = at_rest(paths, "backup", target=str(target.absolute()))
    if as_json:
        echo_json(done)
        return
    click.echo(done["folder"])
    said = f"{counted(done['rows'], 'row')}, {size(done['size_bytes'])}, up to transaction"
    click.echo(f"{said} {done['lsn']}\nnext: shardctl backup verify {done['folder']}", err=True)


def _can_be_new(folder: Path) -> None:
    """Raises ShardctlError for a folder that is there, or whose own folder is not."""
    if os.path.lexists(folder):
        raise ShardctlError(
            f"{folder} exists; a backup goes into a new folder.",
            consequence="No backup was made.",
            hint="shardctl backup create ANOTHER\nshardctl backup list   shows those there are",
            code="E_TAKEN",
            exit_code=EXIT_USAGE,
        )
    if not folder.absolute().parent.is_dir():
        raise ShardctlError(
            f"there is no folder {folder.parent} for the backup {folder.name}.",
            consequence="No backup was made, nor that folder: the path may be mistyped.",
            hint=f"mkdir -p {shlex.quote(str(folder.parent))}   if it is right",
            code="E_NO_FOLDER",
            exit_code=EXIT_USAGE,
        )


@backup.command("list")
@json_option
@fleet_option
def list_backups(as_json: bool, fleet: str | None) -> None:
    """List the backups: the broker's own, and those in the data folder; the newest last.

    The broker verified its own when it made them; of others `backup verify` tells.
    """
    found = at_rest(chosen_fleet(fleet), "backups")
    if as_json:
        echo_json(found)
        return
    if not found["backups"]:
        click.echo("no backups; shardctl backup create makes one", err=True)
        return
    rows = [_row(one) for one in found["backups"]]
    for line in columns(("made", "transactions", "size", "by", "verified", "folder"), rows, "size"):
        click.echo(line)


def _row(one: dict[str, Any]) -> list[str]:
    made = datetime.fromtimestamp(one["made_at_s"]).astimezone()
    verified = "failed" if one["failed"] else "yes" if one["verified"] else "-"
    return [
        f"{made:%Y-%m-%d %H:%M:%S}",
        f"{one['first']}-{one['lsn']}",
        size(one["size_bytes"]),
        "broker" if one["auto"] else "hand",
        verified,
        one["folder"],
    ]


@backup.command()
@click.argument("folder", type=backup_path)
@replay_option
@json_option
@fleet_option
@click.pass_context
def verify(
    ctx: click.Context, folder: Path, replay_max: int | None, as_json: bool, fleet: str | None
) -> None:
    """Check every byte of a backup. Exits with 1 where something is wrong."""
    source = str(folder.absolute())
    report = at_rest(chosen_fleet(fleet), "verify", source=source, replay_max=replay_max)
    if as_json:
        echo_json(report)
    else:
        tell_report(report)
    ctx.exit(EXIT_OK if report["ok"] else EXIT_FAILED)


@backup.command()
@click.argument("folder", type=backup_path)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@dry_run_option("Verify the backup; change nothing.")
@json_option
@fleet_option
def restore(folder: Path, yes: bool, dry_run: bool, as_json: bool, fleet: str | None) -> None:
    """Put a backup, verified first, in the place of the state. The fleet must not run.

    What was there stays beside it, until the next restore.
    """
    paths = chosen_fleet(fleet)
    if not dry_run:
        must_be_down(paths)
    if not (yes or dry_run):
        confirmed(
            f"Replace the state of {paths.fleet} by {folder}?",
            "a restore takes back all that was done since the backup",
            f"shardctl backup restore {folder} --yes",
        )
    done = at_rest(paths, "restore", source=str(folder.absolute()), dry_run=dry_run)
    if as_json:
        echo_json(done)
        return
    what = f"{folder}: {counted(done['rows'], 'row')}, up to transaction {done['lsn']}"
    click.echo(f"would restore {what}" if dry_run else f"restored {what}")
    if not dry_run:
        click.echo(f"what was there: {done['kept']}", err=True)
