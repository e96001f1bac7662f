"""`shardctl stop`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

import click

from shardctl.cli.common import chosen_fleet, dry_run_option, fleet_option
from shardctl.errors import EXIT_TEMPFAIL, EXIT_USAGE, NoBroker, Refused, ShardctlError
from shardctl.launch import DRAIN_S, read_json
from shardctl.paths import FleetPaths
from shardctl.running import clear_remains, supervisor_pid
from shardctl.supervisor import procs

STOP_MARGIN_S: Final = 7.0
"""Over the drain: the supervisor kills what is late, then ends broker and sandbox."""


@click.command()
@click.option(
    "--discard-sessions",
    is_flag=True,
    help="End the gateway sessions; the next start IDENTIFYs every shard.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask (for --discard-sessions).")
@dry_run_option("Say what would be stopped; change nothing.")
@fleet_option
def stop(discard_sessions: bool, yes: bool, dry_run: bool, fleet: str | None) -> None:
    """Stop the fleet and wait until all its processes have ended.

    Gateway sessions stay resumable, handlers may end their work (8 s).
    """
    paths = chosen_fleet(fleet)
    pid = supervisor_pid(paths)
    if dry_run:
        _plan(paths, pid, discard_sessions)
        return
    if discard_sessions:
        _confirm(yes)
    if pid is None:
        _not_running(paths)
        return
    supervisor = procs.Known("supervisor", pid, procs.start_of(pid))
    drain_s = _ask(paths, pid, discard_sessions)
    if procs.wait_gone([supervisor], drain_s + STOP_MARGIN_S):
        raise _still_there(paths, pid, drain_s + STOP_MARGIN_S)
    click.echo(f"fleet {paths.fleet} has stopped; {_kept(paths, discard_sessions)}", err=True)


def _kept(paths: FleetPaths, discard_sessions: bool) -> str:
    """What is left of the fleet's sessions."""
    if (read_json(paths.record_file) or {}).get("sandbox"):
        return "its sandbox ended with it"
    return "its sessions are discarded" if discard_sessions else "its sessions can be resumed"


def _plan(paths: FleetPaths, pid: int | None, discard_sessions: bool) -> None:
    if pid is None:
        click.echo(f"fleet {paths.fleet} does not run")
        return
    does = "discard its sessions" if discard_sessions else "keep its sessions"
    click.echo(f"would stop fleet {paths.fleet} (supervisor pid {pid}) and {does}")


def _confirm(yes: bool) -> None:
    """Sessions that are ended cannot be brought back: somebody must have said so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ShardctlError(
            "--discard-sessions cannot be undone and nobody is here to be asked.",
            consequence="Each shard would have to IDENTIFY again. Nothing was stopped.",
            hint="shardctl stop --discard-sessions --yes",
            code="E_CONFIRM",
            exit_code=EXIT_USAGE,
        )
    click.confirm("End all gateway sessions? Each shard must IDENTIFY again.", abort=True, err=True)


def _not_running(paths: FleetPaths) -> None:
    """Nobody to ask; what a dead supervisor left is seen out. Raises NoBroker."""
    from shardctl.client import no_broker

    if paths.supervisor_file.exists():
        clear_remains(paths, lambda line: click.echo(line, err=True))
        kept = _kept(paths, discard_sessions=False)
        click.echo(f"fleet {paths.fleet} has stopped; {kept}", err=True)
        return
    raise no_broker(paths, f"the fleet {paths.fleet} does not run.")


def _ask(paths: FleetPaths, pid: int, discard_sessions: bool) -> float:
    """Ask the broker, or, where it is silent, signal the supervisor. Returns the drain."""
    from shardctl.client import Client

    try:
        with Client(paths) as client:
            return client.stop(discard_sessions=discard_sessions).drain_s
    except NoBroker:
        if discard_sessions:
            raise
    except Refused as error:
        if discard_sessions:
            raise
        click.echo(f"the broker refused: {error.message}", err=True)
    click.echo(f"the broker is silent; telling the supervisor (pid {pid})", err=True)
    os.kill(pid, signal.SIGTERM)
    return DRAIN_S


def _still_there(paths: FleetPaths, pid: int, waited_s: float) -> ShardctlError:
    return ShardctlError(
        f"the fleet {paths.fleet} has not stopped within {waited_s:g} s.",
        consequence=f"Its supervisor (pid {pid}) still lives.",
        hint=f"shardctl logs --supervisor --fleet {paths.fleet}\nkill {pid}",
        code="E_STOP",
        exit_code=EXIT_TEMPFAIL,
    )
