"""What is sent in a measurement, and what is made of the times. Pure but for the clock.

All times are ``now_ns``: CLOCK_MONOTONIC, which every process of one machine shares.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

now_ns: Final = time.monotonic_ns

BODY_BYTES: Final = 256
_encode: Final = msgspec.msgpack.Encoder().encode


def body_of(size_bytes: int = BODY_BYTES) -> dict[str, Any]:
    """A body as bots send them, of ``size_bytes`` in MessagePack (at least the fields)."""
    body: dict[str, Any] = {
        "guild_id": 81384788765712384,
        "user_id": 80351110224678912,
        "kind": "economy.transfer",
        "amount": 250,
        "at": 1700000000.125,
        "tags": ["a", "b"],
        "note": "",
    }
    while len(_encode(body)) < size_bytes:
        body["note"] += "x"
    return body


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0-1) of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def latency(values_ns: Sequence[int]) -> dict[str, float]:
    """p50, p99 and the worst of round trips, in microseconds."""
    return {
        "p50_us": percentile(values_ns, 0.5) / 1e3,
        "p99_us": percentile(values_ns, 0.99) / 1e3,
        "max_us": max(values_ns) / 1e3,
    }


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure its median over the runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def rate_between(samples: Sequence[Sequence[int]], start_ns: int, end_ns: int) -> float:
    """Messages per second within a span, from (time, total so far) pairs in their order."""
    inside = [pair for pair in samples if start_ns <= pair[0] <= end_ns]
    if len(inside) < 2:
        return 0.0
    (first_ns, first), (last_ns, last) = inside[0], inside[-1]
    return (last - first) * 1e9 / (last_ns - first_ns)
