"""What processes report of shards that an operation moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.core.fleet import Node
from broker.core.procs import Proc, Role
from shard_node.wire.bodies import Heartbeat, ShardReport
from shard_node.wire.handover import Phase

_PHASES: Final[dict[str, Phase]] = {phase.value: phase for phase in Phase}
_EARLY: Final = frozenset({Phase.NONE, Phase.WARMING})
SHARDS_MAX: Final = 4096
"""Of other nodes, that one may report to come to it."""


def phase_of(report: ShardReport) -> Phase:
    """The phase in a report; one that we do not know counts as none."""
    return _PHASES.get(report.phase, Phase.NONE)


def phases(node: Node, reports: Iterable[ShardReport]) -> None:
    """Keeps how far a current process is with what operations move."""
    named = [report for report in reports if report.phase][:SHARDS_MAX]
    node.phases = {report.id: phase_of(report) for report in named}
    node.ops = {report.id: report.op for report in named}
    node.reports = {report.id: report for report in named if report.id not in node.rows}
    node.op = named[-1].op if named else ""


def observe(proc: Proc, reports: Iterable[ShardReport]) -> None:
    """Keeps what a process beside its node's current one reports. One that was never told of an
    operation names none, and means its own."""
    known = list(reports)[:SHARDS_MAX]
    proc.reports = {report.id: report for report in known}
    proc.phases = {
        report.id: phase_of(report) if report.op in ("", proc.op) else Phase.NONE
        for report in known
    }
    proc.voice = sum(max(0, report.voice) for report in known)
    warm = not any(phase in _EARLY for phase in proc.phases.values())
    if proc.role is Role.SUCCESSOR and proc.registered and warm and not _ends(proc):
        proc.due_at = None


def heard(proc: Proc, body: Heartbeat, now: float) -> None:
    """Keeps what a heartbeat says of such a process."""
    proc.heard_at = proc.heartbeat_at = now
    proc.loop_lag_ms, proc.rss_bytes, proc.queue = body.loop_lag_ms, body.rss_bytes, body.queue
    proc.cpu_s, proc.lingers = body.cpu_s, body.lingers
    if proc.registered:
        observe(proc, body.shards)


def _ends(proc: Proc) -> bool:
    return proc.killed or proc.stop_asked
