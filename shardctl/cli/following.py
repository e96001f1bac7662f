"""Follows an operation to its end: a line a step, and a bar for each shard on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from shardctl.cli.common import echo_json
from shardctl.cli.opwords import (
    DONE,
    FAILED,
    GUILD_KINDS,
    PHASES_ALL,
    RESPAWN,
    Shown,
    Told,
    bars,
    held_count,
    is_over,
    summary,
    waits_for,
    what_they_run,
)
from shardctl.cli.report import span
from shardctl.client import Client
from shardctl.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TEMPFAIL,
    NoBroker,
    ShardctlError,
)
from shardctl.opclient import Operations
from shardctl.paths import FleetPaths
from shardctl.running import supervisor_pid

POLL_S: Final = 0.1
ASK_TIMEOUT_S: Final = 2.0
BARS_MAX: Final = 16
ALL: Final = "all"
"""The key of the bar for the whole operation."""
Say = Callable[[list[str], Shown], None]


def finish(
    paths: FleetPaths,
    op: str,
    began: dict[str, Any],
    *,
    no_wait: bool,
    as_json: bool,
    said: Callable[[Shown], str] = summary,
) -> int:
    """What follows once an operation has begun: its id, or its way to the end. Returns the exit
    code. ``began`` goes into the JSON; ``said`` is the last line of one that is done."""
    if no_wait:
        if as_json:
            echo_json({"op": op, **began})
        else:
            click.echo(op)
            click.echo(f"it goes on: {_wait_hint(paths, op)}", err=True)
        return EXIT_OK
    try:
        shown = follow(paths, op)
    except KeyboardInterrupt:
        return detached(paths, op)
    if as_json:
        echo_json({"op": op, **began, "operation": shown})
    return conclude(paths, shown, said, quiet=as_json)


def detached(paths: FleetPaths, op: str) -> int:
    """Ctrl-C ends the looking, not what is looked at. Returns the exit code."""
    click.echo(f"detached from {op}; it goes on. {_wait_hint(paths, op)}", err=True)
    return EXIT_INTERRUPTED


def conclude(
    paths: FleetPaths,
    shown: Shown,
    said: Callable[[Shown], str] = summary,
    *,
    quiet: bool = False,
    past: bool = False,
) -> int:
    """The last line, and the exit code. Raises ShardctlError for one that is not done. ``past``:
    it was over before anybody looked, and what its nodes run now may have other reasons."""
    if shown["state"] == DONE:
        if not quiet:
            click.echo(said(shown))
        return EXIT_OK
    lines, hints = ([], []) if past else _what_is_there(paths, shown)
    raise ShardctlError(
        f"{summary(shown)}.",
        consequence="\n".join(lines),
        hint="\n".join(hints),
        code="E_CANCELLED" if shown["state"] == "cancelled" else "E_OPERATION",
    )


def _what_is_there(paths: FleetPaths, shown: Shown) -> tuple[list[str], list[str]]:
    """What the nodes that were to be replaced run now, and where to look."""
    if shown["kind"] in GUILD_KINDS:
        return [], [f"shardctl where {shown['args']['guild']} --fleet {paths.fleet}"]
    failed = {step["node"]: step for step in shown["steps"] if step["state"] in FAILED}
    if shown["kind"] == RESPAWN:
        failed = {name: step for name, step in failed.items() if step["old_epoch"]}
    try:
        with Client(paths, ASK_TIMEOUT_S, must_run=False) as client:
            nodes = [node for node in client.status()["nodes"] if node["id"] in failed]
    except ShardctlError:
        return [], [f"shardctl status --fleet {paths.fleet}"]
    lines = what_they_run([(failed[node["id"]], node) for node in nodes])
    hints = [f"shardctl logs --node {node['id']} --fleet {paths.fleet}" for node in nodes[:1]]
    return lines, hints


def follow(paths: FleetPaths, op: str, timeout_s: float | None = None) -> dict[str, Any]:
    """Watch an operation until it is over. A broker that dies meanwhile is waited for.

    Raises ShardctlError after ``timeout_s`` (75), or where the fleet has ended.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    shown: dict[str, Any] | None = None
    with Client(paths, ASK_TIMEOUT_S, must_run=False) as client, display() as say:
        told = Told(Operations(client).all)
        while True:
            try:
                shown = Operations(client).show(op)
                lines = told.lines(shown)
            except NoBroker:
                if supervisor_pid(paths) is None:
                    raise _ended(paths, op) from None
            else:
                say(lines, shown)
                if is_over(shown):
                    return shown
            if until is not None and time.monotonic() >= until:
                raise _timeout(paths, op, timeout_s, shown)
            time.sleep(POLL_S)


@contextlib.contextmanager
def display() -> Iterator[Say]:
    """Shows steps on stderr: bars below the lines on a terminal, lines alone off it."""
    from shardctl.cli.show import console_for

    console = console_for(sys.stderr)
    if not console.is_terminal:
        yield _echo
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=min(40, max(8, console.width - 40))),
        TextColumn("{task.fields[phase]}", markup=False),
    )
    # Drawn once for each answer: never with the bars of one step beside those of the next.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        tasks: dict[object, Any] = {}

        def show(key: object, title: str, done: int, total: int, phase: str) -> None:
            if key not in tasks:
                tasks[key] = progress.add_task(title, total=total, phase=phase)
            progress.update(tasks[key], completed=done, total=total, phase=phase)

        def say(lines: list[str], shown: Shown) -> None:
            for line in lines:
                progress.console.print(line, markup=False)
            running = bars(shown)[:BARS_MAX]
            for key in tasks.keys() - {ALL} - {bar.shard for bar in running}:
                progress.remove_task(tasks.pop(key))
            held, total = held_count(shown)
            of_all = f"{held} of {total} shards" if total else str(shown["state"])
            show(ALL, str(shown["op"]), held, total or 1, of_all)
            for bar in running:
                show(bar.shard, f"shard {bar.shard}", bar.done, PHASES_ALL, bar.phase)
            progress.refresh()

        yield say


def _echo(lines: list[str], _shown: Shown) -> None:
    for line in lines:
        click.echo(line, err=True)


def _wait_hint(paths: FleetPaths, op: str) -> str:
    return f"shardctl wait {op} --fleet {paths.fleet}"


def _ended(paths: FleetPaths, op: str) -> ShardctlError:
    return ShardctlError(
        f"the fleet {paths.fleet} ended meanwhile.",
        consequence=f"What became of {op} is told when it is started again.",
        hint=f"shardctl logs --fleet {paths.fleet}",
        code="E_FLEET_ENDED",
    )


def _timeout(
    paths: FleetPaths, op: str, timeout_s: float | None, shown: Shown | None
) -> ShardctlError:
    where = waits_for(shown) if shown is not None else "the broker does not answer"
    return ShardctlError(
        f"{op} is not over after {span(timeout_s)}: {where}.",
        consequence="It goes on by itself.",
        hint=f"{_wait_hint(paths, op)}\nshardctl operations cancel {op} --fleet {paths.fleet}",
        code="E_TIMEOUT",
        exit_code=EXIT_TEMPFAIL,
    )
