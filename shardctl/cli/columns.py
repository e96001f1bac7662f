"""Plain tables: as wide as what is in them, the last column cut where the terminal ends.

What users of a bot wrote, such as reasons, goes to a terminal without its control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

_GAP: Final = "  "


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> Iterator[str]:
    """The lines of a table. ``right`` names, separated by spaces, the columns of numbers."""
    from shardctl.cli.show import console_for

    width, numbers = console_for().width, right.split()
    rows = [[safe(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.rjust(size) if title in numbers else cell.ljust(size)
            for title, cell, size in zip(titles, row, widths, strict=True)
        ]
        line = _GAP.join(cells).rstrip()
        yield line if len(line) <= width else line[: max(1, width - 3)] + "..."


def safe(text: str) -> str:
    """A text that does nothing to a terminal.

    >>> safe("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON for people: letters as they are, what is not printable escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return json.dumps(value, indent=indent)
