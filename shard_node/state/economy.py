"""Money: accounts that never go below their limit, and totals that prove the sum.

The sum of all balances is what the sources gave less what the sinks took; transfers do not
change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shard_node.state.arguments import account as check_account
from shard_node.state.arguments import shown
from shard_node.state.context import Context
from shard_node.state.errors import BadAmount, InsufficientFunds, SelfTransfer, UnknownAccount
from shard_node.state.keys import Table, key_of, prefix_of
from shard_node.state.rows import Row, read, write
from shard_node.state.undo import Floor, Give, Recount
from shard_node.state.views import Reads, Staged

AMOUNT_MAX: Final = (1 << 63) - 1
SOURCE: Final = "source"
SINK: Final = "sink"
RECENT_MAX: Final = 32
"""Transactions that an account's row has of its history. So there is one more row of history in
so many transactions, not one in each."""


class Account(Row, frozen=True):
    """A balance in the smallest unit; ``floor`` is how far below zero it may go (0 or less),
    ``floor_by`` the transaction that decided it. ``recent`` are the last ones that changed the
    account, in order; those before them lie in rows of their own (``Touched``)."""

    balance: int = 0
    floor: int = 0
    floor_by: int = 0
    recent: tuple[int, ...] = ()


class Touched(Row, frozen=True):
    """Transactions that changed an account, in order; the key has the last of them."""

    lsns: tuple[int, ...] = ()


class Total(Row, frozen=True):
    """What a source has given or a sink has taken in all."""

    amount: int = 0


class Transfer(msgspec.Struct, array_like=True, frozen=True, tag="transfer"):
    """Move money from one account to another, which is opened where it is new."""

    source: str
    target: str
    amount: int


class Deposit(msgspec.Struct, array_like=True, frozen=True, tag="deposit"):
    """Create money in an account, which is opened where it is new."""

    account: str
    amount: int
    source: str = "deposit"


class Withdraw(msgspec.Struct, array_like=True, frozen=True, tag="withdraw"):
    """Take money out of the world."""

    account: str
    amount: int
    sink: str = "withdraw"


class SetFloor(msgspec.Struct, array_like=True, frozen=True, tag="set_floor"):
    """Allow an account to go below zero, down to ``floor``."""

    account: str
    floor: int


def apply_transfer(op: Transfer, context: Context) -> dict[str, Any]:
    """Both new balances. Raises BadAmount, SelfTransfer, UnknownAccount, InsufficientFunds."""
    check_amount(op.amount)
    if op.source == op.target:
        raise SelfTransfer(f"{op.source} cannot pay itself", account=op.source)
    left = give(context, op.source, -op.amount)
    got = give(context, op.target, op.amount, opens=True)
    return {"source": left, "target": got}


def apply_deposit(op: Deposit, context: Context) -> dict[str, Any]:
    """The new balance. Raises BadAmount."""
    check_amount(op.amount)
    balance = give(context, op.account, op.amount, opens=True)
    recount(context, SOURCE, op.source, op.amount)
    return {"balance": balance}


def apply_withdraw(op: Withdraw, context: Context) -> dict[str, Any]:
    """The new balance. Raises BadAmount, UnknownAccount, InsufficientFunds."""
    check_amount(op.amount)
    balance = give(context, op.account, -op.amount)
    recount(context, SINK, op.sink, op.amount)
    return {"balance": balance}


def apply_set_floor(op: SetFloor, context: Context) -> dict[str, Any]:
    """The new floor. Raises BadAmount for one above zero, UnknownAccount, InsufficientFunds
    where the balance is below it."""
    check_floor(op.floor)
    refloor(context, op.account, op.floor, context.lsn)
    return {"floor": op.floor}


def give(context: Context, account: str, amount: int, *, opens: bool = False) -> int:
    """Add to an account (a negative amount takes). Returns the new balance."""
    key = key_of(_ACCOUNT, account)
    data = context.view.get(key)
    if data is not None:
        row = _read(data)
    elif opens:
        check_account(account)
        row = _NEW
    else:
        raise UnknownAccount(f"there is no account {account}", account=account)
    balance = row.balance + amount
    if amount < 0 and balance < row.floor:
        raise _short(account, row.balance, -amount, row.floor)
    if abs(balance) > AMOUNT_MAX:
        raise BadAmount(f"{account} cannot hold {balance}", account=account, amount=amount)
    _put(context, account, key, row, balance, row.floor, row.floor_by)
    context.undo_by(Give(account, -amount))
    return balance


def refloor(context: Context, account: str, floor: int, decided_by: int) -> None:
    """Set an account's floor. Raises UnknownAccount, InsufficientFunds."""
    key = key_of(Table.ACCOUNT, account)
    row = context.get(Account, key)
    if row is None:
        raise UnknownAccount(f"there is no account {account}", account=account)
    if row.balance < floor:
        raise _short(account, row.balance, 0, floor)
    _put(context, account, key, row, row.balance, floor, decided_by)
    context.undo_by(Floor(account, row.floor, row.floor_by, decided_by))


def recount(context: Context, side: str, name: str, amount: int) -> None:
    """Add to what a source gave or a sink took."""
    key = key_of(Table.TOTAL, side, name)
    row = context.get(Total, key) or _NO_TOTAL
    total = row.amount + amount
    if not 0 <= total <= AMOUNT_MAX:
        raise BadAmount(f"the {side} {name} cannot come to {total} in all", amount=amount)
    lsn = context.lsn
    context.put_own(key, Total(row.version + 1, lsn, lsn, total))
    context.undo_by(Recount(side, name, -amount))
    context.minted += amount if side == SOURCE else -amount
    if abs(context.minted) > AMOUNT_MAX:
        raise BadAmount("one transaction cannot create so much money", amount=amount)


def history(view: Reads, account: str, after: int = 0) -> Iterator[int]:
    """The transactions after the lsn ``after`` that changed an account, in order."""
    name = f"account:{account}"
    start = key_of(Table.HISTORY, name, after) if after > 0 else b""
    for _, data in view.scan(prefix_of(Table.HISTORY, name), start):
        older = read(Touched, data)
        if older is not None:
            yield from (lsn for lsn in older.lsns if lsn > after)
    row = read(Account, view.get(key_of(Table.ACCOUNT, account)))
    if row is not None:
        yield from (lsn for lsn in row.recent if lsn > after)


def spill(view: Staged, account: str, recent: tuple[int, ...]) -> None:
    """Put what an account's row has of its history into a row of its own, written once."""
    last = recent[-1]
    row = write(Touched(1, last, last, recent))
    view.put_new(key_of(Table.HISTORY, f"account:{account}", last), row)


def _put(
    context: Context, account: str, key: bytes, row: Account, balance: int, floor: int, by: int
) -> None:
    """The account as this transaction leaves it."""
    lsn, recent = context.lsn, row.recent
    if not recent or recent[-1] != lsn:
        if len(recent) >= RECENT_MAX:
            spill(context.view, account, recent)
            recent = ()
        recent = (*recent, lsn)
    context.put_own(key, Account(row.version + 1, lsn, lsn, balance, floor, by, recent))


_ACCOUNT: Final = Table.ACCOUNT  # looked up for each transfer, which takes a while
_NEW: Final = Account()
_NO_TOTAL: Final = Total()
_read = msgspec.msgpack.Decoder(Account).decode


def _short(account: str, balance: int, amount: int, floor: int) -> InsufficientFunds:
    text = f"{account} has {balance}, {amount} is more than it may spend"
    return InsufficientFunds(text, account=account, balance=balance, amount=amount, floor=floor)


def check_amount(amount: object) -> None:
    """Raises BadAmount for what is no whole number from 1 to 2^63 - 1."""
    if type(amount) is not int or not 1 <= amount <= AMOUNT_MAX:
        raise BadAmount(f"{shown(amount)} is no amount", amount=shown(amount))


def check_floor(floor: object) -> None:
    """Raises BadAmount for what is no whole number from -(2^63 - 1) to 0."""
    if type(floor) is not int or not -AMOUNT_MAX <= floor <= 0:
        hint = f"a floor is a whole number from {-AMOUNT_MAX} to 0"
        raise BadAmount(f"{shown(floor)} is no floor", hint=hint, amount=shown(floor))
