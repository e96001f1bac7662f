"""Has ``shardctl.offline`` work on the state's files, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any, Final

import click

from shardctl.errors import (
    EXIT_CONFIG,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_FOUND,
    EXIT_REFUSED,
    EXIT_TEMPFAIL,
    ShardctlError,
)
from shardctl.launch import LaunchError, daemon_folder
from shardctl.paths import FleetPaths, known_fleets
from shardctl.running import supervisor_pid

STATE: Final = "state"
"""The state's folder in the data folder, as the broker calls it (broker/ports/state.py)."""
_BOOTSTRAP: Final = (
    "import runpy, sys; "
    "sys.path.insert(0, {folder!r}); "
    "runpy.run_module('shardctl.offline', run_name='__main__', alter_sys=True)"
)
_IN_USE: Final = "E_STORE_IN_USE"
_EXITS: Final = {_IN_USE: EXIT_REFUSED, "E_STORE_FULL": EXIT_TEMPFAIL}
_NEED_A_STATE: Final = frozenset({"stats", "audit", "export", "import", "check", "backup"})
_TAIL_LINES: Final = 5
CLEAN_UP_S: Final = 10.0
"""After a Ctrl-C: to the end of what cannot be stopped half way, and its files removed."""


def at_rest(paths: FleetPaths, verb: str, **how: Any) -> dict[str, Any]:
    """What came of it. Raises ShardctlError for what the store refuses."""
    needed = verb in _NEED_A_STATE and not how.get("dry_run")
    if needed and not (paths.data_dir / STATE).is_dir():
        raise _no_state(paths)
    asked = json.dumps({"folder": str(paths.data_dir / STATE), **how})
    done = _finished([sys.executable, "-P", "-c", _bootstrap(), verb, asked])
    if done.returncode == EXIT_INTERRUPTED:
        raise click.Abort
    try:
        words = json.loads(done.stdout)
    except ValueError:
        raise _died(verb, done) from None
    if "error" in words:
        raise _refused(paths, words["error"])
    found: dict[str, Any] = words["done"]
    return found


def _no_state(paths: FleetPaths) -> ShardctlError:
    others = [name for name in known_fleets() if name != paths.fleet]
    return ShardctlError(
        f"the fleet {paths.fleet} has no state here: it was never started.",
        consequence=f"Fleets that were: {', '.join(others)}." if others else "",
        hint="another fleet -> `--fleet NAME`\nthis one -> `shardctl start`",
        code="E_NO_STATE",
        exit_code=EXIT_NOT_FOUND,
    )


def must_be_down(paths: FleetPaths, otherwise: str = "") -> None:
    """Raises ShardctlError while the fleet's supervisor lives: between a broker's death and its
    next start nobody holds the broker's lock. ``otherwise``: what can be typed instead."""
    if supervisor_pid(paths) is not None:
        error = {"message": f"the fleet {paths.fleet} runs", "code": _IN_USE, "hint": ""}
        refusal = _refused(paths, error)
        refusal.hint = "\n".join(filter(None, (refusal.hint, otherwise)))
        raise refusal


def _finished(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run it to its end. A Ctrl-C is passed on once, so that it can clean up after itself."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # of a terminal's Ctrl-C it hears from here alone
    ) as process:
        try:
            out, err = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=CLEAN_UP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _bootstrap() -> str:
    try:
        return _BOOTSTRAP.format(folder=str(daemon_folder()))
    except LaunchError as error:
        raise ShardctlError(f"{error}.", code="E_INSTALL", exit_code=EXIT_CONFIG) from error


def _refused(paths: FleetPaths, error: dict[str, str]) -> ShardctlError:
    hint = error["hint"]
    if error["code"] == _IN_USE:
        hint = f"shardctl stop --fleet {paths.fleet}"
    return ShardctlError(
        error["message"] if error["message"].endswith(".") else f"{error['message']}.",
        hint=hint,
        code=error["code"],
        exit_code=_EXITS.get(error["code"], EXIT_FAILED),
    )


def _died(verb: str, done: subprocess.CompletedProcess[str]) -> ShardctlError:
    """It ended without a word: killed, or a bug."""
    how = f"with {done.returncode}" if done.returncode >= 0 else f"by signal {-done.returncode}"
    return ShardctlError(
        f"the process that works on the state's files ({verb}) ended {how}.",
        consequence="\n".join(done.stderr.splitlines()[-_TAIL_LINES:]),
        code="E_BUG",
    )
