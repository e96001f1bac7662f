"""The staggered start as it goes: one line a step, and a bar on a terminal.

Run as `python -P -m shardctl.cli.progress FLEET.JSON` it shows the start of a foreground
fleet; it belongs to the terminal, not to the fleet, and ends at the status.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from shardctl.cli.report import (
    FAILED,
    READY,
    WELL,
    Report,
    budget_line,
    counted,
    ranges,
    ready_count,
    settled,
    span,
)
from shardctl.client import Client
from shardctl.errors import NoBroker, Refused, ShardctlError
from shardctl.follow import last_lines, newest_log
from shardctl.launch import load_record
from shardctl.paths import FleetPaths

POLL_S: Final = 0.2
ASK_TIMEOUT_S: Final = 2.0
IDLE_MAX_S: Final = 180.0
"""A start that makes no step for so long is left to go on without an onlooker."""
WAIT_SAID_S: Final = 10.0
WAITS_SAID_MAX: Final = 4
LAST_LINES: Final = 5
LINE_SAID_CHARS: Final = 120


class Steps:
    """From one report to the next: what is new, in lines. Pure.

    ``window_s`` between two IDENTIFYs of a key tells how long a start takes at least.
    """

    def __init__(self, before: Report | None = None, window_s: float | None = None) -> None:
        self._window_s = window_s
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
                new.insert(0, f"{plan}{self._duration(report)}; {budget_line(report)}")
            self._planned = True
        return [*self._unsaid(new), *self._new_shards(report)]

    def _duration(self, report: Report) -> str:
        keys = (report.get("identify") or {}).get("max_concurrency")
        if not keys or self._window_s is None:
            return ""
        seconds = (math.ceil(self.total / keys) - 1) * self._window_s
        return f", at least {span(seconds)}" if seconds >= 1 else ""

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
    window_s: float | None = None,
) -> dict[str, Any] | None:
    """Watch a start, or with ``before`` what follows that report, until it is ``done``.

    Returns the last report; None: the fleet ended. Raises ShardctlError when nothing moved
    for IDLE_MAX_S.
    """
    steps = Steps(before, window_s)
    patience = Patience(time.monotonic())
    with Client(paths, ASK_TIMEOUT_S, must_run=False) as client:
        while alive():
            report = _ask(client)
            lines = steps.lines(report) if report is not None else []
            now = time.monotonic()
            if patience.waits(bool(lines), now):
                lines = patience.told(waiting(report, paths.logs_dir), now)
            say(lines, steps)
            if report is not None and done(report):
                return report
            if patience.ended(now):
                raise _idle(paths, waiting(report, paths.logs_dir))
            time.sleep(POLL_S)
    return None


class Patience:
    """How long nothing has moved, and when it is time to say so. Pure; times in seconds."""

    def __init__(self, now: float) -> None:
        self._moved = self._said = now

    def waits(self, moved: bool, now: float) -> bool:
        """Whether it is time to say what is waited for: once in WAIT_SAID_S without a step."""
        if moved:
            self._moved = self._said = now
        return now - self._said >= WAIT_SAID_S

    def told(self, causes: list[str], now: float) -> list[str]:
        """The lines that say it."""
        self._said = now
        return [f"waiting for {now - self._moved:.0f} s: {cause}" for cause in causes]

    def ended(self, now: float) -> bool:
        """Whether nobody needs to look on any longer."""
        return now - self._moved > IDLE_MAX_S


def waiting(report: Report | None, logs_dir: Path) -> list[str]:
    """What a start waits for: each node that is not up, with the last line of its log."""
    if report is None:
        return ["the broker does not answer yet"]
    if not report["nodes"]:
        causes = [str(warning) for warning in report.get("warnings", ())]
        return [f"{cause}; asked again" for cause in causes] or ["Discord's answer to /gateway/bot"]
    nodes = [node for node in report["nodes"] if node["state"] not in {*WELL, FAILED}]
    if nodes:
        return [_node_waits(node, logs_dir) for node in nodes[:WAITS_SAID_MAX]]
    return [f"shards {ranges([s['id'] for s in report['shards'] if s['state'] != READY])}"]


def _node_waits(node: Report, logs_dir: Path) -> str:
    reason = f" ({node['reason']})" if node.get("reason") else ""
    line = _last_line(newest_log(logs_dir, f"node-{node['id']}"))
    wrote = f"its last line: {line}" if line else "it has written nothing"
    return f"node {node['id']} is {node['state']}{reason}; {wrote}"


def _last_line(log: Path) -> str:
    try:
        lines, _ = last_lines(log, LAST_LINES)
    except OSError:
        return ""
    full = [line.strip() for line in lines if line.strip()]
    return full[-1][:LINE_SAID_CHARS] if full else ""


def _ask(client: Client) -> dict[str, Any] | None:
    try:
        return client.status()
    except (NoBroker, Refused):
        return None


def _idle(paths: FleetPaths, causes: list[str]) -> ShardctlError:
    lines = [*causes, "The fleet is left to go on by itself."]
    return ShardctlError(
        f"nothing moved for {IDLE_MAX_S:g} s.",
        consequence="\n".join(lines),
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
            report = follow(
                paths,
                lambda: os.getppid() == parent,
                echo_lines,
                window_s=record.identify_window_s,
            )
        except ShardctlError as error:
            click.echo(error.render(), err=True)
            return
        if report is not None:
            from shardctl.cli.show import console_for, print_status

            print_status(report, console_for())
            click.echo("Ctrl-C stops the fleet; a second Ctrl-C at once", err=True)


if __name__ == "__main__":
    main()
