"""What the sandbox's audit says, in words: a verdict, a table, a line for each area. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shardctl.cli.report import counted

Counts = Mapping[str, Any]

WIDTH_CHARS: Final = 80
_CLASSES: Final = ("once", "late", "never", "twice", "pending")
_ROWS: Final = {
    "interactions": ("interactions_sent", "answered_{}", "interactions_pending"),
    "messages": ("messages_sent", "messages_answered_{}", "messages_pending"),
    "events": ("events_sent", "events_handled_{}", "events_pending"),
}
_DONE: Final = {"interactions": "answered", "messages": "answered", "events": "handled"}
_BAD: Final = ("late", "never", "twice")
_LINES: Final = (
    "interactions: {interactions_deferred_open} deferred and still open",
    "messages: {messages_unasked} more that asked for no answer",
    "events: {events_out_of_order} out of order, {events_unfinished} begun and not ended, "
    "{events_unwanted} unwanted",
    "IDENTIFY: {identifies} ({identifies_rejected} rejected); "
    "RESUME: {resumes} ({resumes_failed} failed)",
    "REST: {rest_requests} requests, {rest_429} answered 429 ({rest_global_429} global)",
    "REST: {rest_banned} banned, {invalid_requests} invalid, {command_syncs} command syncs",
    "witness: {witness_reports} reports ({witness_unknown} unknown, {witness_dropped} lost), "
    "{witness_retold} retold",
    "guilds: {guild_joins_seen} joins told, {guild_removes_seen} removes",
    "handovers: {handovers}, gap {handover_median_ms} ms (median), {handover_max_ms} ms (max)",
)
_NOTES: Final = {
    "events_unwanted": "unwanted: no session has the intent for them, so they were not sent",
}
_NAME_CHARS: Final = 12
_NUMBER_CHARS: Final = 9


def audit_lines(report: Counts) -> list[str]:
    """The whole report for people, in 80 columns."""
    shown = [*textwrap.wrap(verdict(report), WIDTH_CHARS), "", _table_line("", ("sent", *_CLASSES))]
    shown += [_table_line(row, _cells(report, row)) for row in _ROWS]
    shown += ["", *(line.format_map(_Zeros(report)) for line in _LINES)]
    others = [f"{name} {count}" for name, count in report.items() if name not in _KNOWN]
    if others:
        shown.append(f"other: {', '.join(others)}")
    shown += [note for name, note in _NOTES.items() if report.get(name)]
    return shown


def verdict(report: Counts) -> str:
    """Whether all was answered and handled once, or what was not."""
    bad = list(_bad(report))
    if bad:
        return f"NOT all once: {', '.join(bad)}"
    sent = {row: _of(report, row, "sent") for row in _ROWS}
    if not any(sent.values()):
        return "nothing was sent yet"
    pending = sum(_of(report, row, "pending") for row in _ROWS)
    what = [counted(count, row[:-1]) for row, count in sent.items() if count]
    if pending:
        return f"all once so far, {pending} still pending: {', '.join(what)}"
    return f"all once: {', '.join(what)}"


def _bad(report: Counts) -> Iterator[str]:
    for row in _ROWS:
        for kind in _BAD:
            if count := _of(report, row, kind):
                yield f"{counted(count, row[:-1])} {_DONE[row]} {kind}"
    if count := report.get("events_out_of_order", 0):
        yield f"{counted(count, 'event')} out of order"
    if count := report.get("identifies_rejected", 0):
        yield f"{count} IDENTIFY rejected"


def _cells(report: Counts, row: str) -> tuple[str, ...]:
    late = _key(row, "late") in report
    return tuple(
        "-" if kind == "late" and not late else str(_of(report, row, kind))
        for kind in ("sent", *_CLASSES)
    )


def _of(report: Counts, row: str, kind: str) -> int:
    return int(report.get(_key(row, kind), 0))


def _key(row: str, kind: str) -> str:
    sent, done, pending = _ROWS[row]
    return {"sent": sent, "pending": pending}.get(kind) or done.format(kind)


def _table_line(name: str, cells: tuple[str, ...]) -> str:
    return f"{name:<{_NAME_CHARS}}" + "".join(f"{cell:>{_NUMBER_CHARS}}" for cell in cells)


class _Zeros(dict[str, Any]):
    """Counts, where one that the sandbox does not have is 0."""

    def __missing__(self, _key: str) -> int:
        return 0


def _names_in_lines() -> Iterator[str]:
    for line in _LINES:
        yield from (part.partition("}")[0] for part in line.split("{")[1:])


_KNOWN: Final = frozenset(
    {"schema", "events_handled_out_of_order", *_names_in_lines()}
    | {_key(row, kind) for row in _ROWS for kind in ("sent", *_CLASSES)}
)
