"""What `status --verbose` says of the shared state: its log, its file, its backups. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from shardctl.cli.report import counted, size, span

_DOING: Final = {"backup": "one is being made", "trimming": "the log is trimmed behind it"}


def state_lines(state: Mapping[str, Any] | None) -> Iterator[str]:
    """The log and the file in a line, the backups in another; nothing of an older broker."""
    if not state or "backup" not in state:
        return
    first, last = state["first_lsn"], state["lsn"]
    parts = [
        f"{counted(max(0, last - first + 1), 'record')} ({first} to {last})" if last else "empty",
        f"{counted(state['commits'], 'commit')}, the last in {state['last_commit_ms']:.1f} ms",
        f"{state['waiting']} waiting",
        f"file {size(state['file_bytes'])}, {size(state['used_bytes'])} in use",
    ]
    if state["commits_failed"]:
        parts.insert(2, f"{state['commits_failed']} failed")
    if state["reader_behind"]:
        behind = counted(state["reader_behind"], "commit")
        parts.append(f"oldest reader {behind} behind for {span(state['reader_s'])}")
    if state["forgetting"]:
        parts.append(f"{counted(state['forgetting'], 'person')} being forgotten")
    yield "state: " + "; ".join(parts)
    yield "backups: " + "; ".join(_backups(state["backup"]))


def _backups(backup: Mapping[str, Any]) -> Iterator[str]:
    last = backup["last"]
    if last is None:
        yield "none so far"
    else:
        made = datetime.fromtimestamp(last["made_at_s"]).astimezone()
        yield (
            f"the last of {made:%Y-%m-%d %H:%M}, verified, up to transaction {last['lsn']}, "
            f"{size(last['size_bytes'])}, in {last['folder']}"
        )
    if backup["error"]:
        yield f"the newest try failed: {backup['error']}"
    if backup["trimmed_records"]:
        yield f"{counted(backup['trimmed_records'], 'record')} trimmed since the broker's start"
    if backup["doing"]:
        yield _DOING.get(backup["doing"], backup["doing"])
    elif backup["next_in_s"] is None:
        yield "no more are made (backup_every)"
    else:
        yield f"next in {span(backup['next_in_s'])}"
