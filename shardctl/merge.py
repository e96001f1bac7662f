"""Lines of several logs in the order of time, with one style of moments. Pure.

A line without a moment, such as what a bot prints, stays where its own log has it.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from typing import Final, NamedTuple

_OURS: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))(?= |$)")
"""ISO 8601 with its zone, as the supervisor, the broker and the marks of starts write it."""
_LOGGING: Final = re.compile(r"\W?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[.,]\d+)?")
"""The default of Python's logging, local time: a bot's own."""


class Timed(NamedTuple):
    """``at``: POSIX seconds, no less than that of the line before it in the same log."""

    at: float
    number: int
    name: str
    line: str


def moment_of(line: str) -> float | None:
    """POSIX seconds of the moment that ``line`` begins with; None where it has none."""
    found = _OURS.match(line) or _LOGGING.match(line)
    try:
        return datetime.fromisoformat(found[1]).timestamp() if found else None
    except (ValueError, OverflowError):
        return None


def plain(line: str, zone: tzinfo | None = None) -> str:
    """``line`` with a moment of ours as local time (or that of ``zone``) in whole seconds."""
    found = _OURS.match(line)
    if found is None or (at := moment_of(line)) is None:
        return line
    return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}{line[found.end() :]}"


def timed(name: str, lines: Iterable[str], before: float | None, number: int) -> list[Timed]:
    """The lines of one log with their times. ``before``: the time of those without any
    ahead of them; None: that of the first which has one."""
    lines = list(lines)
    if before is None:
        before = next((at for at in map(moment_of, lines) if at is not None), 0.0)
    result = []
    for line in lines:
        before = max(before, moment_of(line) or before)
        result.append(Timed(before, number, name, line))
    return result


def merged(logs: Iterable[list[Timed]]) -> Iterator[Timed]:
    """All lines by time; within one log, and at one moment, as they were."""
    return heapq.merge(*logs, key=lambda entry: (entry.at, entry.number))
