"""Prints a status for people, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import IO, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shardctl.cli.report import Report, budget_line, headline, ranges, size, span, troubles
from shardctl.cli.table import Row, fitting, rows_of

WIDTH_OFF_TERMINAL: Final = 1000
TAIL_LINES_VERBOSE: Final = 20
_STYLES: Final = {
    "ready": "green",
    "queued": "cyan",
    "identifying": "cyan",
    "resuming": "cyan",
    "draining": "yellow",
    "lost": "bold red",
    "gone": "dim",
}


def console_for(file: IO[str] | None = None) -> Console:
    """A console that colours on a terminal only (NO_COLOR: never) and knows its width."""
    file = file or sys.stdout
    known = file.isatty() or "COLUMNS" in os.environ
    width = shutil.get_terminal_size().columns if known else WIDTH_OFF_TERMINAL
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def print_status(
    report: Report,
    console: Console,
    *,
    sort: str = "shard",
    top: int | None = None,
    verbose: bool = False,
) -> None:
    """The budget, the table of the shards, and what is not well."""
    for line in (headline(report), budget_line(report)):
        _print_line(console, line)
    rows = rows_of(report, sort, top)
    if rows:
        console.print(_table(rows, console.width))
    if verbose:
        _print_nodes(report, console)
    for line in troubles(report, TAIL_LINES_VERBOSE if verbose else 3):
        _print_line(console, line, "yellow")


def _print_line(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), overflow="ellipsis", no_wrap=True, crop=True)


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
        lag_ms = node.get("loop_lag_ms")
        parts = [
            f"node {node['id']}#{node['epoch']} {node['state']}",
            f"pid {node['pid']}",
            f"shards {ranges(node['shards'])}",
            f"RSS {size(node['rss_bytes'])}",
            f"up {span(node.get('uptime_s'))}",
            f"restarts {node.get('restarts', 0)}",
            f"loop lag {lag_ms:.0f} ms" if lag_ms is not None else "",
        ]
        _print_line(console, "  ".join(part for part in parts if part))
