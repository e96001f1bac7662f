"""The staggered start as it goes: one line a step, and a bar on a terminal.

Run as `python -P -m shardctl.cli.progress FLEET.JSON` it shows the start of a foreground
fleet; it belongs to the terminal, not to the fleet, and ends at the status.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from shardctl.cli.report import FAILED, READY, Report, budget_line, counted, ready_count, settled
from shardctl.client import Client
from shardctl.errors import NoBroker, Refused, ShardctlError
from shardctl.launch import load_record
from shardctl.paths import FleetPaths

POLL_S: Final = 0.2
ASK_TIMEOUT_S: Final = 2.0
IDLE_MAX_S: Final = 180.0
"""A start that makes no step for so long is left to go on without an onlooker."""


class Steps:
    """From one report to the next: what is new, in lines. Pure."""

    def __init__(self, before: Report | None = None) -> None:
        self._ready: set[int] = set()
        self._said: set[str] = set()
        self._planned = False
        self.done = 0
        self.total = 0
        if before is not None:
            self.lines(before)

    def lines(self, report: Report) -> list[str]:
        """What has happened since the last report."""
        new = [f"warning: {warning}" for warning in report.get("warnings", ())]
        failed = [node for node in report["nodes"] if node["state"] == FAILED]
        down = [
            f"node {node['id']} stays down: {node.get('reason') or 'it failed'}" for node in failed
        ]
        new += [line for line in down if f"warning: {line}" not in new]
        self.done, self.total = ready_count(report)
        if self.total:
            if not self._planned:
                plan = f"{counted(self.total, 'shard')} on {counted(len(report['nodes']), 'node')}"
                new.insert(0, f"{plan}; {budget_line(report)}")
            self._planned = True
        return [*self._unsaid(new), *self._new_shards(report)]

    def _unsaid(self, lines: list[str]) -> list[str]:
        fresh = [line for line in lines if line not in self._said]
        self._said.update(fresh)
        return fresh

    def _new_shards(self, report: Report) -> list[str]:
        lines = []
        for shard in report["shards"]:
            if shard["state"] != READY:
                self._ready.discard(shard["id"])
            elif shard["id"] not in self._ready:
                self._ready.add(shard["id"])
                lines.append(
                    f"shard {shard['id']} ready on node {shard['node']}, "
                    f"{counted(shard['guilds'], 'guild')} ({len(self._ready)} of {self.total})"
                )
        return lines


def follow(
    paths: FleetPaths,
    alive: Callable[[], bool],
    say: Callable[[list[str], Steps], None],
    done: Callable[[Report], bool] = settled,
    before: Report | None = None,
) -> dict[str, Any] | None:
    """Watch a start, or with ``before`` what follows that report, until it is ``done``.

    Returns the last report; None: the fleet ended. Raises ShardctlError when nothing moved
    for IDLE_MAX_S.
    """
    steps = Steps(before)
    moved = time.monotonic()
    with Client(paths, ASK_TIMEOUT_S, must_run=False) as client:
        while alive():
            report = _ask(client)
            if report is not None:
                lines = steps.lines(report)
                say(lines, steps)
                if done(report):
                    return report
                moved = time.monotonic() if lines else moved
            if time.monotonic() - moved > IDLE_MAX_S:
                raise _idle(paths)
            time.sleep(POLL_S)
    return None


def _ask(client: Client) -> dict[str, Any] | None:
    try:
        return client.status()
    except (NoBroker, Refused):
        return None


def _idle(paths: FleetPaths) -> ShardctlError:
    return ShardctlError(
        f"nothing moved for {IDLE_MAX_S:g} s.",
        consequence="The fleet is left to go on by itself.",
        hint=f"shardctl status --verbose --fleet {paths.fleet}\n"
        f"shardctl logs --fleet {paths.fleet}",
        code="E_SLOW_START",
        exit_code=75,
    )


def echo_lines(lines: list[str], _steps: Steps) -> None:
    """A step is a line."""
    for line in lines:
        click.echo(line, err=True)


@contextlib.contextmanager
def display() -> Iterator[Callable[[list[str], Steps], None]]:
    """Shows steps on stderr: a bar below the lines on a terminal, lines alone off it."""
    from shardctl.cli.show import console_for

    console = console_for(sys.stderr)
    if not console.is_terminal:
        yield echo_lines
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("shards ready"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=None)

        def say(lines: list[str], steps: Steps) -> None:
            for line in lines:
                bar.console.print(line, markup=False)
            bar.update(task, completed=steps.done, total=steps.total or None)

        yield say


def main() -> None:
    """The start of the fleet whose supervisor is our parent, line by line."""
    record = load_record(Path(sys.argv[1]))
    paths = FleetPaths(record.fleet, Path(record.data_dir), Path(record.run_dir))
    parent = os.getppid()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            report = follow(paths, lambda: os.getppid() == parent, echo_lines)
        except ShardctlError as error:
            click.echo(error.render(), err=True)
            return
        if report is not None:
            from shardctl.cli.show import console_for, print_status

            print_status(report, console_for())
            click.echo("Ctrl-C stops the fleet; a second Ctrl-C at once", err=True)


if __name__ == "__main__":
    main()
