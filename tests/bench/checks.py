"""Priority under a flood, idle peers, a node that stands still: ours alone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil

from shard_node.wire.limits import CLIENT_INTERVAL_MAX_S, HEARTBEAT_INTERVAL_S
from shardctl.bench import runs
from shardctl.bench.measure import percentile
from shardctl.bench.worker import Worker
from tests.bench import configs, kills, unread
from tests.bench.lines import MEMBERS, ROOT
from tests.bench.own import Check, Limit

MEGABYTE: Final = 1 << 20
IDLE_PEERS: Final = 1000
IDLE_PROCESSES: Final = 4
CONNECT_MAX_S: Final = 60.0
RSS_EVERY_S: Final = 0.25


@contextlib.contextmanager
def broker() -> Iterator[tuple[str, psutil.Process]]:
    """A broker of its own: its endpoint, its process."""
    from tests.bench.contenders.ours_peer import Server

    server = Server()
    try:
        yield server.start(), psutil.Process(server.pid)
    finally:
        server.stop()


def priority(quick: bool) -> dict[str, float]:
    """High-lane requests into a low-lane flood."""
    with broker() as (endpoint, _):
        return runs.priority(endpoint, 0.5 if quick else 1.5, 100 if quick else 500)


def idle(quick: bool) -> dict[str, float]:
    """What peers that say nothing but heartbeats cost the broker."""
    peers, seconds = (100, 2.0) if quick else (IDLE_PEERS, 10.0)
    with broker() as (endpoint, process), contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                Worker(
                    "tests.bench.check_roles:connected",
                    ROOT,
                    endpoint=endpoint,
                    prefix=f"i{place}",
                    count=peers // IDLE_PROCESSES,
                )
            )
            for place in range(IDLE_PROCESSES)
        ]
        for worker in workers:
            worker.hear(CONNECT_MAX_S)
        # What connecting left to do; and each has heard how often so many are to beat.
        time.sleep(1.0 if quick else 2 * HEARTBEAT_INTERVAL_S + CLIENT_INTERVAL_MAX_S)
        before, start = process.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, span_s = process.cpu_times(), time.monotonic() - start
        used_s = after.user + after.system - before.user - before.system
        rss = process.memory_info().rss / MEGABYTE
    return {"peers": peers, "cpu_percent": 100 * used_s / span_s, "rss_mb": rss}


def stopped(quick: bool) -> dict[str, float]:
    """SIGSTOP for one of eight nodes who all publish and send to all; seven ask each other."""
    still_s = 3.0 if quick else 20.0
    names = [f"s{place}" for place in range(MEMBERS)]
    with broker() as (endpoint, process), contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_talker(endpoint, name, names)) for name in names]
        for worker in workers:
            worker.hear()
        for worker in workers:
            worker.say()
        time.sleep(1.0)  # until all talk
        quiet = _watched(process, 2.0 if quick else 5.0)
        os.kill(workers[-1].pid, signal.SIGSTOP)
        still = _watched(process, still_s)
        os.kill(workers[-1].pid, signal.SIGCONT)
        for worker in workers[:-1]:
            worker.say()
        asked = [pair for worker in workers[:-1] for pair in worker.hear()["asked"]]
    figures = {}
    for name, (start_ns, end_ns, rss_mb) in (("quiet", quiet), ("still", still)):
        took = [took_ns for at_ns, took_ns in asked if start_ns <= at_ns <= end_ns]
        assert took, f"nobody was asked while {name}"
        figures[f"{name}_p50_us"] = percentile(took, 0.5) / 1e3
        figures[f"{name}_p99_us"] = percentile(took, 0.99) / 1e3
        figures[f"{name}_requests_s"] = len(took) * 1e9 / (end_ns - start_ns)
        figures[f"{name}_rss_mb"] = rss_mb
    figures["p99"] = figures["still_p99_us"] / figures["quiet_p99_us"]
    figures["grown_mb"] = figures["still_rss_mb"] - figures["quiet_rss_mb"]
    return figures


def _talker(endpoint: str, name: str, names: list[str]) -> Worker:
    """The last one of ``names`` is asked nothing: it will stand still."""
    role = "tests.bench.check_roles:talk"
    return Worker(role, ROOT, endpoint=endpoint, name=name, targets=names[:-1], everybody=names)


def _watched(process: Any, seconds: float) -> tuple[int, int, float]:
    """A span: its first and last moment, and the most memory in it."""
    start_ns, most = time.monotonic_ns(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        most = max(most, process.memory_info().rss)
        time.sleep(RSS_EVERY_S)
    return start_ns, time.monotonic_ns(), most / MEGABYTE


CHECKS: Final = (
    Check(
        "priority",
        "a high-lane request while a low-lane flood saturates its receiver",
        priority,
        tuple(
            limit
            for who in ("other", "same")
            for limit in (
                Limit(f"{who}_p50", 4.0),
                Limit(f"{who}_p99", 3.0),
                Limit(f"{who}_keeps", 0.95, at_most=False),
            )
        ),
    ),
    Check(
        "idle",
        "1,000 idle peers with heartbeats: the broker",
        idle,
        (Limit("cpu_percent", 5.0), Limit("rss_mb", 70.0)),
    ),
    Check(
        "stopped",
        "one of 8 nodes stands still for 20 s: the others",
        stopped,
        (Limit("p99", 2.0), Limit("grown_mb", 64.0)),
    ),
    kills.CHECK,
    unread.CHECK,
    configs.CHECK,
)
