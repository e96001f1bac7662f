"""Money: accounts that never go below their limit, and totals that prove the sum.

The sum of all balances is what the sources gave less what the sinks took; transfers do not
change it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from shard_node.state.context import Context
from shard_node.state.errors import BadAmount, InsufficientFunds, SelfTransfer, UnknownAccount
from shard_node.state.keys import Table, key_of
from shard_node.state.rows import Row
from shard_node.state.undo import Give, Recount

AMOUNT_MAX: Final = (1 << 63) - 1
SOURCE: Final = "source"
SINK: Final = "sink"


class Account(Row, frozen=True):
    """A balance in the smallest unit; ``floor`` is how far below zero it may go (0 or less)."""

    balance: int = 0
    floor: int = 0


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
    _check(op.amount)
    if op.source == op.target:
        raise SelfTransfer(f"{op.source} cannot pay itself", account=op.source)
    left = give(context, op.source, -op.amount)
    got = give(context, op.target, op.amount, opens=True)
    return {"source": left, "target": got}


def apply_deposit(op: Deposit, context: Context) -> dict[str, Any]:
    """The new balance. Raises BadAmount."""
    _check(op.amount)
    balance = give(context, op.account, op.amount, opens=True)
    recount(context, SOURCE, op.source, op.amount)
    return {"balance": balance}


def apply_withdraw(op: Withdraw, context: Context) -> dict[str, Any]:
    """The new balance. Raises BadAmount, UnknownAccount, InsufficientFunds."""
    _check(op.amount)
    balance = give(context, op.account, -op.amount)
    recount(context, SINK, op.sink, op.amount)
    return {"balance": balance}


def apply_set_floor(op: SetFloor, context: Context) -> dict[str, Any]:
    """The new floor. Raises BadAmount for one above zero, UnknownAccount, InsufficientFunds
    where the balance is below it."""
    if not -AMOUNT_MAX <= op.floor <= 0:
        raise BadAmount(f"a floor is 0 or less, not {op.floor}", amount=op.floor)
    key = key_of(Table.ACCOUNT, op.account)
    row = _account(context, key, op.account)
    if row.balance < op.floor:
        raise _short(op.account, row.balance, 0, op.floor)
    context.put(key, msgspec.structs.replace(row, floor=op.floor))
    return {"floor": op.floor}


def give(context: Context, account: str, amount: int, *, opens: bool = False) -> int:
    """Add to an account (a negative amount takes). Returns the new balance."""
    key = key_of(Table.ACCOUNT, account)
    row = context.get(Account, key)
    if row is None:
        if not opens:
            raise UnknownAccount(f"there is no account {account}", account=account)
        row = Account()
    balance = row.balance + amount
    if amount < 0 and balance < row.floor:
        raise _short(account, row.balance, -amount, row.floor)
    if abs(balance) > AMOUNT_MAX:
        raise BadAmount(f"{account} cannot hold {balance}", account=account, amount=amount)
    context.put(key, msgspec.structs.replace(row, balance=balance), own_way=True)
    context.undo_by(Give(account, -amount))
    context.put_raw(key_of(Table.HISTORY, f"account:{account}", context.lsn), b"", own_way=True)
    return balance


def recount(context: Context, side: str, name: str, amount: int) -> None:
    """Add to what a source gave or a sink took."""
    key = key_of(Table.TOTAL, side, name)
    row = context.get(Total, key) or Total()
    context.put(key, msgspec.structs.replace(row, amount=row.amount + amount), own_way=True)
    context.undo_by(Recount(side, name, -amount))


def _account(context: Context, key: bytes, name: str) -> Account:
    row = context.get(Account, key)
    if row is None:
        raise UnknownAccount(f"there is no account {name}", account=name)
    return row


def _short(account: str, balance: int, amount: int, floor: int) -> InsufficientFunds:
    text = f"{account} has {balance}, {amount} is more than it may spend"
    return InsufficientFunds(text, account=account, balance=balance, amount=amount, floor=floor)


def _check(amount: int) -> None:
    if isinstance(amount, bool) or not 1 <= amount <= AMOUNT_MAX:
        raise BadAmount(f"{amount} is no amount", amount=amount)
