"""`shardctl dev`."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

from shard_node.wire.bodies import RespawnRequest
from shardctl.cli.report import all_ready
from shardctl.cli.settle import Launch, launch_options, settle
from shardctl.cli.start import prepare, spawn_supervisor
from shardctl.client import Client
from shardctl.errors import EXIT_OK, NoBroker, Refused
from shardctl.follow import Follower
from shardctl.opclient import Operations
from shardctl.saves import Saves
from shardctl.supervisor.journal import Lock

POLL_S: Final = 0.3
SETTLE_S: Final = 0.2
"""An editor may save several files: a restart waits until nothing is saved for so long."""
ASK_TIMEOUT_S: Final = 2.0
END_MARGIN_S: Final = 5.0
SANDBOX: Final = {"shards": 1, "guilds": 3, "identify_window_s": 0.2}
_NODE: Final = "a"


@click.command()
@click.argument("target", required=False)
@launch_options
@click.pass_context
def dev(ctx: click.Context, /, target: str | None, **options: Any) -> None:
    """Run TARGET in one process that starts again when you save.

    With --sandbox it needs no token. Its fleet is apart from that of `start`: its name ends
    in -dev. What the bot prints is shown here; Ctrl-C ends all.
    """
    options["nodes"] = 1
    launch = settle(ctx, target, options, suffix="-dev", sandbox_defaults=SANDBOX)
    lock = prepare(launch)
    folder = launch.record.bot.folder
    click.echo(f"fleet {launch.record.fleet}; watching {folder}, Ctrl-C ends", err=True)
    ctx.exit(_Session(launch, lock).run())


class _Session:
    """A foreground fleet of one node, and the eye on the author's files."""

    def __init__(self, launch: Launch, lock: Lock) -> None:
        self._launch = launch
        self._saves = Saves(Path(launch.record.bot.folder))
        log = launch.paths.logs_dir / f"node-{_NODE}.log"
        self._output = Follower(log, log.stat().st_size if log.exists() else 0)
        self._fleet = self._start(lock)
        self._down_said = False
        self._awaited: int | None = None
        self._ends = False

    def _start(self, lock: Lock) -> subprocess.Popen[bytes]:
        return spawn_supervisor(self._launch, lock, "--foreground", "--no-quotes")

    def run(self) -> int:
        """Until Ctrl-C; returns the exit code."""
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                while not self._ends:
                    self._look()
                    time.sleep(POLL_S)
            # The terminal sent the same Ctrl-C to the supervisor, which stops the fleet.
            return self._end()
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        # What is raised where Python calls back (a finalizer) comes to nobody.
        self._ends = True
        raise KeyboardInterrupt

    def _look(self) -> None:
        for line in self._output.read():
            click.echo(line)
        changed = self._saves.changed()
        if changed:
            self._settle()
            names = ", ".join(path.name for path in changed[:3])
            click.echo(f"saved: {names}; starting again", err=True)
            self._restart()
        elif self._awaited is not None and self._fleet.poll() is None:
            self._look_for_ready(self._awaited)
        elif self._fleet.poll() is not None and not self._down_said:
            self._down_said = True
            click.echo("the fleet has stopped; save a file to start it again", err=True)

    def _look_for_ready(self, epoch: int) -> None:
        """Say once that the process after the one of this epoch is ready."""
        with contextlib.suppress(NoBroker, Refused):
            with Client(self._launch.paths, ASK_TIMEOUT_S) as client:
                report = client.status()
            if all_ready(report) and all(node["epoch"] > epoch for node in report["nodes"]):
                self._awaited = None
                click.echo("ready again", err=True)

    def _settle(self) -> None:
        while True:
            time.sleep(SETTLE_S)
            if not self._saves.changed():
                return

    def _restart(self) -> None:
        """Start the node's process again; where the whole fleet is down, all of it."""
        if self._fleet.poll() is not None:
            self._fleet, self._down_said = self._start(prepare(self._launch)), False
            return
        try:
            with Client(self._launch.paths, ASK_TIMEOUT_S) as client:
                report = client.status()
                shards = [shard["id"] for shard in report["shards"]]
                if shards:
                    # Before the question: its answer may be late and the restart happen.
                    self._awaited = max(node["epoch"] for node in report["nodes"])
                    respawn(Operations(client), shards[0])
        except (NoBroker, Refused) as error:
            click.echo(f"not started again: {error.message}", err=True)

    def _end(self) -> int:
        while True:
            try:
                self._fleet.wait(self._launch.record.drain_s + END_MARGIN_S)
            except KeyboardInterrupt:
                continue  # the second Ctrl-C hurries the supervisor
            except subprocess.TimeoutExpired:
                self._fleet.kill()
                self._fleet.wait()
            return EXIT_OK


def respawn(operations: Operations, shard: int) -> None:
    """Start its process again, after the respawn of an earlier save: one that has not begun
    takes this save too."""
    if any(one["state"] == "waiting" for one in operations.all()):
        return
    operations.respawn(RespawnRequest((shard,), in_sequence=True, queue=True))
