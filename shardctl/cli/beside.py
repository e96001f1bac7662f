"""What `status` says of processes beside a node's current one, and of what befell shards. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shardctl.cli.report import Report, span

LINES_MAX: Final = 8
SUCCESSOR: Final = "successor"
COUNTS: Final = {
    "shard_dead": "died with their process",
    "shard_hung": "hung",
    "shard_zombie": "zombie",
    "shard_deaf": "deaf",
    "shard_partly_deaf": "partly deaf",
    "shard_resumed_cold": "resumed from a journal",
    "shard_identified_again": "identified in spite of a journal",
    "handlers_interrupted": "handlers interrupted",
    "transfers_done": "hand-overs done",
    "transfers_reverted": "hand-overs reverted",
    "transfers_failed": "hand-overs failed",
    "transfers_cancelled": "hand-overs cancelled",
    "transfers_leftover": "leftovers of hand-overs cleared",
}
"""What befell shards since the broker's start: its counts in words."""


def beside_lines(report: Report) -> list[str]:
    """`node a (+1 starting: a#3, op-4)`; where there are many, how many."""
    found = [(node["id"], proc) for node in report["nodes"] for proc in node.get("processes", ())]
    if len(found) <= LINES_MAX:
        return [f"node {name} (+1 {_doing(name, proc)})" for name, proc in found]
    starting = sum(proc["role"] == SUCCESSOR for _, proc in found)
    lingering = len(found) - starting
    parts = [f"{starting} starting" * bool(starting), f"{lingering} lingering" * bool(lingering)]
    return [f"processes beside those of their nodes: {', '.join(filter(None, parts))}"]


def _doing(name: str, proc: Mapping[str, Any]) -> str:
    who = f"{name}#{proc['epoch']}"
    if proc["role"] == SUCCESSOR:
        return f"starting: {', '.join(filter(None, (who, proc['op'])))}"
    ends = proc.get("ends_in_s")
    parts = [who, f"{proc['lingers']} waiting" if proc["lingers"] else ""]
    parts.append(f"ends within {span(ends)}" if ends is not None else "")
    return f"lingers: {', '.join(filter(None, parts))}"


def counts_line(counts: Mapping[str, int]) -> Iterator[str]:
    """What befell shards, if anything did."""
    said = [f"{counts[name]} {words}" for name, words in COUNTS.items() if counts.get(name)]
    if said:
        yield f"shards: {', '.join(said)}"
