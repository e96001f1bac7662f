"""The figures and the ratios, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shardctl.bench.measure import medians
from tests.bench.lines import Contender, Figures, Line
from tests.bench.own import Check, Limit

WIDTH_OFF_TERMINAL = 140


@dataclass(frozen=True)
class Row:
    """``reached``: whether it is what the part must reach; None where nothing is asked."""

    line: str
    what: str
    value: str
    wanted: str = ""
    reached: bool | None = None


def line_rows(line: Line, runs: Mapping[Contender, Sequence[Figures]]) -> Iterator[Row]:
    """The medians of each contender, then their ratios."""
    result = {contender: medians(figures) for contender, figures in runs.items()}
    for contender, figures in runs.items():
        yield Row(line.title, contender.name, shown(figures))
    for goal in line.goals:
        if goal.ours not in result or goal.peer not in result:
            continue
        ratio = result[goal.ours][goal.figure] / result[goal.peer][goal.figure]
        wanted = f"{'at most' if goal.at_most else 'at least'} {goal.limit:g}x"
        what = f"{goal.ours.name} / {goal.peer.name}: {goal.figure}"
        yield Row(line.title, what, f"{ratio:.2f}x", wanted, goal.reached(ratio))
    for bound in line.bounds:
        if bound.ours in result:
            limit = bound.limit
            what, value = f"{bound.ours.name}: {limit.figure}", result[bound.ours][limit.figure]
            reached = limit.reached(value)
            yield Row(line.title, what, f"{value:.2f}", _wanted(limit), reached)


def check_rows(check: Check, runs: Sequence[Figures]) -> Iterator[Row]:
    """The medians of ours alone, then what is asked of them."""
    if not runs:
        yield Row(check.title, "shardctl", "failed", "", False)
        return
    figures = medians(runs)
    for key, value in figures.items():
        if all(limit.figure != key for limit in check.limits):
            yield Row(check.title, key, _digits(value) + _spread(runs, key))
    for limit in check.limits:
        value = figures[limit.figure]
        text = f"{value:.2f}{_spread(runs, limit.figure)}"
        yield Row(check.title, limit.figure, text, _wanted(limit), limit.reached(value))


def _wanted(limit: Limit) -> str:
    return f"{'at most' if limit.at_most else 'at least'} {limit.limit:g}"


def shown(runs: Sequence[Figures]) -> str:
    """The median of each figure, and of the first one the least and the most."""
    first, *others = medians(runs).items()
    parts = [f"{first[0]} {_digits(first[1])}{_spread(runs, first[0])}"]
    return "  ".join(parts + [f"{key} {_digits(value)}" for key, value in others])


def _spread(runs: Sequence[Figures], key: str) -> str:
    values = [run[key] for run in runs]
    return f" [{_digits(min(values))}..{_digits(max(values))}]" if len(values) > 1 else ""


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


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
                table.add_row(row.what, Text(row.value), row.wanted, mark)
        console.print(table)
