"""``apply``: a transaction in, rows and a record of the log out. Pure and deterministic.

The same transactions in the same order, at the same log times, give the same rows, whatever
the view is made of; a replica needs nothing but the log.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import msgspec

from shard_node.state.context import REASON_MAX_CHARS, Context
from shard_node.state.economy import check_amount
from shard_node.state.errors import BadName, BadValue, OpIdReused, ReasonRequired, TooLarge
from shard_node.state.keys import ID_MAX
from shard_node.state.log import GENESIS, Entry, Payload, make_entry
from shard_node.state.opids import OpIds
from shard_node.state.ops import APPLY
from shard_node.state.tx import OP_ID_BYTES, OPS_MAX, SALT_BYTES, Tx
from shard_node.state.views import DictView, Reads, Staged

TX_MAX_BYTES: Final = 512 << 10
ACTOR_MAX_CHARS: Final = 200


class Log(Protocol):
    """What ``apply`` reads of the log."""

    def entry(self, lsn: int) -> Entry | None:
        """The record; None where there is none (any more)."""

    def applied(self, op_id: bytes) -> int | None:
        """The record of this op id among those of ``opids.Window``; None where it has none."""


class Place(NamedTuple):
    """Where the log stands: the last lsn, its digest, its time."""

    lsn: int
    digest: bytes
    at_ms: int


class Applied(NamedTuple):
    """What became of a transaction. ``entry`` None: it was applied before, as ``lsn``."""

    lsn: int
    results: tuple[Any, ...]
    entry: Entry | None
    writes: dict[bytes, bytes | None]
    before: dict[bytes, bytes | None]


def apply(view: Reads, log: Log, tx: Tx, at_ms: int, place: Place) -> Applied:
    """Apply a transaction after ``place``. Raises a StateError; nothing is written then."""
    _check(tx)
    done = log.applied(tx.op_id)
    if done is not None:
        return _again(done, log, tx)
    actor, ops = tx.actor, tx.ops
    lsn, at_ms = place.lsn + 1, max(at_ms, place.at_ms)
    staged = Staged(view)
    context = Context(staged, log, lsn, at_ms, user=actor.user, reason=actor.reason)
    results: tuple[Any, ...]
    if len(ops) == 1:
        results = (APPLY[type(ops[0])](ops[0], context),)
    else:
        results = tuple([APPLY[type(op)](op, context) for op in ops])
        if context.final:
            raise BadValue("what cannot be rolled back is a transaction of its own")
    payload = Payload(actor, ops, context.undo(), context.undoes, results)
    entry = make_entry(lsn, at_ms, tx.op_id, payload, tx.salt, place.digest, context.minted)
    return Applied(lsn, results, entry, staged.writes, staged.before)


def _again(lsn: int, log: Log, tx: Tx) -> Applied:
    """What came of a transaction when it was applied: no results where they were erased."""
    entry = log.entry(lsn)
    payload = None if entry is None else entry.payload()
    if payload is None:
        return Applied(lsn, (), None, {}, {})
    if _encode(payload.ops) != _encode(tx.ops):
        raise OpIdReused(f"transaction {lsn} has this op id", tx=lsn)
    return Applied(lsn, payload.results, None, {}, {})


def _check(tx: Tx) -> None:
    if len(tx.op_id) != OP_ID_BYTES or len(tx.salt) != SALT_BYTES:
        raise BadValue(f"an op id has {OP_ID_BYTES} bytes, a salt {SALT_BYTES}")
    if not 0 < len(tx.ops) <= OPS_MAX:
        text = f"{len(tx.ops)} operations; a transaction has 1 to {OPS_MAX}"
        raise TooLarge(text, count=len(tx.ops), limit=OPS_MAX)
    if len(tx.actor.reason) > REASON_MAX_CHARS:
        raise ReasonRequired(f"a reason has at most {REASON_MAX_CHARS} characters")
    if len(tx.actor.node) > ACTOR_MAX_CHARS or not 0 <= tx.actor.user <= ID_MAX:
        raise BadName(f"no actor: node {tx.actor.node[:40]!r}, user {tx.actor.user}")


class MemoryState:
    """The state on a dict: for a bot without a fleet, and the model that tests compare with."""

    def __init__(self) -> None:
        self.view = DictView()
        self.entries: dict[int, Entry] = {}
        self.place = Place(0, GENESIS, 0)
        self.op_ids = OpIds()

    def applied(self, op_id: bytes) -> int | None:
        """The record of this op id among those of ``opids.Window``; None where it has none."""
        return self.op_ids.lsn_of(op_id)

    def entry(self, lsn: int) -> Entry | None:
        """The record; None where there is none."""
        return self.entries.get(lsn)

    def submit(self, tx: Tx, at_ms: int) -> Applied:
        """Apply a transaction, as it is after a way over the wire. Raises a StateError."""
        tx = read_tx(encode_tx(tx))
        applied = apply(self.view, self, tx, at_ms, self.place)
        if applied.entry is not None:
            self.view.write(applied.writes)
            self.entries[applied.lsn] = applied.entry
            self.op_ids.add(tx.op_id, applied.entry.at_ms)
            self.place = Place(applied.lsn, applied.entry.digest, applied.entry.at_ms)
        return applied


def encode_tx(tx: Tx) -> bytes:
    """A transaction's bytes. Raises BadAmount, BadValue, TooLarge for what can have none."""
    for op in tx.ops:
        if hasattr(op, "amount"):
            check_amount(op.amount)
    try:
        data = _encode(tx)
    except (OverflowError, TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"this cannot be sent: {error}") from error
    if len(data) > TX_MAX_BYTES:
        text = f"a transaction of {len(data)} bytes; the limit is {TX_MAX_BYTES}"
        raise TooLarge(text, size=len(data), limit=TX_MAX_BYTES)
    return data


def read_tx(data: bytes) -> Tx:
    """The transaction that these bytes are. Raises BadValue for any that are none, TooLarge."""
    if len(data) > TX_MAX_BYTES:
        text = f"a transaction of {len(data)} bytes; the limit is {TX_MAX_BYTES}"
        raise TooLarge(text, size=len(data), limit=TX_MAX_BYTES)
    try:
        return _txs.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError) as error:
        raise BadValue(f"no transaction: {error}") from error


_encode = msgspec.msgpack.Encoder().encode
_txs = msgspec.msgpack.Decoder(Tx)
