"""Reports of witnesses: which event's handler started and ended, when, on which node.

A witness sits in a node's bridge. A report is ``{"nonce", "node", "phase": "start"|"end",
"at"}``, ``at`` in seconds of the machine's monotonic clock; ``{"kind": "guild_join", "node",
"at"}`` when the bot was told that it joined a guild; ``{"kind": "dropped", "node", "count"}``
when a witness lost reports: then ``events_handled_never`` says too much. Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeGuard

from shard_node.sandbox.audit import Audit

DROPPED_MAX: Final = 1 << 40
MOMENT_MAX_S: Final = 1e12
"""No monotonic clock reads more; what does is no moment."""


def take_text(audit: Audit, text: str | bytes) -> int:
    """Count the reports of one message, a report or a list of them; how many were sound."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    return take(audit, given)


def take(audit: Audit, given: Any) -> int:
    """As `take_text`, of decoded JSON. What is no report is counted and passed over."""
    reports = given if isinstance(given, list) else [given]
    sound = sum(_take_one(audit, report) for report in reports)
    audit.counters["witness_malformed"] += len(reports) - sound
    return sound


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
    if report["kind"] == "guild_join":
        at = report.get("at")
        audit.guild_join_seen((node, float(at)) if _is_moment(at) else None)
        return True
    if report["kind"] == "dropped" and type(count) is int and 0 < count < DROPPED_MAX:
        audit.counters["witness_dropped"] += count
        return True
    return False


def _is_moment(at: Any) -> TypeGuard[float]:
    """Whether it can be ordered among moments: JSON as Python reads it knows NaN and Infinity."""
    return isinstance(at, int | float) and abs(at) < MOMENT_MAX_S
