"""Prints a status for people, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import IO, Any, Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shardctl.cli.beside import beside_lines
from shardctl.cli.plane import node_lines, plane_lines
from shardctl.cli.report import Report, budget_line, headline, ranges, size, span, troubles
from shardctl.cli.state_lines import state_lines
from shardctl.cli.table import Row, fitting, rows_of

WIDTH_OFF_TERMINAL: Final = 1000
TAIL_LINES_VERBOSE: Final = 20
WRAP_MIN: Final = 20
_NODE_PARTS_LESS: Final = ("rss", "uptime", "restarts", "shards", "lag", "pid")
"""What a narrow line leaves out, first to last; the table shows most of it too."""
_STYLES: Final = {
    "ready": "green",
    "queued": "cyan",
    "identifying": "cyan",
    "resuming": "cyan",
    "draining": "yellow",
    "zombie": "red",
    "deaf": "red",
    "partly-deaf": "yellow",
    "lost": "bold red",
    "hung": "bold red",
    "dead": "bold red",
    "gone": "dim",
}


def console_for(file: IO[str] | None = None) -> Console:
    """A console that knows its width and, on a terminal, styles; with NO_COLOR not even bold."""
    file = file or sys.stdout
    known = file.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size().columns if known else WIDTH_OFF_TERMINAL
    system: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(file=file, width=width, highlight=False, soft_wrap=False, color_system=system)


def print_status(
    report: Report,
    console: Console,
    *,
    sort: str = "shard",
    top: int | None = None,
    verbose: bool = False,
) -> None:
    """The budget, the table of the shards, and what is not well."""
    for line in (headline(report, console.width), budget_line(report, console.width)):
        _print_line(console, line)
    rows = rows_of(report, sort, top)
    if rows:
        console.print(_table(rows, console.width))
    if verbose:
        _print_nodes(report, console)
    for line in beside_lines(report):
        _print_wrapped(console, line, "cyan")
    for line in troubles(report, TAIL_LINES_VERBOSE if verbose else 3):
        _print_wrapped(console, line, "yellow")


def _print_line(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), overflow="ellipsis", no_wrap=True, crop=True)


def _print_wrapped(console: Console, line: str, style: str) -> None:
    """What is wrong is never cut: a longer line goes on below, indented."""
    for part in textwrap.wrap(line, max(WRAP_MIN, console.width), subsequent_indent="    ") or [""]:
        _print_line(console, part, style)


def _table(rows: list[Row], width: int) -> Table:
    columns, cells = fitting(rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in cells:
        table.add_row(*(_cell(c.title, text) for c, text in zip(columns, row, strict=True)))
    return table


def _cell(title: str, text: str) -> Text:
    return Text(text, style=_STYLES.get(text, "") if title == "state" else "")


def _print_nodes(report: Report, console: Console) -> None:
    for node in report["nodes"]:
        _print_line(console, node_line(node, console.width))
        for line in node_lines(node):
            _print_wrapped(console, line, "")
    for line in (*plane_lines(report["broker"]), *state_lines(report.get("state"))):
        _print_wrapped(console, line, "")


def node_line(node: Mapping[str, Any], width: int) -> str:
    """A node's process in one line; whole parts go where ``width`` is less."""
    lag_ms, runs = node.get("loop_lag_ms"), bool(node["pid"])
    parts = {
        "name": f"node {node['id']}#{node['epoch']} {node['state']}",
        "pid": f"pid {node['pid']}" if runs else "",
        "shards": f"shards {ranges(node['shards'])}",
        "rss": f"RSS {size(node['rss_bytes'])}" if runs else "",
        "uptime": f"up {span(node.get('uptime_s'))}" if runs else "",
        "restarts": f"restarts {node.get('restarts', 0)}",
        "lag": f"loop lag {lag_ms:.0f} ms" if runs and lag_ms is not None else "",
    }
    parts = {name: text for name, text in parts.items() if text}
    for name in _NODE_PARTS_LESS:
        if len("  ".join(parts.values())) > width:
            parts.pop(name, None)
    return "  ".join(parts.values())
