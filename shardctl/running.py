"""Whether a fleet runs, and what the last one left behind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from shardctl.errors import EXIT_FAILED, EXIT_REFUSED, EXIT_TEMPFAIL, ShardctlError
from shardctl.launch import DRAIN_S, read_json
from shardctl.paths import FleetPaths
from shardctl.supervisor import procs
from shardctl.supervisor.journal import Lock, known_children, read_note

LEFT_MARGIN_S: Final = 2.0
KILLED_WAIT_S: Final = 5.0


def supervisor_pid(paths: FleetPaths) -> int | None:
    """The pid of the fleet's living supervisor; None when the fleet does not run."""
    note = read_note(paths.run_dir)
    if note is None:
        return None
    known = procs.Known("supervisor", int(note["pid"]), str(note["started"]))
    return known.pid if procs.lives(known) else None


def where_it_runs(paths: FleetPaths) -> FleetPaths:
    """The same fleet with the run folder of its last start, if something of it is left there.

    XDG_RUNTIME_DIR is another one by ssh than by cron, sudo or systemd; the data folder is
    not, so its launch record says where the socket is.
    """
    record = read_json(paths.record_file) or {}
    folder = Path(str(record.get("run_dir") or paths.run_dir))
    if folder == paths.run_dir or read_note(folder) is None:
        return paths
    if read_note(paths.run_dir) is not None and supervisor_pid(paths) is not None:
        return paths
    return dataclasses.replace(paths, run_dir=folder)


def take_fleet(paths: FleetPaths) -> Lock:
    """The fleet's lock, held: nobody else starts it. The data folder exists.

    Raises ShardctlError where a supervisor, or another start, holds it: exit 77, and 75
    while that fleet is stopping.
    """
    lock = Lock(paths.data_dir)
    if lock.take():
        return lock
    lock.close()
    raise runs_already(paths)


def runs_already(paths: FleetPaths) -> ShardctlError:
    """The fleet is somebody else's: it runs, comes up, or is stopping."""
    note = read_note(where_it_runs(paths).run_dir) or {}
    if note.get("stopping"):
        return _is_stopping(paths)
    return _runs(paths, note.get("pid", "not known yet"))


def _is_stopping(paths: FleetPaths) -> ShardctlError:
    drain_s = (read_json(paths.record_file) or {}).get("drain_s", DRAIN_S)
    wait_s = math.ceil(float(drain_s) + LEFT_MARGIN_S)
    return ShardctlError(
        f"the fleet {paths.fleet} is stopping.",
        consequence="Its handlers get their time to end. Nothing was started.",
        hint=f"try again in {wait_s} s",
        code="E_STOPPING",
        exit_code=EXIT_TEMPFAIL,
    )


def _runs(paths: FleetPaths, pid: object) -> ShardctlError:
    return ShardctlError(
        f"the fleet {paths.fleet} runs already (supervisor pid {pid}).",
        consequence="One bot runs once: two would answer everything twice. Nothing was started.",
        hint=f"shardctl status --fleet {paths.fleet}\nshardctl stop --fleet {paths.fleet}",
        code="E_RUNNING",
        exit_code=EXIT_REFUSED,
    )


def clear_remains(paths: FleetPaths, say: Callable[[str], None], drain_s: float = DRAIN_S) -> None:
    """Tell of a supervisor that ended without a goodbye, and see its children gone.

    They stop by themselves; those that do not within the drain are killed, each known by
    pid and start time. Raises ShardctlError where one cannot be killed, and (exit 77) where
    another start was faster: those are the children of a living fleet.
    """
    note = read_note(paths.run_dir)
    if note is None:
        return
    pid = supervisor_pid(paths)
    if pid is not None:
        raise _runs(paths, pid)
    say(
        f"the last supervisor (pid {note['pid']}) ended without a goodbye; "
        "its children stop by themselves, sessions kept"
    )
    left = procs.living(known_children(note))
    if left:
        say(f"waiting for {_names(left)}")
        left = procs.wait_gone(left, drain_s + LEFT_MARGIN_S)
    if left:
        say(f"{_names(left)} did not stop and are killed")
        for process in left:
            procs.kill(process)
        left = procs.wait_gone(left, KILLED_WAIT_S)
    if left:
        raise _unkillable(left)
    ours = (paths.supervisor_file, paths.sandbox_file, paths.sandbox_state_file, paths.socket_file)
    for path in ours:
        path.unlink(missing_ok=True)


def _names(processes: list[procs.Known]) -> str:
    return ", ".join(f"{p.name.replace('node:', 'node ')} (pid {p.pid})" for p in processes)


def _unkillable(left: list[procs.Known]) -> ShardctlError:
    return ShardctlError(
        f"cannot end what the last supervisor left: {_names(left)}.",
        consequence="Its shards would be served twice; nothing was started.",
        hint="kill -9 " + " ".join(str(process.pid) for process in left),
        code="E_REMAINS",
        exit_code=EXIT_FAILED,
    )


def last_exit(paths: FleetPaths, pid: int) -> dict[str, Any] | None:
    """How the supervisor ``pid`` ended, by its own word; None where it left none."""
    from shardctl.supervisor.journal import last_exit_file

    note = read_json(last_exit_file(Path(paths.data_dir)))
    return note if note is not None and note.get("pid") == pid else None
