"""What `shardctl status --json` prints, and which nodes there are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from broker.core.effects import Effects, Reply
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet, Node
from broker.core.procs import Proc
from broker.core.shardrow import ShardRow
from broker.services.planning import duration
from shard_node.wire.bodies import NodesReply, NodesRequest, ShardState, StatusRequest
from shard_node.wire.identity import node_id
from store.records import Durable

SCHEMA: Final = 1
NODES_PER_PAGE: Final = 64
SHARDS_PER_PAGE: Final = 2048
"""What fits into one body (BODY_MAX_BYTES), with the last lines of nodes that all crashed."""
LOST_SHOWN_MAX: Final = 8
TAIL_LINES: Final = 10
TAIL_LINE_CHARS: Final = 200
_T = TypeVar("_T")


class Status:
    """Reads the fleet; changes nothing."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=StatusRequest(page=page)):
                return [Reply(ref, self._status(max(0, page), now))]
            case Asked(ref=ref, body=NodesRequest()):
                return [Reply(ref, self._nodes())]
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    def _status(self, page: int, now: float) -> dict[str, Any]:
        fleet = self._fleet
        nodes, rows = list(fleet.nodes.values()), fleet.shard_rows()
        return {
            "schema": SCHEMA,
            "fleet": fleet.settings.fleet,
            "fleet_state": fleet.state.value,
            "num_shards": fleet.num_shards,
            "broker": self._broker(now),
            "identify": self._identify(now),
            "state": self._state(now),
            "nodes": [_node(fleet, node, now) for node in _page(nodes, page, NODES_PER_PAGE)],
            "shards": [
                _shard(fleet, node, row, now) for node, row in _page(rows, page, SHARDS_PER_PAGE)
            ],
            "pages": max(
                1, math.ceil(len(nodes) / NODES_PER_PAGE), math.ceil(len(rows) / SHARDS_PER_PAGE)
            ),
            "warnings": [
                *fleet.warnings.values(),
                *self._out_of_budget(now),
                *self._rules_to_nobody(),
            ],
        }

    def _nodes(self) -> NodesReply:
        table = self._fleet.table
        owners = ((name, table.node(name)) for name in self._fleet.nodes)
        return NodesReply(
            tuple((name, owner is not None and owner.epoch > 0) for name, owner in owners)
        )

    def _out_of_budget(self, now: float) -> list[str]:
        """Why shards stay queued where no IDENTIFY is left."""
        budget, count = self._fleet.budget, self._fleet.permits_wanted
        if budget is None or budget.remaining or not count:
            return []
        who = "1 shard waits" if count == 1 else f"{count} shards wait"
        reset = duration(max(0.0, budget.reset_at - now))
        return [f"{who}: no session start remains (reset in {reset})"]

    def _rules_to_nobody(self) -> list[str]:
        """Rules that name who does not exist: what falls under them is lost."""
        fleet = self._fleet
        if not fleet.nodes:
            return []
        named = {name: rule.category for rule in fleet.settings.routes for name in rule.nodes or ()}
        lost = [
            f"{name} (for {category})"
            for name, category in named.items()
            if name not in fleet.nodes and fleet.table.node(name) is None
        ]
        if not lost:
            return []
        more = f" and {len(lost) - LOST_SHOWN_MAX} more" if len(lost) > LOST_SHOWN_MAX else ""
        who = ", ".join(lost[:LOST_SHOWN_MAX])
        return [f"routing rules name what is neither a node nor a client: {who}{more}"]

    def _broker(self, now: float) -> dict[str, Any]:
        fleet = self._fleet
        return {
            "pid": fleet.settings.broker_pid,
            "uptime_s": round(now - fleet.started_at, 3),
            "counts": dict(sorted(fleet.counts.items())),
            "dead_letters": len(fleet.letters),
            "dead_letters_by_code": dict(sorted(fleet.letters.ended.items())),
            "clients": sum(not peer.epoch for peer in fleet.table.peers()),
            "client_troubles": _summed(fleet.client_troubles.values()),
            "routes_version": fleet.table.version,
            "rejected": dict(sorted(fleet.rejected.items())),
        }

    def _state(self, now: float) -> dict[str, Any]:
        shared = self._fleet.shared
        return {
            "lsn": shared.port.place().lsn,
            "first_lsn": shared.port.first_lsn(),
            "commits": shared.commits,
            "commits_failed": shared.failed,
            "waiting": shared.waiting,
            "last_commit_ms": round(shared.commit_ms, 3),
            "forgetting": len(shared.forgetting),
            "log_at_ms": shared.clock.at_ms(now),
            **shared.port.figures(now)._asdict(),
            "backup": shared.keeping.plain(shared.kept, now),
        }

    def _identify(self, now: float) -> dict[str, Any]:
        budget = self._fleet.budget
        if budget is None:
            return {"remaining": None, "total": None, "reset_after_s": None}
        return {
            "remaining": budget.remaining,
            "total": budget.total,
            "reset_after_s": round(max(0.0, budget.reset_at - now), 3),
            "max_concurrency": budget.max_concurrency,
            "recommended_shards": budget.recommended or None,
        }


def _page(rows: list[_T], page: int, size: int) -> list[_T]:
    return rows[page * size : (page + 1) * size]


def _node(fleet: Fleet, node: Node, now: float) -> dict[str, Any]:
    running = node.epoch > 0
    return {
        "id": node.name,
        "index": node.place,
        "pid": node.pid or None,
        "epoch": node.epoch or node.last_epoch,
        "state": node.shown_state,
        "rss_bytes": node.rss_bytes if running else 0,
        "shards": list(node.shards),
        "processes": [_beside(proc, now) for proc in fleet.beside(node.name)],
        "restarts": node.restarts,
        "uptime_s": round(now - node.spawned_at, 3) if running else None,
        "heartbeat_age_s": _age(node, now),
        "loop_lag_ms": node.loop_lag_ms,
        "queue": node.queue,
        "cpu_s": round(node.cpu_s, 3) if running else 0.0,
        "cpu": round(node.cpu, 4) if running else 0.0,
        "troubles": dict(sorted(node.troubles.items())) if running else {},
        "broker_queue": fleet.depths(node.name, node_id(node.name, node.epoch)),
        "disnake": node.disnake,
        "reason": _reason(node),
        "tail": [line[:TAIL_LINE_CHARS] for line in node.tail[-TAIL_LINES:]],
    }


def _beside(proc: Proc, now: float) -> dict[str, Any]:
    """A process beside its node's current one."""
    age = None if proc.heartbeat_at is None else round(max(0.0, now - proc.heartbeat_at), 3)
    return {
        "epoch": proc.epoch,
        "role": proc.role.value,
        "op": proc.op,
        "pid": proc.pid or None,
        "registered": proc.registered,
        "uptime_s": round(now - proc.spawned_at, 3),
        "heartbeat_age_s": age,
        "loop_lag_ms": proc.loop_lag_ms,
        "rss_bytes": proc.rss_bytes,
        "lingers": proc.lingers,
        "voice": proc.voice,
        "ends_in_s": None if proc.due_at is None else round(max(0.0, proc.due_at - now), 3),
        "reason": proc.reason,
    }


def _summed(several: Iterable[dict[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for troubles in several:
        found.update(troubles)
    return dict(sorted(found.items()))


def _reason(node: Node) -> str:
    if node.shown_state == "degraded":
        return f"loop lag {node.loop_lag_ms / 1000:.1f} s"
    return node.reason


def _shard(fleet: Fleet, node: Node, row: ShardRow, now: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "num_shards": fleet.num_shards,
        "node": node.name,
        "state": row.state.value,
        "guilds": row.guilds,
        "latency_ms": row.latency_ms if row.latency_ms >= 0 else None,
        "heartbeat_age_s": _age(node, now) if row.state is not ShardState.GONE else None,
        "sequence": row.sequence,
        "restarts": node.restarts,
        "queue": node.queue,
        "uptime_s": round(now - node.spawned_at, 3) if node.epoch else None,
        "trouble": row.trouble or None,
        "journal": row.flaw or None,
        "events_per_s": round(row.events_per_s, 2),
        "voice": row.voice,
    }


def _age(node: Node, now: float) -> float | None:
    if node.heartbeat_at is None or not node.epoch:
        return None
    return round(max(0.0, now - node.heartbeat_at), 3)
