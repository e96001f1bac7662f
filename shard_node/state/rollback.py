"""Rolling a transaction back: a transaction itself, so that it can be rolled back as well."""

from __future__ import annotations

from typing import Any

import msgspec

from shard_node.state.context import REASON_MAX_CHARS, Context
from shard_node.state.economy import give, recount
from shard_node.state.errors import (
    AlreadyUndone,
    NotUndoable,
    ReasonRequired,
    UndoConflict,
    UnknownTransaction,
)
from shard_node.state.keys import Table, key_of
from shard_node.state.rows import Row, head, stamped
from shard_node.state.undo import Give, Recount, Restore


class Undone(Row, frozen=True):
    """A transaction was rolled back, by the one with the lsn ``by``."""

    by: int = 0


class Rollback(msgspec.Struct, array_like=True, frozen=True, tag="rollback"):
    """Undo the transaction ``tx`` (its lsn); of a rollback: do it again. ``force`` overwrites
    what is newer. The actor's reason is needed."""

    tx: int
    force: bool = False


def apply_rollback(op: Rollback, context: Context) -> dict[str, Any]:
    """Raises ReasonRequired, UnknownTransaction, AlreadyUndone, NotUndoable, UndoConflict, and
    InsufficientFunds where money that it gave was spent."""
    if not 0 < len(context.reason.strip()) <= REASON_MAX_CHARS:
        raise ReasonRequired("a rollback needs a reason")
    entry = context.log.entry(op.tx) if op.tx > 0 else None
    if entry is None:
        raise UnknownTransaction(f"there is no transaction {op.tx}", tx=op.tx)
    mark = key_of(Table.UNDONE, op.tx)
    undone = context.get(Undone, mark)
    if undone is not None:
        text = f"transaction {op.tx} was rolled back by {undone.by}"
        raise AlreadyUndone(text, tx=op.tx, by=undone.by)
    payload = entry.payload()
    if payload is None or not payload.undo:
        why = "its payload was erased" if payload is None else "it has nothing to undo"
        raise NotUndoable(f"transaction {op.tx} cannot be rolled back: {why}", tx=op.tx)
    conflicts = _conflicts(op.tx, payload.undo, context)
    if conflicts and not op.force:
        names = ", ".join(map(str, conflicts))
        text = f"transaction {op.tx} was followed by {names} in the same rows"
        raise UndoConflict(text, tx=op.tx, conflicts=conflicts)
    for instruction in payload.undo:
        _carry_out(instruction, context)
    if payload.undoes:  # done again: the first one may be rolled back once more
        context.delete(key_of(Table.UNDONE, payload.undoes), own_way=True)
    context.put(mark, Undone(by=context.lsn), own_way=True)
    context.undoes = op.tx
    return {"undone": op.tx, "overwrote": conflicts}


def _conflicts(tx: int, undo: tuple[Any, ...], context: Context) -> list[int]:
    """Transactions that changed the same rows later."""
    found = set()
    for instruction in undo:
        if not isinstance(instruction, Restore):
            continue
        now = context.view.get(instruction.key)
        if now is None:
            if instruction.left:
                found.add(context.log.last_of(instruction.key, tx))
        elif not instruction.left or head(now)[1] != tx:
            found.add(head(now)[1])
    return sorted(found)


def _carry_out(instruction: Any, context: Context) -> None:
    match instruction:
        case Give(account=account, amount=amount):
            give(context, account, amount, opens=True)
        case Recount(side=side, name=name, amount=amount):
            recount(context, side, name, amount)
        case Restore(key=key, before=before):
            now = context.view.get(key)
            version = 0 if now is None else head(now)[0]
            if before is None:
                context.put_raw(key, None)
            else:
                version = max(version, head(before)[0]) + 1
                context.put_raw(key, stamped(before, version, context.lsn))
