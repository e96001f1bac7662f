"""The table of `status`. Where the terminal is narrow whole columns go; no line wraps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from shardctl.cli.report import Report, size, span

Row = Mapping[str, Any]
_GAP: Final = 2


class Column(NamedTuple):
    """``keep``: columns of the lowest number go first. ``order`` sorts, biggest first
    where ``descending``."""

    title: str
    keep: int
    cell: Callable[[Row], str]
    order: Callable[[Row], Any]
    descending: bool = True
    right: bool = True


def _number(key: str) -> Callable[[Row], float]:
    return lambda row: value if (value := row.get(key)) is not None else -1.0


def _milliseconds(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{value:.0f} ms"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


COLUMNS: Final[dict[str, Column]] = {
    "shard": Column("shard", 99, lambda r: str(r["id"]), lambda r: r["id"], descending=False),
    "node": Column(
        "node",
        98,
        lambda r: r["node"] or "-",
        lambda r: (r["node"] or "", r["id"]),
        descending=False,
        right=False,
    ),
    "state": Column(
        "state", 97, lambda r: r["state"], lambda r: r["state"], descending=False, right=False
    ),
    "guilds": Column("guilds", 8, lambda r: str(r["guilds"]), _number("guilds")),
    "latency": Column(
        "latency", 7, lambda r: _milliseconds(r["latency_ms"]), _number("latency_ms")
    ),
    "heartbeat": Column(
        "heartbeat", 5, lambda r: _seconds(r["heartbeat_age_s"]), _number("heartbeat_age_s")
    ),
    "events": Column(
        "events/s", 1, lambda r: _rate(r.get("events_per_s")), _number("events_per_s")
    ),
    "queue": Column("queue", 2, lambda r: str(r.get("queue") or 0), _number("queue")),
    "rss": Column("RSS", 4, lambda r: size(r.get("rss_bytes")), _number("rss_bytes")),
    "uptime": Column("uptime", 3, lambda r: span(r.get("uptime_s")), _number("uptime_s")),
    "restarts": Column("restarts", 6, lambda r: str(r["restarts"]), _number("restarts")),
}


def rows_of(report: Report, sort: str = "shard", top: int | None = None) -> list[Row]:
    """One row a shard, with what its node says of the process; sorted and cut."""
    nodes = {node["id"]: node for node in report["nodes"]}
    rows: list[Row] = []
    for shard in report["shards"]:
        node = nodes.get(shard["node"], {})
        of_node = {key: node.get(key) for key in ("rss_bytes", "uptime_s", "queue")}
        rows.append(of_node | {k: v for k, v in shard.items() if v is not None or k in _SHARD_KEYS})
    column = COLUMNS[sort]
    rows.sort(key=lambda row: row["id"])
    rows.sort(key=column.order, reverse=column.descending)
    return rows[:top]


_SHARD_KEYS: Final = frozenset(
    {"id", "node", "state", "guilds", "latency_ms", "heartbeat_age_s", "restarts"}
)


def fitting(rows: list[Row], width: int) -> tuple[list[Column], list[list[str]]]:
    """The columns that fit into ``width`` characters, and the cells under them."""
    columns = list(COLUMNS.values())
    while len(columns) > 1 and _width(columns, rows) > width:
        columns.remove(min(columns, key=lambda column: column.keep))
    return columns, [[column.cell(row) for column in columns] for row in rows]


def _width(columns: list[Column], rows: list[Row]) -> int:
    widths = [max([len(c.title), *(len(c.cell(row)) for row in rows)]) for c in columns]
    return sum(widths) + _GAP * (len(columns) - 1)
