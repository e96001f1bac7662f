"""What `shardctl status --json` and `shardctl where` print."""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

from broker.core.effects import Ask, Effects, Refuse, Reply
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet, Node, ShardRow
from broker.core.inflight import Ref
from broker.services.planning import duration
from shard_node.wire.bodies import (
    ErrorBody,
    ShardState,
    StatusRequest,
    WhereReply,
    WhereRequest,
)
from shard_node.wire.topics import GUILD_HELD
from store.records import Durable

SCHEMA: Final = 1
GUILD_MAX: Final = (1 << 64) - 1
NODES_PER_PAGE: Final = 64
SHARDS_PER_PAGE: Final = 2048
"""What fits into one body (BODY_MAX_BYTES), with the last lines of nodes that all crashed."""
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
            case Asked(ref=ref, body=WhereRequest(guild=guild)):
                return self._where(ref, guild)
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    def _where(self, ref: Ref, guild: int) -> Effects:
        fleet = self._fleet
        if not 0 <= guild <= GUILD_MAX:
            text = f"{guild} is no id of a guild"
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", text))]
        if not fleet.num_shards:
            text = "the fleet has no plan yet"
            return [Refuse(ref, ErrorBody("E_NOT_READY", text, "retry", retryable=True))]
        place = fleet.table.guild(guild)
        owner = place.owner
        name = owner.name if owner is not None else None
        answer = WhereReply(guild, place.shard, fleet.num_shards, name, place.route)
        if owner is not None and self._is_ready(place.shard):
            # Only the node's cache tells a guild of the bot from a number.
            return [Ask(ref, owner.name, owner.epoch, GUILD_HELD, answer)]
        return [Reply(ref, answer)]

    def _is_ready(self, shard: int) -> bool:
        rows = (row for _, row in self._fleet.shard_rows() if row.id == shard)
        return any(row.state is ShardState.READY for row in rows)

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
            "nodes": [_node(node, now) for node in _page(nodes, page, NODES_PER_PAGE)],
            "shards": [
                _shard(fleet, node, row, now) for node, row in _page(rows, page, SHARDS_PER_PAGE)
            ],
            "pages": max(
                1, math.ceil(len(nodes) / NODES_PER_PAGE), math.ceil(len(rows) / SHARDS_PER_PAGE)
            ),
            "warnings": [*fleet.warnings.values(), *self._out_of_budget(now)],
        }

    def _out_of_budget(self, now: float) -> list[str]:
        """Why shards stay queued where no IDENTIFY is left."""
        budget, count = self._fleet.budget, self._fleet.permits_wanted
        if budget is None or budget.remaining or not count:
            return []
        who = "1 shard waits" if count == 1 else f"{count} shards wait"
        reset = duration(max(0.0, budget.reset_at - now))
        return [f"{who}: no session start remains (reset in {reset})"]

    def _broker(self, now: float) -> dict[str, Any]:
        fleet = self._fleet
        return {
            "pid": fleet.settings.broker_pid,
            "uptime_s": round(now - fleet.started_at, 3),
            "counts": dict(sorted(fleet.counts.items())),
            "dead_letters": len(fleet.letters),
            "rejected": dict(sorted(fleet.rejected.items())),
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


def _node(node: Node, now: float) -> dict[str, Any]:
    running = node.epoch > 0
    return {
        "id": node.name,
        "index": node.place,
        "pid": node.pid or None,
        "epoch": node.epoch or node.last_epoch,
        "state": node.shown_state,
        "rss_bytes": node.rss_bytes if running else 0,
        "shards": list(node.shards),
        "restarts": node.restarts,
        "uptime_s": round(now - node.spawned_at, 3) if running else None,
        "heartbeat_age_s": _age(node, now),
        "loop_lag_ms": node.loop_lag_ms,
        "queue": node.queue,
        "disnake": node.disnake,
        "reason": _reason(node),
        "tail": [line[:TAIL_LINE_CHARS] for line in node.tail[-TAIL_LINES:]],
    }


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
    }


def _age(node: Node, now: float) -> float | None:
    if node.heartbeat_at is None or not node.epoch:
        return None
    return round(max(0.0, now - node.heartbeat_at), 3)
