"""Which of the author's files were saved since the last look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILES_MAX: Final = 5000
"""More files than that are no bot's source; the rest is not watched."""
_SUFFIXES: Final = frozenset({".py", ".toml", ".env", ".json", ".yaml", ".yml"})
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "venv", "env", "build", "dist"})


class Saves:
    """Compares modification times; the first look is when it is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._times = self._look()

    def changed(self) -> list[Path]:
        """Files that are new, saved or gone since the last call, sorted."""
        before, self._times = self._times, self._look()
        keys = before.keys() | self._times.keys()
        return sorted(path for path in keys if before.get(path) != self._times.get(path))

    def _look(self) -> dict[Path, int]:
        times: dict[Path, int] = {}
        for path in self._files():
            try:
                times[path] = path.stat().st_mtime_ns
            except OSError:
                continue
            if len(times) >= FILES_MAX:
                break
        return times

    def _files(self) -> Iterator[Path]:
        for root, folders, files in os.walk(self._folder):
            folders[:] = [f for f in folders if f not in _SKIPPED and not f.startswith(".")]
            for name in files:
                if name == ".env" or Path(name).suffix in _SUFFIXES:
                    yield Path(root) / name
