"""A process of a measurement: `python -m shardctl.bench.worker MODULE:ROLE ARGUMENTS`.

A role is `async def role(link, **arguments) -> dict`. Parent and worker speak JSON lines over
the worker's stdin and stdout; the last line is the role's result. The worker ends when the
parent is gone.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

ANSWER_MAX_S: Final = 60.0
END_MAX_S: Final = 5.0
_TAIL_BYTES: Final = 4000

Role = Callable[..., Awaitable[dict[str, Any]]]


class WorkerFailed(Exception):
    """A worker ended, or said nothing in time; with the last lines of its stderr."""


class Link:
    """The worker's side of the line."""

    def __init__(self, out: int) -> None:
        self._out = out

    def say(self, value: dict[str, Any]) -> None:
        """One line to the parent."""
        os.write(self._out, json.dumps(value).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        """The parent's next line. Raises EOFError where the parent is gone."""
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            raise EOFError
        heard: dict[str, Any] = json.loads(line)
        return heard


class Worker:
    """The parent's side. ``root``: the folder whose modules the role may be among."""

    def __init__(self, role: str, root: Path | None = None, **arguments: Any) -> None:
        self.role = role
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in end())
        safe = [] if root else ["-P"]
        self._process = subprocess.Popen(
            [sys.executable, *safe, "-m", "shardctl.bench.worker", role, json.dumps(arguments)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def say(self, **value: Any) -> None:
        """One line to the worker."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("has ended") from None

    def hear(self, within_s: float = ANSWER_MAX_S) -> dict[str, Any]:
        """The worker's next line. Raises WorkerFailed when none comes in time."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._unread:
            self._read(deadline)
        line, _, self._unread = self._unread.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def _read(self, deadline: float) -> None:
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise self._failure("says nothing")
        data = os.read(out, 1 << 20)
        if not data:
            raise self._failure("has ended")
        self._unread += data

    def _failure(self, what: str) -> WorkerFailed:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL_BYTES))
        tail = self._errors.read().decode(errors="replace").strip()
        return WorkerFailed(f"the process {self.role} {what}\n{tail}".strip())

    def end(self) -> None:
        """Kills it, if it still runs, and closes the line."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(END_MAX_S)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue


def role_named(name: str) -> Role:
    """The function behind ``module:function``."""
    module, _, attribute = name.partition(":")
    role: Role = getattr(importlib.import_module(module), attribute)
    return role


def main() -> None:
    """Runs one role to its end and says its result."""
    arguments: dict[str, Any] = json.loads(sys.argv[2])
    # What a library prints must not end up in the middle of a line.
    link = Link(os.dup(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(2, 1)
    factory = None
    if arguments.pop("uvloop", False):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        link.say(runner.run(_whole(role_named(sys.argv[1]), link, arguments)))


def _end_with_parent() -> None:
    """The parent holds the other end of stdin: a hang-up means that it is gone."""
    poll = select.poll()
    poll.register(0, 0)
    poll.poll()
    os._exit(1)


async def _whole(role: Role, link: Link, arguments: dict[str, Any]) -> dict[str, Any]:
    return await role(link, **arguments)


if __name__ == "__main__":
    main()
