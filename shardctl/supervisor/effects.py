"""What the supervisor's core is told and what it asks for: plain values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SANDBOX: Final = "sandbox"
BROKER: Final = "broker"


class Phase(enum.StrEnum):
    """Where the fleet is between its first process and its last."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDING = "ending"
    DONE = "done"


@dataclass(frozen=True)
class Process:
    """A living child. ``spec`` is the broker's ``spawn`` line of a node."""

    name: str
    epoch: int
    pid: int
    since: float
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exit:
    """How a child ended; ``tail`` are the last lines of its log."""

    code: int | None
    signal: int | None
    tail: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.signal is not None else f"code {self.code}"


# --- effects


@dataclass(frozen=True)
class Spawn:
    """Start a child; the answer is ``spawned`` or ``spawn_failed``."""

    name: str
    epoch: int = 0
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Signal:
    """Send a signal (``TERM``, ``KILL``) to a living child."""

    name: str
    epoch: int
    signal: str


@dataclass(frozen=True)
class Send:
    """Write one line to the broker."""

    line: Mapping[str, Any]


@dataclass(frozen=True)
class Say:
    """Tell the operator. ``lines`` are quoted below it."""

    text: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finish:
    """All children are gone; end with this code. ``reason`` is empty for an asked stop."""

    exit_code: int
    reason: str = ""
    lines: tuple[str, ...] = ()


Effect = Spawn | Signal | Send | Say | Finish
Effects = list[Effect]


def title(name: str) -> str:
    """A child's name in a sentence."""
    return name.replace("node:", "node ")
