"""What is asked of the shared state: durable rows, records of the log, where the log stands."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from broker.core.effects import Effects, Refuse, Reply
from broker.core.events import Asked, Event, StateCommitted, StateSettled
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.unsettled import StatePort
from broker.services.state import at, body_of
from shard_node.state.deltas import delta_of, name_of
from shard_node.state.economy import history
from shard_node.state.errors import StateError
from shard_node.state.keys import Table, prefix_of
from shard_node.state.log import Entry, write_entry
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.categories import GuildSync, Record
from shard_node.wire.limits import (
    STATE_ANSWER_MAX_BYTES,
    STATE_KEYS_MAX,
    STATE_MARKS_MAX,
    STATE_RECORDS_MAX,
    STATE_SCANNED_MAX,
)
from shard_node.wire.state import (
    StateGuild,
    StateLog,
    StateLogged,
    StateMark,
    StateRead,
    StateRows,
    StateScan,
    StateScanned,
)
from store.records import Durable

_GUILDS_OWN: Final = (Table.CONFIG, Table.MEMBER, Table.PERMISSION)
_STEP: Final = 64
"""Records that are looked at together on the way back through the log."""
_USER_FIELDS: Final = ("user", "user_id")
"""How operations name the user that they are about."""


class TooLong(StateError):
    """The answer does not fit into a body."""

    code = "E_TOO_LARGE"
    hint = "ask for fewer rows at a time"


class StateReads:
    """Reads the port; changes nothing. Requests for a mark wait here for theirs."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._shared = fleet.shared
        self._marks: list[tuple[int, int, Ref]] = []

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=StateRead() | StateScan() | StateLog() | StateGuild() as body):
                return self._answer(ref, body)
            case Asked(ref=ref, body=StateMark(wait_lsn=wait_lsn)):
                return self._mark(ref, wait_lsn, now)
            case StateSettled() | StateCommitted() if self._marks:
                return self._reached(now)
        return []

    def next_deadline(self) -> float | None:
        """None: a request that waits for too long ends by its own deadline."""
        return None

    def _answer(self, ref: Ref, body: StateRead | StateScan | StateLog | StateGuild) -> Effects:
        try:
            match body:
                case StateRead():
                    return [Reply(ref, self._read(body))]
                case StateScan():
                    return [Reply(ref, self._scan(body))]
                case StateLog():
                    return [Reply(ref, logged(self._shared.port, body))]
                case StateGuild():
                    return [Reply(ref, records_of(self._shared.port, body))]
        except StateError as error:
            return [Refuse(ref, body_of(error))]

    def _read(self, body: StateRead) -> StateRows:
        if len(body.keys) > STATE_KEYS_MAX:
            raise TooLong(f"{len(body.keys)} keys; the limit is {STATE_KEYS_MAX}")
        port = self._shared.port
        rows = tuple(map(port.view.get, body.keys))
        size_bytes = sum(len(row) for row in rows if row is not None)
        if size_bytes > STATE_ANSWER_MAX_BYTES:
            raise TooLong(f"rows of {size_bytes} bytes; the limit is {STATE_ANSWER_MAX_BYTES}")
        return StateRows(port.place().lsn, rows)

    def _scan(self, body: StateScan) -> StateScanned:
        port, size_bytes = self._shared.port, 0
        limit = min(max(body.limit, 1), STATE_KEYS_MAX)
        rows: list[tuple[bytes, bytes]] = []
        for key, row in port.view.scan(body.prefix, body.after):
            size_bytes += len(key) + len(row)
            if len(rows) == limit or (rows and size_bytes > STATE_ANSWER_MAX_BYTES):
                return StateScanned(port.place().lsn, tuple(rows), True)
            rows.append((key, row))
        return StateScanned(port.place().lsn, tuple(rows))

    # --- marks

    def _mark(self, ref: Ref, wait_lsn: int, now: float) -> Effects:
        if wait_lsn < 0:
            wait_lsn = self._shared.port.place().lsn
        if wait_lsn <= self._shared.shown.lsn:
            return [Reply(ref, at(self._shared, now))]
        if len(self._marks) >= STATE_MARKS_MAX:
            self._marks = [mark for mark in self._marks if mark[2].deadline > now]
            heapq.heapify(self._marks)
        if len(self._marks) >= STATE_MARKS_MAX:
            text = f"{STATE_MARKS_MAX} requests wait for their place in the log"
            return [Refuse(ref, ErrorBody("E_BUSY", text, retryable=True))]
        heapq.heappush(self._marks, (wait_lsn, ref.id, ref))
        return []

    def _reached(self, now: float) -> Effects:
        place = self._shared.shown
        effects: Effects = []
        while self._marks and self._marks[0][0] <= place.lsn:
            effects.append(Reply(heapq.heappop(self._marks)[2], at(self._shared, now)))
        return effects


# --- a guild


def records_of(port: StatePort, body: StateGuild) -> GuildSync:
    """The records of a guild, as many as fit. Raises StateError."""
    prefixes = [prefix_of(table, body.guild) for table in _GUILDS_OWN]
    prefixes.append(prefix_of(Table.PREMIUM, f"guild:{body.guild}"))
    found: list[Record] = []
    last, size_bytes = b"", 0
    for prefix in prefixes:
        if body.after[: len(prefix)] > prefix:
            continue
        after = body.after if body.after.startswith(prefix) else b""
        for key, row in port.view.scan(prefix, after):
            size_bytes += len(key) + len(row)
            if found and (len(found) == STATE_KEYS_MAX or size_bytes > STATE_ANSWER_MAX_BYTES):
                lsn = port.place().lsn
                return GuildSync(body.guild, lsn, tuple(found), parts=0, after=last)
            delta = delta_of(key, None, row)
            if delta is not None:
                name = name_of(delta.parts)
                record = Record(delta.table.name.lower(), name, delta.new_version, delta.changed)
                found.append(record)
            last = key
    return GuildSync(body.guild, port.place().lsn, tuple(found))


# --- the log


def logged(port: StatePort, body: StateLog) -> StateLogged:
    """The records that were asked for. Raises StateError."""
    limit = min(max(body.limit, 1), STATE_RECORDS_MAX)
    after = max(body.after, port.first_lsn() - 1)
    last = port.place().lsn
    candidates = _backward(port, body, after, limit) if body.newest else _forward(port, body, after)
    found: list[bytes] = []
    read_to, size_bytes, more = after, 0, False
    for looked, entry in enumerate(candidates):
        data = write_entry(entry) if _is_wanted(entry, body) else b""
        size_bytes += len(data)
        full = len(found) == limit or (found and size_bytes > STATE_ANSWER_MAX_BYTES)
        if looked == STATE_SCANNED_MAX or full:
            more = True
            break
        if data:
            found.append(data)
        read_to = entry.lsn
    if body.newest:
        found.reverse()
    read_to = read_to if more and not body.newest else last
    return StateLogged(tuple(found), read_to, port.first_lsn(), last, more)


def _forward(port: StatePort, body: StateLog, after: int) -> Iterator[Entry]:
    """Records that may be wanted, in order: all, or (by the index) those of an account."""
    if body.account:
        yield from _named(port, history(port.view, body.account, after))
    else:
        yield from port.entries(after, STATE_SCANNED_MAX + 1)


def _backward(port: StatePort, body: StateLog, after: int, limit: int) -> Iterator[Entry]:
    """The same from the newest on, in blocks: the log and its index are read forwards."""
    filtered = bool(body.kinds or body.user)
    step = max(limit, _STEP) if filtered else limit + 1
    if body.account:
        lookback = STATE_SCANNED_MAX + 1 if filtered else step
        start = _after_newest(port, body.account, lookback, after)
        lsns = islice(history(port.view, body.account, start), lookback)
        yield from _named(port, reversed(list(lsns)))
        return
    before = port.place().lsn
    while before > after:
        start = max(after, before - step)
        yield from reversed(list(port.entries(start, before - start)))
        before = start


def _named(port: StatePort, lsns: Iterable[int]) -> Iterator[Entry]:
    for lsn in lsns:
        entry = port.entry(lsn)
        if entry is not None:
            yield entry


def _after_newest(port: StatePort, account: str, count: int, oldest: int) -> int:
    """After which lsn the last ``count`` records of an account lie: a search in its index."""
    last = port.place().lsn
    low, high, step = oldest, last, count  # after ``high`` are too few
    while high - step > low:
        if _count(port, account, high - step, count) >= count:
            low = high - step
            break
        high -= step
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        if _count(port, account, middle, count) >= count:
            low = middle
        else:
            high = middle
    return low


def _count(port: StatePort, account: str, after: int, limit: int) -> int:
    return sum(1 for _ in islice(history(port.view, account, after), limit))


def _is_wanted(entry: Entry, body: StateLog) -> bool:
    if body.kinds and not set(body.kinds).intersection(entry.kinds):
        return False
    if not body.user:
        return True
    payload = entry.payload()
    if payload is None:
        return False
    return payload.actor.user == body.user or any(_is_about(op, body.user) for op in payload.ops)


def _is_about(op: Any, user: int) -> bool:
    return any(getattr(op, name, 0) == user for name in _USER_FIELDS)
