"""What the answer of `fleet.status` says, in words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

READY: Final = "ready"
_UP: Final = "up"
WELL: Final = frozenset({_UP, "lingering"})
"""A node that a scale has ended lingers without shards, for what waits in it."""
FAILED: Final = "failed"
DEGRADED: Final = "degraded"
_UNITS: Final = (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40))

WIDTH_ANY: Final = 1 << 16
FLAWS_SHOWN: Final = 8
"""Journals that a full disk breaks are many at once."""

Report = Mapping[str, Any]


def all_ready(report: Report) -> bool:
    """Whether every shard is ready and every node well."""
    shards = report["shards"]
    return (
        bool(shards)
        and all(shard["state"] == READY for shard in shards)
        and all(node["state"] in WELL for node in report["nodes"])
    )


def settled(report: Report) -> bool:
    """Whether a start goes no further: each shard ready, or its node failed for good."""
    failed = {node["id"] for node in report["nodes"] if node["state"] == FAILED}
    shards = report["shards"]
    return bool(shards) and all(s["state"] == READY or s["node"] in failed for s in shards)


def ready_count(report: Report) -> tuple[int, int]:
    """Shards that are ready, and all."""
    shards = report["shards"]
    return sum(shard["state"] == READY for shard in shards), len(shards)


def counted(count: int, thing: str) -> str:
    """`1 shard`, `2 shards`."""
    return f"{count} {thing}{'s' * (count != 1)}"


def headline(report: Report, width: int = WIDTH_ANY) -> str:
    """The fleet in one line: `bot: 4 of 4 shards ready on 2 nodes; broker up 3 min (pid 12)`.

    What matters least is left out where it exceeds ``width`` characters.
    """
    ready, total = ready_count(report)
    broker = report["broker"]
    state = report.get("fleet_state", "")
    lead = f"{report['fleet']}: " + (f"{state}, " if state not in ("", "running") else "")
    others = Counter(s["state"] for s in report["shards"] if s["state"] != READY)
    rest = "".join(f", {count} {state}" for state, count in sorted(others.items()))
    shards = f"{ready} of {counted(total, 'shard')} ready{rest}"
    up = f"broker up {span(broker['uptime_s'])}"
    forms = (
        f"{lead}{shards} on {_nodes(report)}; {up} (pid {broker['pid']})",
        f"{lead}{shards} on {_nodes(report)}; {up}",
        f"{lead}{shards} on {_nodes(report)}",
        f"{shards} on {_nodes(report)}",
        shards,
    )
    return next((form for form in forms if len(form) <= width), shards)


def _nodes(report: Report) -> str:
    """`2 nodes`, `2 nodes (1 degraded)`."""
    count = counted(len(report["nodes"]), "node")
    others = Counter(node["state"] for node in report["nodes"] if node["state"] != _UP)
    rest = ", ".join(f"{number} {state}" for state, number in sorted(others.items()))
    return f"{count} ({rest})" if rest else count


def budget_line(report: Report, width: int = WIDTH_ANY) -> str:
    """The IDENTIFY budget in one line, shorter where it exceeds ``width`` characters."""
    budget = report.get("identify") or {}
    remaining, total = budget.get("remaining"), budget.get("total")
    if remaining is None or total is None:
        return "IDENTIFY budget: not known yet"
    reset = budget.get("reset_after_s")
    after = f", reset in {span(reset)}" if reset is not None else ""
    line = f"IDENTIFY budget: {remaining} of {total} remain{after}"
    return line if len(line) <= width else f"budget: {remaining} of {total}{after}"


def troubles(report: Report, lines_max: int = 3) -> list[str]:
    """Warnings, and each node that is not well with its reason and last lines."""
    found = [f"warning: {warning}" for warning in report.get("warnings", ())]
    found += [
        f"shard {shard['id']} is {shard['trouble']}"
        for shard in report["shards"]
        if shard.get("trouble") and shard["state"] != READY
    ]
    flaws = (
        f"shard {one['id']}: {one['journal']}" for one in report["shards"] if one.get("journal")
    )
    found += islice(flaws, FLAWS_SHOWN)
    for node in report["nodes"]:
        if node["state"] in WELL:
            continue
        found.append(f"node {node['id']} {node['state']}: {_reason(node)}")
        found += [f"    | {line}" for line in list(node.get("tail") or ())[-lines_max:]]
    return found


_MEANINGS: Final = {
    "planned": "waits for its process",
    "storing": "its start is being recorded",
    "spawning": "its process is being started",
    "starting": "its process imports the bot and connects",
    "stopping": "is asked to end",
    "backoff": "ended; is started again in a moment",
    "failed": "stays down",
    "gone": "ended, as the fleet stops",
}


def _reason(node: Mapping[str, Any]) -> str:
    """Why a node is not up: in the broker's words, else what its state means."""
    lag_ms = node.get("loop_lag_ms")
    lag = f"its event loop hangs, {lag_ms:.0f} ms so far" if lag_ms is not None else ""
    if node["state"] == DEGRADED:
        # The reason of an earlier process says nothing about a hanging loop.
        return lag or node.get("reason") or "does not run well"
    return node.get("reason") or _MEANINGS.get(node["state"], "no reason is known")


def span(seconds: float | None) -> str:
    """A duration for people: `12 s`, `3 min 05 s`, `2 h 04 min`, `3 d 2 h`."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{h} h {m:02} min"
    return f"{m} min {s:02} s" if minutes else f"{s} s"


def size(count: float | None) -> str:
    """Bytes for people, in binary units."""
    if not count:
        return "-"
    name, unit = next((n, u) for n, u in reversed(_UNITS) if count >= u)
    return f"{count / unit:.0f} {name}"


def ranges(numbers: list[int]) -> str:
    """`0-3, 7` for [0, 1, 2, 3, 7].

    >>> ranges([0, 1, 2, 3, 7]), ranges([4]), ranges([])
    ('0-3, 7', '4', '-')
    """
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts) or "-"
