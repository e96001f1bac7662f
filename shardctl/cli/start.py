"""`shardctl start`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from typing import Any, Final, NoReturn

import click

from shardctl.cli.common import dry_run_option
from shardctl.cli.report import Report, all_ready
from shardctl.cli.settle import Launch, launch_options, nodes_option, settle
from shardctl.errors import (
    EXIT_CONFIG,
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TEMPFAIL,
    ShardctlError,
)
from shardctl.launch import LaunchError, daemon_folder, save_record
from shardctl.paths import FleetPaths, create_folders
from shardctl.running import clear_remains, last_exit, refuse_when_running

LOOPBACK: Final = "127.0.0.1"
_EPILOG: Final = """\
TARGET is main.py, main:bot or a folder; without it main.py or bot.py of this folder, or,
with --sandbox, an example bot.
"""


@click.command(epilog=_EPILOG)
@click.argument("target", required=False)
@nodes_option
@launch_options
@click.option(
    "--foreground",
    is_flag=True,
    envvar="SHARDCTL_FOREGROUND",
    show_envvar=True,
    help="Be the supervisor: stay until Ctrl-C (systemd, containers).",
)
@dry_run_option("Print the plan: shards, keys, budget, time; start nothing.")
@click.pass_context
def start(
    ctx: click.Context, /, target: str | None, foreground: bool, dry_run: bool, **options: Any
) -> None:
    """Start a bot as a fleet: supervisor, broker and nodes."""
    launch = settle(ctx, target, options)
    if dry_run:
        from shardctl.cli.plan import print_plan

        print_plan(launch.record, launch.secrets)
        return
    prepare(launch)
    click.echo(f"fleet {launch.record.fleet}, data in {launch.record.data_dir}", err=True)
    if foreground:
        become_supervisor(launch)
    ctx.exit(_detach(launch))


def prepare(launch: Launch) -> None:
    """Folders, a look at who runs or ran here, and the launch record."""
    try:
        daemon_folder()
    except LaunchError as error:
        raise ShardctlError(f"{error}.", code="E_INSTALL") from None
    create_folders(launch.paths)
    refuse_when_running(launch.paths)
    _check_port(launch.record.sandbox.port if launch.record.sandbox else 0)
    clear_remains(launch.paths, lambda line: click.echo(line, err=True), launch.record.drain_s)
    save_record(launch.record, launch.paths.record_file)


def _check_port(port: int) -> None:
    """Whether the sandbox will get the port that was asked for. Raises ShardctlError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ShardctlError(
                f"port {port} of {LOOPBACK} cannot be used: {error.strerror}.",
                consequence="The sandbox would not listen; nothing was started.",
                hint="sandbox.port = 0 in shardctl.toml lets the system choose one",
                code="E_PORT",
            ) from None


def supervisor_argv(launch: Launch, *flags: str) -> list[str]:
    """How the supervisor is started; the token is not in it."""
    record_file = str(launch.paths.record_file)
    return [sys.executable, "-P", "-m", "shardctl.supervisor", *flags, record_file]


def become_supervisor(launch: Launch) -> NoReturn:
    """Replace this process by the supervisor: same pid, so PID 1 stays PID 1."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(
        sys.executable, supervisor_argv(launch, "--foreground"), {**os.environ, **launch.secrets}
    )


def _detach(launch: Launch) -> int:
    """Start the supervisor in a session of its own and watch it come up."""
    from shardctl.cli.progress import display, follow
    from shardctl.supervisor.logs import open_log

    log = open_log(launch.paths.logs_dir / "supervisor.log")
    try:
        process = subprocess.Popen(
            supervisor_argv(launch),
            env={**os.environ, **launch.secrets},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    try:
        with display() as say:
            report = follow(launch.paths, lambda: process.poll() is None, say)
    except KeyboardInterrupt:
        click.echo(
            f"the start goes on in the background; shardctl status --fleet {launch.record.fleet}",
            err=True,
        )
        return EXIT_INTERRUPTED
    if report is None:
        raise start_failed(launch.paths, process.pid, process.returncode)
    return _started(report)


def _started(report: Report) -> int:
    from shardctl.cli.show import console_for, print_status

    print_status(report, console_for())
    return EXIT_OK if all_ready(report) else EXIT_DEGRADED


_REASON: Final = re.compile(r"(?:fatal: )?(E_[A-Z0-9_]+): (.*?)(?:[;.] hint: (.*))?", re.DOTALL)
_EXITS: Final = {"E_IDENTIFY_BUDGET": EXIT_TEMPFAIL, "E_TOKEN": EXIT_CONFIG}


def start_failed(paths: FleetPaths, pid: int, code: int | None) -> ShardctlError:
    """Why the supervisor ended before its fleet was up, in its own words."""
    note = last_exit(paths, pid) or {}
    reason = str(note.get("reason") or f"the supervisor ended with code {code}")
    lines = "\n".join(f"| {line}" for line in note.get("lines", ()))
    match = _REASON.fullmatch(reason)
    name, text, hint = match.groups() if match else ("E_START", reason, None)
    logs = f"shardctl logs --fleet {paths.fleet}"
    return ShardctlError(
        text.rstrip(".") + ".",
        consequence="\n".join(filter(None, ("The fleet has stopped.", lines))),
        hint=f"{hint}\n{logs}" if hint else logs,
        code=name,
        exit_code=_EXITS.get(name) or int(note.get("exit_code") or code or EXIT_FAILED),
    )
