"""What goes over the link to the broker, and what is told of the lines it sends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shardctl.supervisor.effects import Effects, Exit, Process, Say, title


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


def starts_again(line: Mapping[str, Any]) -> Effects:
    """What is told of a ``spawn`` line: why, where the node had a process before."""
    why = line.get("why")
    return [Say(f"{title(str(line['name']))} is started again: {why}")] if why else []


def signalled(line: Mapping[str, Any]) -> Effects:
    """What is told of a ``signal`` line that says why."""
    why = line.get("why")
    does = "is killed" if line["signal"] == "KILL" else "is told to end"
    return [Say(f"{title(str(line['name']))} {does}: {why}")] if why else []


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
