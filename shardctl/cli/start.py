"""`shardctl start`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from shardctl.cli.common import chosen_fleet, dry_run_option
from shardctl.cli.report import Report, all_ready
from shardctl.cli.settle import Launch, launch_options, nodes_option, settle
from shardctl.errors import (
    EXIT_CONFIG,
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_TEMPFAIL,
    ShardctlError,
)
from shardctl.launch import LaunchError, daemon_folder, save_record
from shardctl.paths import FleetPaths, create_folders, run_fallback
from shardctl.running import clear_remains, last_exit, runs_already, take_fleet, where_it_runs
from shardctl.supervisor.journal import Lock

LOOPBACK: Final = "127.0.0.1"
_EPILOG: Final = """\
TARGET is main.py, main:bot or a folder; without it main.py or bot.py of this folder; where
there is neither, --sandbox runs an example bot.
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
    lock = prepare(launch)
    _introduce(launch)
    if foreground:
        become_supervisor(launch, lock)
    ctx.exit(_detach(launch, lock))


def _introduce(launch: Launch) -> None:
    bot = launch.record.bot
    named = "the example bot (no main.py or bot.py here)" if bot.example else bot.target
    click.echo(f"fleet {launch.record.fleet}, data in {launch.record.data_dir}", err=True)
    click.echo(f"bot: {named}" + ("" if bot.example else f" in {bot.folder}"), err=True)


def prepare(launch: Launch) -> Lock:
    """Folders, a look at who runs or ran here, and the launch record.

    Returns the fleet's lock, held, for the supervisor to inherit. Raises ShardctlError.
    """
    try:
        daemon_folder()
    except LaunchError as error:
        raise ShardctlError(f"{error}.", code="E_INSTALL") from None
    create_folders(launch.paths)
    lock = take_fleet(launch.paths)
    try:
        _settle_in(launch)
    except BaseException:
        lock.close()
        raise
    return lock


def _settle_in(launch: Launch) -> None:
    create_folders(launch.paths)  # anew: a fleet that ended just now took its run folder along
    _check_port(launch.record.sandbox.port if launch.record.sandbox else 0)
    clear_remains(where_it_runs(launch.paths), _say, launch.record.drain_s)
    fallback = run_fallback()
    if fallback:
        _say(f"warning: {fallback}")
    save_record(launch.record, launch.paths.record_file)


def _say(line: str) -> None:
    click.echo(line, err=True)


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


def become_supervisor(launch: Launch, lock: Lock) -> NoReturn:
    """Replace this process by the supervisor: same pid, so PID 1 stays PID 1."""
    sys.stdout.flush()
    sys.stderr.flush()
    _, handed = lock.hand_over()
    env = {**os.environ, **launch.secrets, **handed}
    os.execve(sys.executable, supervisor_argv(launch, "--foreground"), env)


def spawn_supervisor(
    launch: Launch, lock: Lock, *flags: str, **how: Any
) -> subprocess.Popen[bytes]:
    """Start the supervisor as a child; from here on the lock is its alone."""
    file, handed = lock.hand_over()
    try:
        return subprocess.Popen(
            supervisor_argv(launch, *flags),
            env={**os.environ, **launch.secrets, **handed},
            cwd="/",
            pass_fds=(file,),
            **how,
        )
    finally:
        lock.close()


def _detach(launch: Launch, lock: Lock) -> int:
    """Start the supervisor in a session of its own and watch it come up."""
    from shardctl.cli.progress import display, follow
    from shardctl.supervisor.logs import open_log

    log = open_log(launch.paths.logs_dir / "supervisor.log")
    try:
        process = spawn_supervisor(
            launch,
            lock,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    try:
        with display() as say:
            report = follow(
                launch.paths,
                lambda: process.poll() is None,
                say,
                window_s=launch.record.identify_window_s,
            )
    except KeyboardInterrupt:
        click.echo(
            f"the start goes on in the background; shardctl status --fleet {launch.record.fleet}",
            err=True,
        )
        return EXIT_INTERRUPTED
    if report is None:
        raise start_failed(launch.paths, process.pid, process.returncode)
    return _started(report, launch)


def _started(report: Report, launch: Launch) -> int:
    from shardctl.cli.show import console_for, print_status

    print_status(report, console_for())
    _say(next_steps(launch.record.fleet))
    return EXIT_OK if all_ready(report) else EXIT_DEGRADED


def next_steps(fleet: str) -> str:
    """What to type next; with the fleet's name where this folder does not tell it."""
    named = "" if chosen_fleet(None).fleet == fleet else f" --fleet {fleet}"
    return "next: " + ", ".join(f"shardctl {verb}{named}" for verb in ("status", "logs -f", "stop"))


_REASON: Final = re.compile(r"(?:fatal: )?(E_[A-Z0-9_]+): (.*?)(?:[;.] hint: (.*))?", re.DOTALL)
_EXITS: Final = {"E_IDENTIFY_BUDGET": EXIT_TEMPFAIL, "E_TOKEN": EXIT_CONFIG}


def _unsaid(lines: Sequence[str], code: str) -> list[str]:
    """The last lines of a log up to those that say the error itself again."""
    again = (place for place, line in enumerate(lines) if line.startswith(f"error[{code}]"))
    return list(lines)[: next(again, None)]


def start_failed(paths: FleetPaths, pid: int, code: int | None) -> ShardctlError:
    """Why the supervisor ended before its fleet was up, in its own words."""
    note = last_exit(paths, pid) or {}
    if not note and code == EXIT_REFUSED:
        return runs_already(paths)
    reason = str(note.get("reason") or f"the supervisor ended with code {code}")
    match = _REASON.fullmatch(reason)
    name, text, hint = match.groups() if match else ("E_START", reason, None)
    lines = "\n".join(f"| {line}" for line in _unsaid(note.get("lines", ()), name))
    logs = f"shardctl logs --fleet {paths.fleet}"
    return ShardctlError(
        f"{text.strip().rstrip('.')}.",
        consequence="\n".join(filter(None, ("The fleet has stopped.", lines))),
        hint=f"{hint}\n{logs}" if hint else logs,
        code=name,
        exit_code=_EXITS.get(name) or int(note.get("exit_code") or code or EXIT_FAILED),
    )
