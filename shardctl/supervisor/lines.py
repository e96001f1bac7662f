"""What the broker is told of processes, as it goes over the link. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shardctl.supervisor.effects import Exit, Process


def hello(pid: int, nodes: Iterable[Process], now: float) -> Mapping[str, Any]:
    """The first line of each broker: who its supervisor is, and which nodes live."""
    procs = [_proc(process, now) for process in nodes]
    return {"ev": "hello", "supervisor_pid": pid, "procs": procs}


def exited(process: Process, end: Exit, lived_s: float) -> Mapping[str, Any]:
    """A node's process has ended and is reaped."""
    return {
        "ev": "exited",
        "name": process.name,
        "epoch": process.epoch,
        "pid": process.pid,
        "code": end.code,
        "signal": end.signal,
        "uptime_s": round(lived_s, 3),
        "tail": list(end.tail),
    }


def _proc(process: Process, now: float) -> Mapping[str, Any]:
    spec = process.spec
    return {
        "name": process.name,
        "pid": process.pid,
        "epoch": process.epoch,
        "shards": list(spec["shards"]),
        "num_shards": spec["num_shards"],
        "index": spec["index"],
        "uptime_s": round(now - process.since, 3),
    }
