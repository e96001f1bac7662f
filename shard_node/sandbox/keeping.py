"""The state file: what Discord does not forget when one of its processes dies.

The application's commands are in it. A sandbox that was killed finds them there again, as a
fleet that has synced them once relies on; a clean stop removes the file.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
from pathlib import Path
from typing import Final

from shard_node.sandbox.registry import Registry

STATE_BYTES_MAX: Final = 4 * 1024 * 1024
"""More is not kept: every change writes the file anew while everybody waits."""


class StateFile:
    """The commands of ``registry`` in ``path``, whole or not at all, its owner's only."""

    def __init__(self, path: Path, registry: Registry) -> None:
        self._path = path
        self._registry = registry
        self._is_told = False

    def open(self) -> None:
        """Take over what another sandbox of this application left; write each change from now.

        A file of another application, or one that cannot be read, is left out of account.
        """
        for part in self._path.parent.glob(f".{glob.escape(self._path.name)}.*"):
            part.unlink(missing_ok=True)
        try:
            with self._path.open("rb") as file:
                data = file.read(STATE_BYTES_MAX + 1)
            if len(data) > STATE_BYTES_MAX:
                raise ValueError(f"more than {STATE_BYTES_MAX} bytes")
            self._registry.restore(json.loads(data))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            self._say(f"{self._path} is not used: {error}")
        self._registry.changed = self.save

    def save(self) -> None:
        """Write the commands. What cannot be written is said once; the sandbox goes on."""
        text = json.dumps(self._registry.kept()) + "\n"
        try:
            if len(text) > STATE_BYTES_MAX:
                raise ValueError(f"more than {STATE_BYTES_MAX} bytes")
            write_private(self._path, text)
        except (OSError, ValueError) as error:
            # An old set of commands would be worse than none.
            self.remove()
            if not self._is_told:
                self._is_told = True
                self._say(f"the commands are not kept in {self._path}: {error}")

    def remove(self) -> None:
        """Nothing is to be taken over."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _say(self, text: str) -> None:
        print(f"sandbox: {text}", file=sys.stderr, flush=True)


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` atomically, mode 0600."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
