"""The shared state through the broker: transactions in, rows and records out.

``State`` is what ``shard_node.state`` calls a view and a log, read over the wire; so a dry run
is the real thing, applied here and sent nowhere.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from shard_node.state.errors import StateError
from shard_node.state.keys import PARTITIONS, Table
from shard_node.state.log import GENESIS, Entry, read_entry
from shard_node.state.machine import Place, apply, encode_tx
from shard_node.state.opids import DONE_KEPT
from shard_node.state.ops import AnyOp
from shard_node.state.tx import OP_ID_BYTES, SALT_BYTES, Actor, Tx
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.limits import STATE_RECORDS_MAX
from shard_node.wire.state import (
    CooldownClear,
    CooldownShow,
    CooldownShown,
    StateAt,
    StateDo,
    StateLog,
    StateLogged,
    StateMark,
    StateRead,
    StateScan,
)
from shardctl.client import Client, refused
from shardctl.errors import NoBroker, Refused

NODE: Final = "shardctl"
"""How the log names every command line; the broker writes the same, whatever is sent."""
COOLDOWNS_MAX: Final = 1000
"""Of those in memory that are asked for; more do not fit into an answer."""
SENDS_MAX: Final = 2
"""Of one transaction: under its op id it happens once."""
_KEY: Final = b"idempotency:"
"""As in shard_node/shared/backend.py: one key is one transaction, whoever sends it."""


class Outcome(NamedTuple):
    """A transaction: its lsn, and what its operations returned."""

    lsn: int
    results: tuple[Any, ...]


class Clock(NamedTuple):
    """Log time and the wall clock, in ms since the epoch, at one moment."""

    log_ms: int
    wall_ms: int

    def to_log(self, wall_ms: int) -> int:
        """The log time at which the wall clock will show this, if nobody moves it."""
        return wall_ms - self.wall_ms + self.log_ms

    def to_wall(self, log_ms: int) -> int:
        """The reverse, to the second: it took some ms to ask for the two times."""
        return to_second(log_ms - self.log_ms + self.wall_ms)

    def shown(self, end_ms: int) -> str:
        """An end by log time, in local time, for people."""
        return f"{local(self.to_wall(end_ms)):%Y-%m-%d %H:%M:%S}"

    def iso(self, end_ms: int) -> str:
        """The same for programs, with the offset."""
        return iso(self.to_wall(end_ms))


def to_second(at_ms: int) -> int:
    """The nearest whole second, in ms."""
    return (at_ms + 500) // 1000 * 1000


_WALL_MAX_S: Final = 253_370_000_000
"""In the year 9998: later ones cannot be shown."""


def local(at_ms: int) -> datetime:
    """A moment in local time. One that has passed is shown by its log time as it stands: the
    wall clock of today tells nothing of it."""
    return datetime.fromtimestamp(min(max(0, at_ms) / 1000, _WALL_MAX_S)).astimezone()


def iso(at_ms: int) -> str:
    """A moment for programs, with the offset."""
    return local(at_ms).isoformat(timespec="milliseconds")


class State:
    """The state of the fleet that a client speaks to; a ``Reads`` and a ``Log`` itself.

    Raises what ``Client`` raises.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._drawn = b""

    # --- reading

    def get(self, key: bytes) -> bytes | None:
        """A committed row."""
        found = self._client.ask(topics.STATE_READ, StateRead((key,))).rows[0]
        return None if found is None else bytes(found)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Committed rows in the order of their keys; each page is of its own moment."""
        more = True
        while more:
            page = self._client.ask(topics.STATE_SCAN, StateScan(prefix, after))
            yield from page.rows
            more = page.more and bool(page.rows)
            after = page.rows[-1][0] if page.rows else after

    def table(self, table: Table) -> Iterator[tuple[bytes, bytes]]:
        """All rows of a table."""
        for partition in range(PARTITIONS):
            yield from self.scan(bytes((partition, table)))

    def entry(self, lsn: int) -> Entry | None:
        """A record of the log; None where there is none (any more)."""
        for entry in self.log(StateLog(after=lsn - 1, limit=1))[0]:
            return entry if entry.lsn == lsn else None
        return None

    def applied(self, op_id: bytes) -> int | None:
        """The record of this op id, looked for in the last ones: 26 MB at most."""
        if op_id == self._drawn:
            return None
        after = max(0, self.mark().lsn - DONE_KEPT)
        more = True
        while more:
            entries, page = self.log(StateLog(after, STATE_RECORDS_MAX))
            for entry in entries:
                if entry.op_id == op_id:
                    return entry.lsn
            more, after = page.more, page.read_to
        return None

    def log(self, wanted: StateLog) -> tuple[list[Entry], StateLogged]:
        """A page of the log, and what the broker says of it."""
        page: StateLogged = self._client.ask(topics.STATE_LOG, wanted)
        return [read_entry(data) for data in page.entries], page

    def mark(self, wait_lsn: int = 0) -> StateAt:
        """Where the log stands, once it has reached ``wait_lsn``."""
        at: StateAt = self._client.ask(topics.STATE_MARK, StateMark(wait_lsn))
        return at

    def clock(self) -> Clock:
        """What time it is."""
        at = self.mark()
        return Clock(at.now_ms or at.at_ms, int(time.time() * 1000))

    def short_cooldowns(self, prefix: str) -> CooldownShown:
        """Those in the broker's memory."""
        shown: CooldownShown = self._client.ask(
            topics.COOLDOWN_SHOW, CooldownShow(prefix, COOLDOWNS_MAX)
        )
        return shown

    def clear_short_cooldowns(self, keys: tuple[str, ...]) -> int:
        """Forget them; how many there were."""
        count: int = self._client.ask(topics.COOLDOWN_CLEAR, CooldownClear(keys)).count
        return count

    # --- writing

    def do(self, ops: Sequence[AnyOp], actor: Actor, key: str | None = None) -> Outcome:
        """Have a transaction committed. ``key``: sent again with it, it is the same one."""
        data = self._encoded(self._tx(ops, actor, key))
        done = self._sent(data).outcomes[0]
        if done.error is not None:
            raise refused(done.error)
        return Outcome(done.lsn, done.results)

    def would(self, ops: Sequence[AnyOp], actor: Actor, key: str | None = None) -> Outcome:
        """What the transaction would do now; nothing is changed."""
        at = self.mark()
        tx = self._tx(ops, actor, key)
        self._encoded(tx)
        try:
            applied = apply(self, self, tx, at.now_ms, Place(at.lsn, GENESIS, at.at_ms))
        except StateError as error:
            raise refused(_body(error)) from error
        return Outcome(applied.lsn, applied.results)

    def _tx(self, ops: Sequence[AnyOp], actor: Actor, key: str | None) -> Tx:
        op_id = self._drawn = os.urandom(OP_ID_BYTES)
        if key is not None:
            op_id = hashlib.sha256(_KEY + key.encode(errors="surrogatepass")).digest()[:OP_ID_BYTES]
        return Tx(op_id, os.urandom(SALT_BYTES), tuple(ops), actor)

    def _encoded(self, tx: Tx) -> bytes:
        try:
            return encode_tx(tx)
        except StateError as error:
            raise refused(_body(error)) from error

    def _sent(self, data: bytes) -> Any:
        for left in reversed(range(SENDS_MAX)):
            try:
                return self._client.ask(topics.STATE_DO, StateDo((data,)))
            except (NoBroker, Refused) as error:
                if isinstance(error, Refused) and error.code != _LATE:
                    raise
                if not left:
                    error.consequence = f"{error.consequence}\n{_UNSURE}".strip()
                    raise
        raise AssertionError("unreachable: SENDS_MAX is above 0")


_LATE: Final = "E_TIMEOUT"
_UNSURE: Final = "Whether it was done is not known: `shardctl state log` shows it."


def who(user: int, reason: str) -> Actor:
    """The actor of what a person does at this command line: login name and reason."""
    return Actor(NODE, user, f"{login()}: {reason}" if reason else login())


def login() -> str:
    """The name of the user whose process this is; nobody's environment tells it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _body(error: StateError) -> ErrorBody:
    return ErrorBody(error.code, str(error), error.hint or "", error.retryable, dict(error.details))
