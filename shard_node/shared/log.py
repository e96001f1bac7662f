"""Records of the log as a bot's author reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shard_node.shared.backend import Logged
from shard_node.state.log import Entry

LOG_LIMIT_MAX: Final = 1000
"""Records of one page."""


class LogRecord(msgspec.Struct, frozen=True):
    """A transaction in the log.

    ``id`` is what ``rollback`` takes; ``at`` its log time in seconds since the epoch;
    ``node``, ``user`` and ``reason`` say who did it; ``ops`` are maps with ``kind`` and the
    operation's fields. ``undoes`` is the transaction that it rolls back, 0 for none.
    ``erased``: who, what and why were erased with a person's data.
    """

    id: int
    at: float
    kinds: tuple[str, ...]
    node: str = ""
    user: int = 0
    reason: str = ""
    ops: tuple[dict[str, Any], ...] = ()
    undoes: int = 0
    erased: bool = False


class LogPage(list[LogRecord]):
    """Records in the order of the log. ``more``: the limit cut it, go on ``after=read_to``;
    ``first`` and ``last`` are the log's own ends."""

    def __init__(
        self, records: Sequence[LogRecord], read_to: int, first: int, last: int, more: bool
    ) -> None:
        super().__init__(records)
        self.read_to, self.first, self.last, self.more = read_to, first, last, more


def page_of(found: Logged) -> LogPage:
    """What the log answered."""
    records = [_record(entry) for entry in found.entries]
    return LogPage(records, found.read_to, found.first, found.last, found.more)


def _record(entry: Entry) -> LogRecord:
    payload = entry.payload()
    at = entry.at_ms / 1000
    if payload is None:
        return LogRecord(entry.lsn, at, entry.kinds, erased=True)
    actor = payload.actor
    ops = tuple(
        {"kind": type(op).__name__, **{name: getattr(op, name) for name in op.__struct_fields__}}
        for op in payload.ops
    )
    return LogRecord(
        entry.lsn, at, entry.kinds, actor.node, actor.user, actor.reason, ops, payload.undoes
    )
