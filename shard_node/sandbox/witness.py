"""Reports of witnesses: which event's handler started and ended, when, on which node.

A witness sits in a node's bridge. A report is ``{"nonce", "node", "phase": "start"|"end",
"at"}``, ``at`` in seconds of the machine's monotonic clock; ``{"kind": "guild_join", "node",
"at"}`` when the bot was told that it joined a guild, ``guild_remove`` that it left one;
``{"kind": "dropped", "node", "count"}`` when a witness lost reports: then
``events_handled_never`` says too much. ``{"kind": "from", "source", "first"}``: the reports
behind it are numbered from ``first`` on, and those of the source that were taken before are
passed over; `taken_from` is what is said back. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from shard_node.sandbox.audit import MEMBERSHIP, Audit

DROPPED_MAX: Final = 1 << 40
SOURCE_MAX_CHARS: Final = 128
MOMENT_MAX_S: Final = 1e12
"""No monotonic clock reads more; what does is no moment."""


def take_text(audit: Audit, text: str | bytes) -> int:
    """Count the reports of one message, a report or a list of them; how many were sound."""
    return take(audit, _decoded(text))


def taken_from(audit: Audit, text: str | bytes) -> dict[str, Any] | None:
    """As `take_text`; the answer for a numbered source: how many of its reports are taken."""
    given = _decoded(text)
    take(audit, given)
    heads = [one for one in given if _is_head(one)] if isinstance(given, list) else []
    if not heads:
        return None
    source = heads[-1]["source"]
    return {"source": source, "told": audit.sources.told(source)}


def take(audit: Audit, given: Any) -> int:
    """As `take_text`, of decoded JSON. What is no report is counted and passed over."""
    reports = given if isinstance(given, list) else [given]
    untaken = list(_untaken(audit, reports))
    sound = sum(_take_one(audit, report) for report in untaken)
    audit.counters["witness_malformed"] += len(untaken) - sound
    return sound


def _decoded(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _untaken(audit: Audit, reports: list[Any]) -> Iterator[Any]:
    """Those that were not taken before, without their heads."""
    source, number = None, 0
    for report in reports:
        if _is_head(report):
            source, number = report["source"], report["first"]
        elif source is not None and not audit.sources.take(source, number):
            number += 1
            audit.counters["witness_retold"] += 1
        else:
            number += 1
            yield report


def _is_head(report: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(report, dict) or report.get("kind") != "from":
        return False
    source, first = report.get("source"), report.get("first")
    return (
        isinstance(source, str)
        and len(source) <= SOURCE_MAX_CHARS
        and type(first) is int
        and 0 <= first < DROPPED_MAX
    )


def _take_one(audit: Audit, report: Any) -> bool:
    if not isinstance(report, dict):
        return False
    if "kind" in report:
        return _take_other(audit, report)
    nonce, phase, at = report.get("nonce"), report.get("phase"), report.get("at", 0.0)
    if not isinstance(nonce, str) or not _is_moment(at):
        return False
    if phase == "start":
        audit.event_started(nonce, float(at), str(report.get("node", "")))
    elif phase == "end":
        audit.event_ended(nonce)
    return phase in ("start", "end")


def _take_other(audit: Audit, report: dict[str, Any]) -> bool:
    node, count = str(report.get("node", "")), report.get("count")
    if report["kind"] in MEMBERSHIP:
        at = report.get("at")
        audit.membership_seen(report["kind"], (node, float(at)) if _is_moment(at) else None)
        return True
    if report["kind"] == "dropped" and type(count) is int and 0 < count < DROPPED_MAX:
        audit.counters["witness_dropped"] += count
        return True
    return False


def _is_moment(at: Any) -> TypeGuard[float]:
    """Whether it can be ordered among moments: JSON as Python reads it knows NaN and Infinity."""
    return isinstance(at, int | float) and abs(at) < MOMENT_MAX_S
