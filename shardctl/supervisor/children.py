"""Child processes: started with their log and lifeline, signalled, reaped."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shardctl.launch import Command
from shardctl.supervisor import logs
from shardctl.supervisor.effects import BROKER, Exit, title
from shardctl.supervisor.procs import Known, start_of

Key = tuple[str, int]


class Ended(NamedTuple):
    """A reaped child."""

    name: str
    epoch: int
    end: Exit


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    known: Known
    log: Path | None = None
    log_start: int = 0


class Children:
    """All processes that this one has started and not yet reaped.

    The lifeline is a pipe whose write end only this process holds: a child that reads its
    end (SHARDCTL_LIFELINE_FD) to EOF knows that its supervisor is dead.
    """

    def __init__(self, logs_dir: Path, secret: str = "") -> None:
        self._logs_dir = logs_dir
        self._secret = secret
        self._lifeline, self._lifeline_writer = os.pipe()
        self._children: dict[Key, _Child] = {}

    def spawn(
        self, name: str, epoch: int, command: Command, give: Mapping[str, int] | None = None
    ) -> int:
        """Start a child and return its pid. ``give`` maps variables to descriptors it gets.

        Raises OSError where the system cannot start it.
        """
        given = {"SHARDCTL_LIFELINE_FD": self._lifeline, **(give or {})}
        log = self._free_log(name)
        output = logs.open_log(log)
        try:
            logs.mark(output, f"--- {title(name)}{f'#{epoch}' if epoch else ''} starts ---")
            start = os.fstat(output).st_size  # before the child can write
            process = subprocess.Popen(
                command.argv,
                env=command.env | {key: str(fd) for key, fd in given.items()},
                cwd=command.cwd,
                pass_fds=tuple(given.values()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C on the terminal is for the supervisor alone.
                start_new_session=True,
            )
        finally:
            os.close(output)
        known = Known(name, process.pid, start_of(process.pid))
        self._children[name, epoch] = _Child(process, known, log, start)
        return process.pid

    def _free_log(self, name: str) -> Path:
        """A log that no living process of this name writes into: a successor runs beside the
        one that it replaces."""
        taken = {child.log for child in self._children.values()}
        paths = (log_file(self._logs_dir, name, slot) for slot in itertools.count(1))
        return next(path for path in paths if path not in taken)

    def show(self, name: str, command: Command) -> None:
        """Start a child on our own terminal, without log and lifeline."""
        process = subprocess.Popen(command.argv, env=command.env, cwd=command.cwd)
        known = Known(name, process.pid, start_of(process.pid))
        self._children[name, 0] = _Child(process, known)

    def signal(self, name: str, epoch: int, signal_name: str) -> None:
        """Send TERM or KILL to a child that is not reaped yet: its number is still its own."""
        child = self._children.get((name, epoch))
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.process.pid, signal.Signals[f"SIG{signal_name}"])

    def reap(self) -> Iterator[Ended]:
        """Every child that has ended; as PID 1 this takes orphans of others away too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            key = next((k for k, c in self._children.items() if c.process.pid == pid), None)
            if key is not None:
                yield Ended(*key, self._forget(key, os.waitstatus_to_exitcode(status)))

    def _forget(self, key: Key, code: int) -> Exit:
        child = self._children.pop(key)
        child.process.returncode = code  # reaped here: subprocess must not wait for it again
        last = logs.tail(child.log, child.log_start, self._secret) if child.log else ()
        return Exit(code, None, last) if code >= 0 else Exit(None, -code, last)

    def known(self) -> list[Known]:
        """The living children, for who comes after this process."""
        return [child.known for child in self._children.values()]

    def cap_logs(self) -> list[Path]:
        """Rotate the full logs of living children; returns which."""
        files = {child.log for child in self._children.values() if child.log is not None}
        return [path for path in files if logs.cap_log(path)]

    def close(self) -> None:
        """Let go of the lifeline."""
        os.close(self._lifeline)
        os.close(self._lifeline_writer)


def log_file(logs_dir: Path, name: str, slot: int = 1) -> Path:
    """Where a child's output goes; ``slot`` is 1 but for further living processes of a name.
    The broker keeps broker.log itself, in JSON."""
    stem = "broker-stderr" if name == BROKER else name.replace(":", "-")
    return logs_dir / (f"{stem}.log" if slot == 1 else f"{stem}.{slot}.log")
