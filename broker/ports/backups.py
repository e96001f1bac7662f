"""Backups of the state, each in a process of its own that a thread waits for.

The process gets the two folders and no environment of the broker's: no token is in it. It ends
with the broker, whose end of its standard input it watches.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import store
from broker.core.effects import Backup
from broker.core.events import BackedUp
from broker.core.keeping import LastBackup

FOLDER: Final = "backups"
"""In the data folder, unless the operator named another place."""
END_S: Final = 2.0
_HINT: Final = "read the broker's log"
_TAIL_CHARS: Final = 400
_BOOTSTRAP: Final = (
    "import runpy, sys; "
    "sys.path.insert(0, {folder!r}); "
    "runpy.run_module('store.backups', run_name='__main__', alter_sys=True)"
)


class BackupPort:
    """One backup at a time; ``wake`` is called, on a thread, when it has ended."""

    def __init__(self, state: Path, wake: Callable[[], None]) -> None:
        self._state, self._wake = state, wake
        self._ends: queue.SimpleQueue[BackedUp] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, effect: Backup) -> None:
        """Begins one; its end comes out of ``ends``, also where it cannot be begun."""
        folder = effect.folder or str(self._state.parent / FOLDER)
        how = {"state": str(self._state), "folder": folder}
        how_many = {"at_ms": effect.at_ms, "keep": effect.keep}
        code = _BOOTSTRAP.format(folder=str(Path(store.__file__).resolve().parents[1]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, json.dumps(how | how_many)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor
            )
        except OSError as error:
            self._end(BackedUp(None, "E_SYSTEM", f"no process for it: {error.strerror}", _HINT))
            return
        args = (self._process,)
        threading.Thread(target=self._run, args=args, name="backup", daemon=True).start()

    def ends(self) -> list[BackedUp]:
        """How it went, once it has ended."""
        found: list[BackedUp] = []
        while not self._ends.empty():
            found.append(self._ends.get())
        return found

    def close(self) -> None:
        """Ends a backup that is under way; what there is of it goes before the next."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(END_S)

    def _run(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin and process.stdout and process.stderr
        errors = threading.Thread(target=_drain, args=(process.stderr, tail := bytearray()))
        errors.start()
        out = process.stdout.read()
        process.wait()
        errors.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        self._end(read_end(out, process.returncode, bytes(tail).decode(errors="replace")))

    def _end(self, end: BackedUp) -> None:
        self._ends.put(end)
        self._wake()


def _drain(pipe: Any, tail: bytearray) -> None:
    """The last words."""
    while data := pipe.read(4096):
        tail += data
        del tail[:-_TAIL_CHARS]


def read_end(out: bytes, code: int, tail: str = "") -> BackedUp:
    """What the process said, or why it said nothing."""
    try:
        words = json.loads(out)
        if "error" in words:
            error = words["error"]
            return BackedUp(None, error["code"], error["message"], error["hint"])
        return BackedUp(LastBackup(**words["done"]))
    except (ValueError, KeyError, TypeError):
        how = f"with {code}" if code >= 0 else f"by signal {-code}"
        last = tail.strip().rpartition("\n")[2]
        text = f"its process ended {how}" + (f": {last}" if last else "")
        return BackedUp(None, "E_BUG", text, _HINT)
