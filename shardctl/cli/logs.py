"""`shardctl logs`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from shardctl.cli.common import chosen_fleet, fleet_option
from shardctl.errors import EXIT_NOT_FOUND, ShardctlError
from shardctl.follow import Follower, last_lines, process_of
from shardctl.merge import Timed, merged, plain, timed

POLL_S: Final = 0.25
LINES: Final = 20
CONTEXT_LINES: Final = 1000
"""Read of each log at least, to find when those without a moment were written."""
_BROKER_JSON: Final = "broker.log"
_NODE_PREFIX: Final = "node-"


@click.command()
@click.option("--follow", "-f", "follow", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option("--node", "node", metavar="NAME", help="A node's output, for example a.")
@click.option("--broker", is_flag=True, help="The broker (broker.log has the same as JSON).")
@click.option("--supervisor", is_flag=True, help="What was started, ended, restarted.")
@click.option("--sandbox", is_flag=True, help="The sandbox's output.")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(0, 100_000),
    default=LINES,
    show_default=True,
    envvar="SHARDCTL_LINES",
    show_envvar=True,
    help="How many lines of each file, from its end.",
)
@fleet_option
def logs(
    follow: bool,
    node: str | None,
    broker: bool,
    supervisor: bool,
    sandbox: bool,
    lines: int,
    fleet: str | None,
) -> None:
    """Print the logs of all processes by time, or of those that are named.

    What a bot prints has no time of its own and stays below the start of its process.
    """
    folder = chosen_fleet(fleet).logs_dir
    wanted = {"broker": broker, "supervisor": supervisor, "sandbox": sandbox}
    names = [name for name, asked in wanted.items() if asked]
    if node is not None:
        names.append(_NODE_PREFIX + node)
    files = _chosen(folder, names)
    ends = [last_lines(path, max(lines, CONTEXT_LINES)) for path in files]
    several = len(files) > 1 or (follow and not names)
    _print_ends(files, [texts for texts, _ in ends], lines, several)
    followers = [Follower(path, end) for path, (_, end) in zip(files, ends, strict=True)]
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(folder, followers, names)


def _chosen(folder: Path, names: list[str]) -> list[Path]:
    """The log files of these processes, or all. Raises ShardctlError for one without any."""
    found = _logs_in(folder)
    if not found:
        raise _none(f"there are no logs in {folder}.", "the fleet was never started here", found)
    chosen = [path for path in found if not names or _process_of(path) in names]
    for name in names:
        if name not in map(_process_of, found):
            raise _none(f"there is no log of {name.replace('-', ' ')}.", "", found)
    return chosen


def _logs_in(folder: Path) -> list[Path]:
    """All logs for people: of the broker its stderr, not the same lines again as JSON."""
    return sorted(path for path in folder.glob("*.log") if path.name != _BROKER_JSON)


def _process_of(path: Path) -> str:
    process = process_of(path)
    return "broker" if process == "broker-stderr" else process


def _shown(path: Path) -> str:
    """What stands before a line of it: two processes of a node are told apart."""
    process = _process_of(path)
    return process if path.stem == process_of(path) else path.stem


def _none(message: str, why: str, found: list[Path]) -> ShardctlError:
    exist = ", ".join(dict.fromkeys(map(_process_of, found)))
    return ShardctlError(
        message,
        consequence=f"There are: {exist}." if exist else why,
        hint="shardctl logs" if exist else "shardctl start, or another --fleet NAME",
        code="E_NOT_FOUND",
        exit_code=EXIT_NOT_FOUND,
    )


def _print_ends(files: list[Path], texts: list[list[str]], lines: int, prefixed: bool) -> None:
    """The last ``lines`` of each log, by time; a line without a moment has that of the one
    above it, which may be further up than what is shown."""
    logs = [
        timed(_shown(path), found, None, number)[-lines if lines else len(found) :]
        for number, (path, found) in enumerate(zip(files, texts, strict=True))
    ]
    _print(merged(logs), prefixed)


def _print(entries: Iterable[Timed], prefixed: bool) -> None:
    for entry in entries:
        line = plain(entry.line)
        click.echo(f"{entry.name} | {line}" if prefixed else line)


def _follow(folder: Path, followers: list[Follower], names: list[str]) -> None:
    while True:
        known = {follower.path for follower in followers}
        new_files = [path for path in _logs_in(folder) if path not in known]
        followers += [
            Follower(path) for path in new_files if not names or _process_of(path) in names
        ]
        looked_at = time.time() - POLL_S
        new = [
            timed(_shown(follower.path), follower.read(), looked_at, number)
            for number, follower in enumerate(followers)
        ]
        _print(merged(new), prefixed=not names or len(followers) > 1)
        time.sleep(POLL_S)
