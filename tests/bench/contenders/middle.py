"""A process between two ipc sockets, which a role of a contender's module runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from shardctl.bench.worker import Worker

ROOT = Path(__file__).resolve().parents[3]


class Middle:
    """The server of a contender; ``role`` is a coroutine function that takes ``front`` and
    ``back``, what both peers' sockets connect to."""

    def __init__(self, role: str) -> None:
        self._role = f"tests.bench.contenders.{role}"

    def start(self) -> str:
        self._folder = tempfile.TemporaryDirectory()
        front, back = (f"ipc://{self._folder.name}/{name}.sock" for name in ("front", "back"))
        self._worker = Worker(self._role, ROOT, front=front, back=back)
        self.pid = self._worker.pid
        self._worker.hear()
        return f"{front} {back}"

    def stop(self) -> None:
        self._worker.end()
        self._folder.cleanup()
