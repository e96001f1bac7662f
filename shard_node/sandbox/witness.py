"""Reports of witnesses: which event's handler started and ended, when, on which node.

A witness sits in a node's bridge. A report is ``{"nonce", "node", "phase": "start"|"end",
"at"}``, ``at`` in seconds of the machine's monotonic clock; or ``{"kind": "guild_join",
"guild", "node"}`` when the bot was told that it joined a guild. Pure.
"""

from __future__ import annotations

import json
from typing import Any, Final

from shard_node.sandbox.audit import Audit

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
    if report.get("kind") == "guild_join":
        audit.guild_join_seen()
        return True
    nonce, phase, at = report.get("nonce"), report.get("phase"), report.get("at", 0.0)
    if not isinstance(nonce, str) or not _is_moment(at):
        return False
    if phase == "start":
        audit.event_started(nonce, float(at), str(report.get("node", "")))
    elif phase == "end":
        audit.event_ended(nonce)
    return phase in ("start", "end")


def _is_moment(at: Any) -> bool:
    """Whether it can be ordered among moments: JSON as Python reads it knows NaN and Infinity."""
    return isinstance(at, int | float) and abs(at) < MOMENT_MAX_S
