"""Plain tables: as wide as what is in them, the last column cut where the terminal ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

_GAP: Final = "  "


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> Iterator[str]:
    """The lines of a table. ``right`` names, separated by spaces, the columns of numbers."""
    from shardctl.cli.show import console_for

    width, numbers = console_for().width, right.split()
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.rjust(size) if title in numbers else cell.ljust(size)
            for title, cell, size in zip(titles, row, widths, strict=True)
        ]
        line = _GAP.join(cells).rstrip()
        yield line if len(line) <= width else line[: max(1, width - 3)] + "..."
