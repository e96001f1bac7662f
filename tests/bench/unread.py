"""A consumer that never reads, and one whose handlers never finish, under full speed."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

import psutil

from shardctl.bench.measure import now_ns, percentile
from shardctl.bench.worker import Worker
from tests.bench.lines import ROOT
from tests.bench.own import Check, Limit

MEGABYTE: Final = 1 << 20
FLOOD_S: Final = 10.0
FLOOD_QUICK_S: Final = 3.0
QUIET_S: Final = 2.0
LOOK_S: Final = 0.1
FLOODERS: Final = 3
"""More than may wait for one receiver: the broker's limit is reached, not only the senders'."""
COUNTED: Final = ("begun", "full", "without_hint", "handled")
CONSUMERS: Final = ("deaf", "endless")
ROLES: Final = "tests.bench.unread_roles"


def unread(quick: bool) -> dict[str, float]:
    """Both consumers, each on a broker of its own."""
    figures: dict[str, float] = {}
    for consumer in CONSUMERS:
        for key, value in one(consumer, FLOOD_QUICK_S if quick else FLOOD_S).items():
            figures[f"{consumer}_{key}"] = value
    return figures


def one(consumer: str, flood_s: float) -> dict[str, float]:
    """FLOODERS flood the consumer while a bystander asks another peer: before (``quiet``),
    meanwhile (``loud``) and afterwards, with all queues full."""
    from tests.bench.contenders.ours_peer import Server

    server = Server()
    with contextlib.ExitStack() as stack:
        endpoint = server.start()
        stack.callback(server.stop)
        process = psutil.Process(server.pid)

        def worker(role: str, **arguments: Any) -> Worker:
            made = stack.enter_context(
                Worker(f"{ROLES}:{role}", ROOT, endpoint=endpoint, **arguments)
            )
            made.hear()
            return made

        idle = worker(consumer, name="c")
        answerer = stack.enter_context(
            Worker("shardctl.bench.loads:receive", ROOT, endpoint=endpoint, name="t", topic="none")
        )
        answerer.hear()
        asker = worker("ask", name="s", target="t")
        flooders = [worker("flood", name=f"f{place}", target="c") for place in range(FLOODERS)]
        asker.say()
        time.sleep(QUIET_S / 2)
        quiet = _watched(process, QUIET_S)
        for flooder in flooders:
            flooder.say()
        loud = _watched(process, flood_s)
        counts = _counts(server)
        for flooder in flooders:
            flooder.say()
        flooded = [flooder.hear() for flooder in flooders]
        after = _watched(process, QUIET_S)
        asker.say()
        asked = asker.hear()["asked"]
        idle.say()
        consumed = idle.hear()
    return {
        **_compared(asked, quiet, loud, after),
        "broker_mb": loud[2],
        "broker_grown_mb": loud[2] - quiet[2],
        "sender_mb": max(one["most_mb"] for one in flooded),
        **{key: sum(one.get(key, 0) for one in flooded) for key in COUNTED},
        "bounced": counts.get("bounced", 0),
        "dropped": counts.get("dropped_normal", 0) + sum(o["events_dropped"] for o in flooded),
        "consumer_mb": consumed.get("rss_mb", 0.0),
    }


def _counts(server: Any) -> dict[str, int]:
    found: dict[str, int] = server.rig.status()["broker"]["counts"]
    return found


def _watched(process: psutil.Process, seconds: float) -> tuple[int, int, float]:
    start_ns, end, most = now_ns(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        most = max(most, process.memory_info().rss)
        time.sleep(LOOK_S)
    return start_ns, now_ns(), most / MEGABYTE


def _compared(asked: list[tuple[int, int]], *spans: tuple[int, int, float]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, (start_ns, end_ns, _) in zip(("quiet", "loud", "after"), spans, strict=True):
        took = [took_ns for at_ns, took_ns in asked if start_ns <= at_ns <= end_ns]
        assert took, f"nobody was asked while {name}"
        figures[f"{name}_p50_us"] = percentile(took, 0.5) / 1e3
        figures[f"{name}_p99_us"] = percentile(took, 0.99) / 1e3
    figures["loud_p50"] = figures["loud_p50_us"] / figures["quiet_p50_us"]
    figures["after_p50"] = figures["after_p50_us"] / figures["quiet_p50_us"]
    return figures


CHECK: Final = Check(
    "unread",
    "a consumer that reads nothing, one that finishes nothing, under full speed",
    unread,
    tuple(
        limit
        for consumer in CONSUMERS
        for limit in (
            Limit(f"{consumer}_broker_grown_mb", 96.0),
            Limit(f"{consumer}_sender_mb", 192.0),
            Limit(f"{consumer}_full", 1, at_most=False),
            Limit(f"{consumer}_without_hint", 0),
            Limit(f"{consumer}_dropped", 1, at_most=False),
            Limit(f"{consumer}_after_p50", 2.0),
        )
    ),
)
