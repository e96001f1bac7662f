"""The figures and the ratios, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.bench.lines import Contender, Figures, Line
from tests.bench.own import Check

WIDTH_OFF_TERMINAL = 140


@dataclass(frozen=True)
class Row:
    """``reached``: whether it is what the part must reach; None where nothing is asked."""

    line: str
    what: str
    value: str
    wanted: str = ""
    reached: bool | None = None


def line_rows(line: Line, result: Mapping[Contender, Figures]) -> Iterator[Row]:
    """The figures of each contender, then the ratios."""
    for contender, figures in result.items():
        yield Row(line.title, contender.name, shown(figures))
    for goal in line.goals:
        if goal.ours not in result or goal.peer not in result:
            continue
        ratio = result[goal.ours][goal.figure] / result[goal.peer][goal.figure]
        wanted = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}x"
        what = f"{goal.ours.name} / {goal.peer.name}: {goal.figure}"
        yield Row(line.title, what, f"{ratio:.2f}x", wanted, goal.reached(ratio))


def check_rows(check: Check, figures: Figures | None) -> Iterator[Row]:
    """The figures of ours alone, then what is asked of them."""
    if figures is None:
        yield Row(check.title, "shardctl", "failed", "", False)
        return
    yield Row(check.title, "shardctl", shown(figures))
    for limit in check.limits:
        value = figures[limit.figure]
        wanted = f"{'at most' if limit.at_most else 'at least'} {limit.limit:g}"
        yield Row(check.title, limit.figure, f"{value:.2f}", wanted, limit.reached(value))


def shown(figures: Figures) -> str:
    """Each figure with as many digits as it is worth."""
    return "  ".join(
        f"{key} {value:,.0f}" if abs(value) >= 100 else f"{key} {value:.2f}"
        for key, value in figures.items()
    )


def print_rows(rows: list[Row]) -> None:
    """One table a line of the comparison."""
    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stderr, width=WIDTH_OFF_TERMINAL, highlight=False)
    for title in dict.fromkeys(row.line for row in rows):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for column in ("what", "value", "wanted", ""):
            table.add_column(column)
        for row in rows:
            if row.line == title:
                mark = {None: "", True: "[green]reached[/]", False: "[red]missed[/]"}[row.reached]
                table.add_row(row.what, row.value, row.wanted, mark)
        console.print(table)
