"""Ends that people type: a moment (``--until``) or a length (``--for``)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from shardctl import keeping

if TYPE_CHECKING:
    from shardctl.state import Clock


def length_ms(value: Any) -> int:
    """A click type: ``30d``, ``12h``, ``1d12h``, in ms."""
    text = str(value)
    length = keeping.length_ms(text)
    if length:
        return length
    msg = f"{text[:40]!r} is not a length; such as 45s, 90m, 12h, 30d, 2w or 1d12h (100 years)."
    raise click.BadParameter(msg)


def length_text(length_ms: int) -> str:
    """A length as people type it.

    >>> length_text(129_600_000)
    '1d12h'
    """
    found, rest = "", max(0, length_ms)
    for unit in "dhms":
        count, rest = divmod(rest, keeping.UNITS_MS[unit])
        found += f"{count}{unit}" if count else ""
    return found or "0s"


def moment_ms(value: Any) -> int:
    """A click type: an ISO date or moment, local unless it has an offset; wall time in ms."""
    text = str(value)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        msg = f"{text[:40]!r} is not a moment; such as 2027-01-31 or 2027-01-31T18:00+01:00."
        raise click.BadParameter(msg) from None


def end_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--until`` and ``--for``, as ``until_ms`` (wall time) and ``for_ms``; None where not
    given."""
    command = click.option(
        "--for", "for_ms", type=length_ms, metavar="LENGTH", help="For so long, such as 30d."
    )(command)
    return click.option(
        "--until", "until_ms", type=moment_ms, metavar="MOMENT", help="Until then (local time)."
    )(command)


def end_of(clock: Clock, until_ms: int | None, for_ms: int | None) -> int:
    """The end by log time; 0: for ever. Raises UsageError for two ends, or a past one."""
    if until_ms is not None and for_ms is not None:
        raise click.UsageError("--until and --for exclude each other.")
    if for_ms is not None:
        return clock.log_ms + for_ms
    if until_ms is None:
        return 0
    if until_ms <= clock.wall_ms:
        raise click.UsageError("--until: that is over already.")
    return clock.to_log(until_ms)


def end_text(until: str | None) -> str:
    """An end as ``Clock.iso`` has it, in a table for people."""
    return until[:19].replace("T", " ") if until else "for ever"


def until_text(clock: Clock, end_ms: int) -> str:
    """An end by log time, for people."""
    return f"until {clock.shown(end_ms)}" if end_ms else "for ever"
