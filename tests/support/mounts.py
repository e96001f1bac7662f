"""File systems that a test mounts for itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(where: Path, *arguments: str) -> Iterator[Path]:
    """A file system of its own. Skips where this may not be."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    where.mkdir()
    answer = subprocess.run(
        ["mount", *arguments, str(where)], capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        pytest.skip(f"mount: {answer.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)
