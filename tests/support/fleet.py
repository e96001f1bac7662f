"""A whole fleet in folders of its own: the installed command, real processes, the sandbox.

    with Fleet(tmp_path) as fleet:
        fleet.start(shards=4, nodes=2)
        fleet.sandbox("load", "--interactions-per-s", "50", ...)
        assert fleet.audit()["answered_once"] == ...

Whatever a test does, nothing is left behind: at the end every process that the fleet
recorded is ended, by pid and start time.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shardctl.paths import FleetPaths, fleet_paths
from shardctl.supervisor import procs
from shardctl.supervisor.journal import known_children, read_note
from tests.support.waiting import wait_for

COMMAND_TIMEOUT_S = 90.0
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 12.0
HTTP_TIMEOUT_S = 10.0
IDENTIFY_WINDOW_S = 0.3

Completed = subprocess.CompletedProcess[str]


class Fleet:
    """One fleet. ``folder`` is the test's; the bot lives in ``folder/bot`` if it has one.

    ``shardctl`` is the command to run, by default that of this environment.
    """

    def __init__(
        self, folder: Path, name: str = "test", command: tuple[str, ...] | None = None
    ) -> None:
        self.folder = folder
        self.bot_folder = folder / "bot"
        self.bot_folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._command = command or (sys.executable, "-P", "-m", "shardctl")
        # A socket's path is limited: the run folder is not below pytest's long folders.
        self._run_root = Path(tempfile.mkdtemp(prefix="sctl-"))
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SHARDCTL_", "XDG_", "PYTHON", "DISCORD_", "COLUMNS"))
        } | {
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_RUNTIME_DIR": str(self._run_root),
            "SHARDCTL_FLEET": name,
        }
        self.foreground: subprocess.Popen[str] | None = None
        self._seen: dict[tuple[int, str], procs.Known] = {}

    @property
    def paths(self) -> FleetPaths:
        """The fleet's places."""
        return fleet_paths(self.name, self.env)

    # --- the command line

    def run(
        self, *args: str, check: bool = False, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> Completed:
        """`shardctl ARGS` in the bot's folder. ``check``: raises AssertionError when it fails."""
        done = subprocess.run(
            [*self._command, *args],
            cwd=self.bot_folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        self._remember()
        if check and done.returncode != 0:
            raise AssertionError(f"{args} -> {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start_args(
        self,
        target: str | None = None,
        *,
        shards: int = 4,
        nodes: int = 2,
        max_concurrency: int = 1,
        guilds: int = 20,
        identify_window_s: float = IDENTIFY_WINDOW_S,
        seed: int = 1,
    ) -> list[str]:
        """The words of `start --sandbox` with these sizes."""
        sizes = {
            "--shards": shards,
            "--nodes": nodes,
            "--max-concurrency": max_concurrency,
            "--guilds": guilds,
            "--identify-window-s": identify_window_s,
            "--seed": seed,
        }
        words = [word for key, value in sizes.items() for word in (key, str(value))]
        return ["start", *([target] if target else []), "--sandbox", *words]

    def start(self, target: str | None = None, **sizes: Any) -> Completed:
        """Start detached and wait until every shard is ready."""
        return self.run(*self.start_args(target, **sizes), check=True)

    def start_foreground(self, target: str | None = None, **sizes: Any) -> subprocess.Popen[str]:
        """`start --foreground`; see ``begin``."""
        return self.begin(*self.start_args(target, **sizes), "--foreground")

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """A command that stays, with its output in ``folder/foreground.{out,err}``."""
        with (
            (self.folder / "foreground.out").open("w") as out,
            (self.folder / "foreground.err").open("w") as err,
        ):
            self.foreground = subprocess.Popen(
                [*self._command, *args],
                cwd=self.bot_folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        return self.foreground

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        """Ctrl-C, as a terminal sends it: to the whole process group."""
        self._remember()
        os.killpg(process.pid, signal.SIGINT)

    def status(self) -> dict[str, Any]:
        """`status --json`; raises AssertionError without an answer."""
        done = self.run("status", "--json")
        if done.returncode not in (0, 3):
            raise AssertionError(f"status -> {done.returncode}\n{done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
        """Wait until `status` exits with 0; returns its report."""

        def look() -> dict[str, Any] | None:
            done = self.run("status", "--json")
            return json.loads(done.stdout) if done.returncode == 0 else None

        return wait_for("all shards ready", look, timeout_s)

    def sandbox(self, *args: str) -> Any:
        """`shardctl sandbox ARGS --json`, parsed; plain text where that verb has no JSON."""
        done = self.run("sandbox", *args, check=True)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout

    def info(self) -> dict[str, Any]:
        """What the sandbox says of itself: addresses and token."""
        found: dict[str, Any] = json.loads(self.paths.sandbox_file.read_text())
        return found

    def control(self, verb: str, body: dict[str, Any] | None = None) -> Any:
        """One call of the sandbox's /sandbox/VERB: GET, or POST with a body."""
        request = urllib.request.Request(
            f"{self.info()['control_url']}/{verb}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            return json.loads(answer.read())

    def audit(self) -> dict[str, int]:
        """The sandbox's audit."""
        found: dict[str, int] = self.control("audit")
        return found

    def load(self, interactions_per_s: float, seconds: float, events_per_s: float = 0) -> str:
        """Begin a load; returns its id for ``wait_load``."""
        begun = self.control(
            "load",
            {
                "interactions_per_s": interactions_per_s,
                "events_per_s": events_per_s,
                "seconds": seconds,
            },
        )
        return str(begun["id"])

    def wait_load(self, load: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for the end of a load; returns what it sent."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.control(f"load/{load}")
            return found if found["done"] else None

        return wait_for("the end of the load", look, timeout_s)

    # --- processes

    def note(self) -> dict[str, Any]:
        """supervisor.json as it is now; empty where no supervisor has left one."""
        self._remember()
        return read_note(self.paths.run_dir) or {}

    def pid(self, name: str) -> int:
        """The pid of ``supervisor``, ``broker``, ``sandbox`` or ``node:a``."""
        note = self.note()
        if name == "supervisor":
            return int(note["pid"])
        return next(int(c["pid"]) for c in note["children"] if c["name"] == name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to one of the fleet's processes; returns its pid."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def processes(self) -> list[procs.Known]:
        """All processes of this fleet that were ever recorded and still live."""
        self._remember()
        return procs.living(self._seen.values())

    def _remember(self) -> None:
        note = read_note(self.paths.run_dir)
        if note is None:
            return
        supervisor = procs.Known("supervisor", int(note["pid"]), str(note["started"]))
        for known in (supervisor, *known_children(note)):
            self._seen[known.pid, known.started] = known

    def logs(self) -> str:
        """Everything that the fleet's processes have written."""
        folder = self.paths.logs_dir
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')}"
            for path in sorted(folder.glob("*.log*"))
        )

    def stop(self) -> Completed:
        """`shardctl stop`."""
        return self.run("stop", timeout_s=STOP_TIMEOUT_S * 2)

    # --- the end

    def close(self) -> None:
        """End everything; raises nothing for a fleet that is already down."""
        if self.processes():
            self.stop()
        left = self.processes()
        for process in left:
            procs.kill(process)
        procs.wait_gone(left, STOP_TIMEOUT_S)
        if self.foreground is not None:
            if self.foreground.poll() is None:
                self.foreground.kill()
            self.foreground.wait(STOP_TIMEOUT_S)
        shutil.rmtree(self._run_root, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.paths.logs_dir.is_dir():
            sys.stderr.write(self.logs())
        self.close()
