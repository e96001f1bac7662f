"""`shardctl state export|import|check|stats`: the state's own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

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
from shardctl.cli.state_trim import trim
from shardctl.cli.transact import confirmed, user_id
from shardctl.errors import EXIT_FAILED, EXIT_OK

PARTITION_LAST: Final = 255
PROBLEMS_SHOWN_MAX: Final = 32
backup_path = click.Path(exists=True, file_okay=False, path_type=Path)
replay_option = click.option(
    "--replay-max",
    type=click.IntRange(0),
    metavar="N",
    help="Compare the rows with at most so many records of the log (1,000,000).",
)


@click.command(short_help="Write the rows of a partition to a file.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--partition", "-p", type=click.IntRange(0, PARTITION_LAST), metavar="N",
    help="The partition, 0 to 255.",
)  # fmt: skip
@click.option("--id", "owner", type=user_id, metavar="ID", help="That of this guild or user.")
@json_option
@fleet_option
def export(
    file: Path, partition: int | None, owner: int | None, as_json: bool, fleet: str | None
) -> None:
    """Write the rows of one partition to a new FILE, while the fleet runs or not."""
    if (partition is None) == (owner is None):
        raise click.UsageError("which partition? --partition N or --id ID, one of them.")
    _can_be_new(file)
    number = partition if partition is not None else _partition_of(owner or 0)
    target = str(file.absolute())
    done = at_rest(chosen_fleet(fleet), "export", partition=number, target=target)
    if as_json:
        echo_json(done)
    else:
        said = f"partition {number}: {counted(done['rows'], 'row')} as of transaction"
        click.echo(f"{said} {done['lsn']} in {file}")


def _can_be_new(file: Path) -> None:
    """Raises UsageError for a file that is there, or whose folder is not."""
    if file.exists():
        raise click.UsageError(f"{file} exists; an export goes to a new file.")
    if not file.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {file.parent} for {file.name}.")


def _partition_of(owner: int) -> int:
    from shard_node.state.keys import partition_of

    return partition_of(owner)


@click.command("import", short_help="Replace the rows of a partition.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@dry_run_option("Look at the file; change nothing.")
@json_option
@fleet_option
def import_rows(file: Path, yes: bool, dry_run: bool, as_json: bool, fleet: str | None) -> None:
    """Replace the rows of a partition with those of FILE. The fleet must not run.

    The log does not tell of it, so make a backup after it.
    """
    paths = chosen_fleet(fleet)
    if not dry_run:
        must_be_down(paths)
    if not (yes or dry_run):
        again = f"shardctl state import {file} --yes"
        confirmed("Replace the partition's rows?", "an import cannot be undone", again)
    source = str(file.absolute())
    done = at_rest(paths, "import", source=source, dry_run=dry_run)
    if as_json:
        echo_json(done)
    elif dry_run:
        click.echo(f"would replace partition {done['partition']} by {counted(done['rows'], 'row')}")
    else:
        gone = f", {done['removed']} removed" if done["removed"] else ""
        click.echo(f"partition {done['partition']}: {counted(done['written'], 'row')}{gone}")
        click.echo("next: shardctl backup create", err=True)


@click.command(short_help="Check file, log and rows.")
@replay_option
@click.option(
    "--since", type=backup_path, metavar="BACKUP", help="Replay from it, where the log is trimmed."
)
@click.option("--copy", is_flag=True, help="Check a copy, while the fleet runs.")
@json_option
@fleet_option
@click.pass_context
def check(
    ctx: click.Context,
    replay_max: int | None,
    since: Path | None,
    copy: bool,
    as_json: bool,
    fleet: str | None,
) -> None:
    """Check every byte: structure, checksums, the log's chain, rows against the log.

    The fleet must not run, but for --copy. Exits with 1 where something is wrong.
    """
    paths = chosen_fleet(fleet)
    if not copy:
        must_be_down(paths, "shardctl state check --copy")
    report = at_rest(
        paths,
        "check",
        replay_max=replay_max,
        since=str(since.absolute()) if since else "",
        copy=copy,
    )
    if as_json:
        echo_json(report)
    else:
        tell_report(report)
    ctx.exit(EXIT_OK if report["ok"] else EXIT_FAILED)


def tell_report(report: dict[str, Any]) -> None:
    """What a check found, for people."""
    problems = report["problems"]
    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        click.echo(f"  {problem}")
    if len(problems) > PROBLEMS_SHOWN_MAX:
        click.echo(f"  and {len(problems) - PROBLEMS_SHOWN_MAX} more (--json)")
    for note in report["notes"]:
        click.echo(f"note: {note}")
    if problems:
        click.echo(counted(len(problems), "problem"))
        return
    replayed = ", which lead to these rows" if report["replayed"] else ""
    records = counted(report["records"], "record")
    click.echo(
        f"clean: {counted(report['rows'], 'row')}; a whole chain of {records} up to "
        f"transaction {report['lsn']}{replayed}"
    )


@click.command()
@json_option
@fleet_option
def stats(as_json: bool, fleet: str | None) -> None:
    """Show how large the state is: file, log, rows by table; with --json each partition, too."""
    found = at_rest(chosen_fleet(fleet), "stats")
    if as_json:
        echo_json(found)
        return
    log = found["log"]
    click.echo(f"file: {size(found['file_bytes'])}, {size(found['used_bytes'])} of it in use")
    records = log["last"] - log["first"] + 1
    click.echo(f"log: {counted(records, 'record')}, {log['first']} to {log['last']}")
    click.echo(f"partitions with rows: {found['partitions']} of {PARTITION_LAST + 1}")
    for line in columns(("table", "rows"), list(_tables(found["tables"])), "rows"):
        click.echo(line)


def _tables(counts: dict[str, int]) -> Iterator[list[str]]:
    """Lines of the table: by name what people put there, then all that follows from it."""
    from shard_node.state.keys import BOOKKEEPING, Table

    kept = {table.name.lower() for table in BOOKKEEPING | {Table.TOTAL}}
    for name, count in counts.items():
        if name not in kept:
            yield [name, str(count)]
    yield ["bookkeeping", str(sum(count for name, count in counts.items() if name in kept))]


FILE_VERBS: Final = (export, import_rows, check, stats, trim)
