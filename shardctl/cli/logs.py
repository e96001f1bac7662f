"""`shardctl logs`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

import click

from shardctl.cli.common import chosen_fleet, fleet_option
from shardctl.errors import EXIT_NOT_FOUND, ShardctlError
from shardctl.follow import Follower, last_lines

POLL_S: Final = 0.25
LINES: Final = 20
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
    """Print the logs of all processes, or of those that are named."""
    folder = chosen_fleet(fleet).logs_dir
    wanted = {"broker": broker, "supervisor": supervisor, "sandbox": sandbox}
    names = [name for name, asked in wanted.items() if asked]
    if node is not None:
        names.append(_NODE_PREFIX + node)
    files = _chosen(folder, names)
    prefixed = len(files) > 1 or (follow and not names)
    followers = [_print_end(path, lines, prefixed) for path in files]
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(folder, followers, prefixed, all_files=not names)


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
    return "broker" if path.stem == "broker-stderr" else path.stem


def _none(message: str, why: str, found: list[Path]) -> ShardctlError:
    exist = ", ".join(dict.fromkeys(map(_process_of, found)))
    return ShardctlError(
        message,
        consequence=f"There are: {exist}." if exist else why,
        hint="shardctl logs" if exist else "shardctl start, or another --fleet NAME",
        code="E_NOT_FOUND",
        exit_code=EXIT_NOT_FOUND,
    )


def _print_end(path: Path, lines: int, prefixed: bool) -> Follower:
    texts, position = last_lines(path, lines)
    _print(path, texts, prefixed)
    return Follower(path, position)


def _print(path: Path, lines: list[str], prefixed: bool) -> None:
    for line in lines:
        click.echo(f"{_process_of(path)} | {line}" if prefixed else line)


def _follow(folder: Path, followers: list[Follower], prefixed: bool, *, all_files: bool) -> None:
    while True:
        if all_files:
            known = {follower.path for follower in followers}
            followers += [Follower(path) for path in _logs_in(folder) if path not in known]
        for follower in followers:
            _print(follower.path, follower.read(), prefixed)
        time.sleep(POLL_S)
