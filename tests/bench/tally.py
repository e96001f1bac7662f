"""What members of a fleet said and handled, and what is to be found of it at the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

EVENTS: Final = "!"
"""At the end of a stream's name: every member may handle each of its numbers once."""
Ranges = list[list[int]]
"""Numbers as ranges, both ends included."""


def ranges(numbers: Iterable[int]) -> Ranges:
    """Of numbers without doubles."""
    found: Ranges = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def numbers(found: Ranges) -> set[int]:
    """Those within ranges."""
    return {number for first, last in found for number in range(first, last + 1)}


class Heard:
    """What one member handled: streams, each numbered from 1 by who says it."""

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}
        self._newest: dict[str, int] = {}
        self._twice: dict[str, list[int]] = {}
        self._late: dict[str, list[int]] = {}

    def take(self, stream: str, number: int) -> None:
        """A handler was called."""
        seen = self._seen.setdefault(stream, set())
        if number in seen:
            self._twice.setdefault(stream, []).append(number)
        elif number < self._newest.get(stream, 0):
            self._late.setdefault(stream, []).append(number)
        seen.add(number)
        self._newest[stream] = max(number, self._newest.get(stream, 0))

    def report(self) -> dict[str, Any]:
        """For the parent."""
        seen = {stream: ranges(found) for stream, found in self._seen.items()}
        return {"seen": seen, "twice": self._twice, "late": self._late}


class Verdict(NamedTuple):
    """``lost`` were acknowledged and handled by nobody, ``twice`` were handled more than once,
    by one member or by two, ``late`` after a newer one of their stream."""

    acked: int
    lost: int
    twice: int
    late: int


def judge(acked: Mapping[str, Ranges], reports: Sequence[Mapping[str, Any]]) -> Verdict:
    """``acked``: by stream what its sender was told to be done."""
    total = lost = twice = late = 0
    for report in reports:
        twice += sum(map(len, report["twice"].values()))
        late += sum(map(len, report["late"].values()))
    for stream in {stream for report in reports for stream in report["seen"]} | set(acked):
        handled: set[int] = set()
        for report in reports:
            here = numbers(report["seen"].get(stream, []))
            twice += 0 if stream.endswith(EVENTS) else len(handled & here)
            handled |= here
        told = numbers(acked.get(stream, []))
        total += len(told)
        lost += len(told - handled)
    return Verdict(total, lost, twice, late)
