"""What the supervisor tells the operator, and what it leaves for the next start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterable, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from shardctl.launch import Record, read_json, write_json
from shardctl.supervisor import logs
from shardctl.supervisor.effects import Finish, Say
from shardctl.supervisor.procs import Known, start_of

SCHEMA: Final = 1
LOCK_VARIABLE: Final = "SHARDCTL_LOCK_FD"


class Speaker:
    """Writes lines to supervisor.log, and to stderr in the foreground.

    ``quotes`` False leaves the quoted lines of children out of stderr, for a terminal that
    shows their output anyway.
    """

    def __init__(self, path: Path, *, foreground: bool, quotes: bool = True) -> None:
        self._path = path
        self._foreground = foreground
        self._quotes = quotes
        self._file = logs.open_log(path)

    def say(self, said: Say) -> None:
        """One line, and the quoted ones indented below it."""
        moment = datetime.now().astimezone().isoformat(timespec="seconds")
        quoted = "".join(f"    | {line}\n" for line in said.lines)
        self._write(self._file, f"{moment} {said.text}\n{quoted}")
        if self._foreground:
            shown = quoted if self._quotes else ""
            self._write(sys.stderr.fileno(), f"{said.text}\n{shown}")

    def _write(self, file: int, text: str) -> None:
        with contextlib.suppress(OSError):  # a full disk or a closed terminal ends no fleet
            os.write(file, text.encode(errors="replace"))

    def reopen(self) -> None:
        """Open the log by its name again (SIGUSR1), after another program moved it."""
        try:
            file = logs.open_log(self._path)
        except OSError as error:
            self.say(Say(f"{self._path.name} cannot be opened again: {error.strerror}"))
            return
        os.close(self._file)
        self._file = file
        if not self._foreground:
            for file in (1, 2):
                os.dup2(self._file, file)

    def cap(self) -> None:
        """Rotate the log where it is full."""
        logs.cap_log(self._path)

    def close(self) -> None:
        os.close(self._file)


class Notes:
    """``supervisor.json`` while this process lives, ``last-exit.json`` after it."""

    def __init__(self, record: Record, *, foreground: bool) -> None:
        self._path = supervisor_file(Path(record.run_dir))
        self._exit_path = last_exit_file(Path(record.data_dir))
        self._head: dict[str, Any] = {
            "schema": SCHEMA,
            "fleet": record.fleet,
            "pid": os.getpid(),
            "started": start_of(os.getpid()),
            "started_at": time.time(),
            "foreground": foreground,
        }

    def children(self, known: Iterable[Known], *, stopping: bool = False) -> None:
        """Name the living children, so that whoever comes after a kill -9 finds them.

        Raises OSError where there is no room.
        """
        children = [child._asdict() for child in known]
        write_json(self._path, self._head | {"stopping": stopping, "children": children})

    def end(self, result: Finish) -> None:
        """A clean end: nothing is left to find, and why it ended can be read.

        Raises OSError where there is no room for that.
        """
        self._path.unlink(missing_ok=True)
        write_json(
            self._exit_path,
            {
                "schema": SCHEMA,
                "pid": os.getpid(),
                "exit_code": result.exit_code,
                "reason": result.reason,
                "lines": list(result.lines),
            },
        )


def supervisor_file(run_dir: Path) -> Path:
    return run_dir / "supervisor.json"


def last_exit_file(data_dir: Path) -> Path:
    return data_dir / "last-exit.json"


def known_children(note: dict[str, Any]) -> list[Known]:
    """The children named in a supervisor.json."""
    children = note.get("children", [])
    return [Known(c["name"], int(c["pid"]), str(c["started"])) for c in children]


def read_note(run_dir: Path) -> dict[str, Any] | None:
    """The supervisor.json of a run folder; None where there is none."""
    return read_json(supervisor_file(run_dir))


class Lock:
    """One supervisor a fleet: held by the process, and gone with it however it ends."""

    def __init__(self, data_dir: Path, file: int | None = None) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        path = data_dir / "supervisor.lock"
        self._file = os.open(path, flags, 0o600) if file is None else file

    @classmethod
    def handed_over(cls, data_dir: Path, environ: MutableMapping[str, str]) -> Lock:
        """The lock that `start` took for us, by the variable; else one to be taken."""
        text = environ.pop(LOCK_VARIABLE, "")
        if not text.isdecimal():
            return cls(data_dir)
        os.set_inheritable(int(text), False)
        return cls(data_dir, int(text))

    def hand_over(self) -> tuple[int, dict[str, str]]:
        """The open file, made inheritable, and the variable that tells a supervisor of it."""
        os.set_inheritable(self._file, True)
        return self._file, {LOCK_VARIABLE: str(self._file)}

    def take(self) -> bool:
        """Whether the lock is ours now."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let it go."""
        os.close(self._file)
