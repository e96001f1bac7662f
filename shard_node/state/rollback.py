"""Rolling a transaction back: a transaction itself, so that it can be rolled back as well."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from shard_node.state.context import REASON_MAX_CHARS, Context, remember
from shard_node.state.economy import Account, give, recount, refloor
from shard_node.state.erasing import Erased
from shard_node.state.errors import (
    AlreadyUndone,
    NotUndoable,
    ReasonRequired,
    StateError,
    UndoConflict,
    UnknownTransaction,
)
from shard_node.state.keys import Table, key_of, parse_key
from shard_node.state.rows import Row, head, origin_of
from shard_node.state.traces import ids_in
from shard_node.state.undo import Floor, Give, Mark, Recount, Restore, Undo

CONFLICTS_READ_MAX: Final = 100
"""Records that are read to name what came later, a few milliseconds in all."""


class Undone(Row, frozen=True):
    """A transaction was rolled back, by the one with the lsn ``by``."""

    by: int = 0


class Rollback(msgspec.Struct, array_like=True, frozen=True, tag="rollback"):
    """Undo the transaction ``tx`` (its lsn); of a rollback: do it again. ``force`` overwrites
    what is newer, but nothing that was erased comes back. The actor's reason is needed.

    The result's ``overwrote`` names at least the last transaction in each row: it is a part of
    the record, so it rests on rows alone, which are the same when the log is applied again.
    """

    tx: int
    force: bool = False


def apply_rollback(op: Rollback, context: Context) -> dict[str, Any]:
    """Raises ReasonRequired, UnknownTransaction, AlreadyUndone, NotUndoable, UndoConflict, and
    InsufficientFunds where money that it gave was spent: no force makes that up."""
    if not 0 < len(context.reason.strip()) <= REASON_MAX_CHARS:
        raise ReasonRequired("a rollback needs a reason")
    entry = context.log.entry(op.tx) if op.tx > 0 else None
    if entry is None and 0 < op.tx < context.lsn:
        text = f"transaction {op.tx} was trimmed from the log: it cannot be rolled back any more"
        raise UnknownTransaction(text, hint="run: shardctl backup list", tx=op.tx)
    if entry is None:
        raise UnknownTransaction(f"there is no transaction {op.tx}", tx=op.tx)
    _check_mark(op.tx, op.tx, 0, context)
    payload = entry.payload()
    if payload is None or not payload.undo:
        why = "its payload was erased" if payload is None else "it has nothing to undo"
        raise NotUndoable(f"transaction {op.tx} cannot be rolled back: {why}", tx=op.tx)
    _check_erased(op.tx, payload.undo, context)
    found = {_newer(op.tx, instruction, context) for instruction in payload.undo}
    conflicts = sorted(found - {0})
    if conflicts and not op.force:
        raise _conflict(op.tx, payload.undo, context)
    for instruction in sorted(payload.undo, key=_rank):
        _carry_out(instruction, context)
    _mark(op.tx, context.lsn, context)
    context.undoes = op.tx
    return {"undone": op.tx, "overwrote": conflicts}


def undone_by(context: Context, tx: int) -> int:
    """The transaction that rolled this one back; 0: none did, or it was done again."""
    row = context.get(Undone, key_of(Table.UNDONE, tx))
    return 0 if row is None else row.by


def _newer(tx: int, instruction: Undo, context: Context) -> int:
    """The transaction that changed the same thing later; 0: none. Raises NotUndoable where it
    was erased, AlreadyUndone where a redo was taken back by undoing the first one again."""
    match instruction:
        case Restore(key=key, left=left):
            if context.origin(key) == left:
                return 0
            if not context.changed_by(key):
                raise _was_erased(tx) if not context.version(key) else _was_swept(tx)
            return context.changed_by(key)
        case Give(account=account) | Floor(account=account):
            row = context.get(Account, key_of(Table.ACCOUNT, account))
            if row is None:
                raise _was_erased(tx)
            changed = isinstance(instruction, Floor) and row.floor_by != instruction.left
            return (row.floor_by or row.lsn) if changed else 0
        case Mark(tx=marked, left=left):
            _check_mark(tx, marked, left, context)
    return 0


def _check_erased(tx: int, undo: tuple[Undo, ...], context: Context) -> None:
    """Raises NotUndoable where it would bring back what tells of a person who was forgotten
    since: his rows are gone, while the log is looked through for him afterwards."""
    for user in {user for instruction in undo for user in ids_in(instruction)}:
        mark = context.get(Erased, key_of(Table.ERASED, user))
        if mark is not None and mark.lsn > tx:
            raise _was_erased(tx)


def _conflict(tx: int, undo: tuple[Undo, ...], context: Context) -> UndoConflict:
    """Names those that came later, as far as the log tells."""
    search = _Later(tx, context)
    for instruction in undo:
        last = _newer(tx, instruction, context)
        if last and isinstance(instruction, Restore):
            search.follow(instruction, last, context.origin(instruction.key))
        elif last:
            search.follow(instruction, last, last)
    names, least = ", ".join(map(str, sorted(search.found))), "" if search.whole else "at least "
    text = f"transaction {tx} was followed by {least}{names} in the same rows"
    return UndoConflict(text, tx=tx, conflicts=sorted(search.found), all=search.whole)


class _Later:
    """Who changed the same things later: from the last one back, each by the record of the next.

    ``whole``: all were found. What was rolled back since is no conflict, and not named.
    """

    def __init__(self, tx: int, context: Context) -> None:
        self._tx, self._context = tx, context
        self._left = CONFLICTS_READ_MAX
        self.found: set[int] = set()
        self.whole = True

    def follow(self, instruction: Undo, changed_by: int, origin: int) -> None:
        """From what is there now back to what the instruction left."""
        assert isinstance(instruction, Restore | Floor)
        while origin != instruction.left:
            lsn = origin if origin > self._tx else changed_by
            before = None
            if lsn > self._tx:
                self.found.add(lsn)
                before = self._before(instruction, lsn)
            if before is None:
                self.whole = False
                return
            changed_by, origin = before

    def _before(self, like: Restore | Floor, lsn: int) -> tuple[int, int] | None:
        """Who had changed it before this transaction did, and the origin of what was there."""
        self._left -= 1
        try:
            entry = self._context.log.entry(lsn) if self._left >= 0 else None
            payload = None if entry is None else entry.payload()
        except (StateError, msgspec.MsgspecError):
            return None
        for one in () if payload is None else payload.undo:
            if isinstance(one, Restore) and isinstance(like, Restore) and one.key == like.key:
                row = one.before
                return (one.gone, one.gone) if row is None else (head(row)[1], origin_of(row))
            if isinstance(one, Floor) and isinstance(like, Floor) and one.account == like.account:
                return one.origin, one.origin
        return None


def _check_mark(tx: int, marked: int, left: int, context: Context) -> None:
    by = undone_by(context, marked)
    if by != left:
        text = f"transaction {tx} was rolled back by {by}"
        raise AlreadyUndone(text, tx=tx, by=by)


def _mark(tx: int, by: int, context: Context) -> None:
    """Note who rolled a transaction back; 0: nobody, any more."""
    key, before = key_of(Table.UNDONE, tx), undone_by(context, tx)
    if by:
        context.put(key, Undone(by=by), own_way=True)
    else:
        context.put_raw(key, None, own_way=True)
    context.undo_by(Mark(tx, before, by))


def _rank(instruction: Undo) -> int:
    """First what an account gets, then its limit, then what it loses: no more is asked of it
    than that the end is within the limit."""
    if not isinstance(instruction, Give):
        return 1
    return 0 if instruction.amount > 0 else 2


def _carry_out(instruction: Undo, context: Context) -> None:
    match instruction:
        case Give(account=account, amount=amount):
            give(context, account, amount)
        case Recount(side=side, name=name, amount=amount):
            recount(context, side, name, amount)
        case Floor(account=account, floor=floor, origin=origin):
            refloor(context, account, floor, origin)
        case Mark(tx=tx, by=by):
            _mark(tx, by, context)
        case Restore(key=key):
            context.restore(instruction)
            if key[1] == Table.BAN:
                remember(context, f"user:{parse_key(key)[1][0]}")


def _was_swept(tx: int) -> NotUndoable:
    text = "what it changed is erased, or was deleted longer ago than such is kept"
    return NotUndoable(f"transaction {tx} cannot be rolled back: {text}", tx=tx)


def _was_erased(tx: int) -> NotUndoable:
    return NotUndoable(f"transaction {tx} cannot be rolled back: what it changed is erased", tx=tx)
