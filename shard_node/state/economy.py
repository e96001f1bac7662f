"""Money: accounts that never go below their limit, and totals that prove the sum.

The sum of all balances is what the sources gave less what the sinks took; transfers do not
change it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from shard_node.state.arguments import account as check_account
from shard_node.state.arguments import shown
from shard_node.state.context import Context, remember
from shard_node.state.errors import BadAmount, InsufficientFunds, SelfTransfer, UnknownAccount
from shard_node.state.keys import Table, key_of
from shard_node.state.rows import Row
from shard_node.state.undo import Floor, Give, Recount

AMOUNT_MAX: Final = (1 << 63) - 1
SOURCE: Final = "source"
SINK: Final = "sink"


class Account(Row, frozen=True):
    """A balance in the smallest unit; ``floor`` is how far below zero it may go (0 or less),
    ``floor_by`` the transaction that decided it."""

    balance: int = 0
    floor: int = 0
    floor_by: int = 0


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
    key = key_of(Table.ACCOUNT, account)
    row = context.get(Account, key)
    if row is None:
        if not opens:
            raise UnknownAccount(f"there is no account {account}", account=account)
        check_account(account)
        row = Account()
    balance = row.balance + amount
    if amount < 0 and balance < row.floor:
        raise _short(account, row.balance, -amount, row.floor)
    if abs(balance) > AMOUNT_MAX:
        raise BadAmount(f"{account} cannot hold {balance}", account=account, amount=amount)
    context.put(key, msgspec.structs.replace(row, balance=balance), own_way=True)
    context.undo_by(Give(account, -amount))
    remember(context, f"account:{account}")
    return balance


def refloor(context: Context, account: str, floor: int, decided_by: int) -> None:
    """Set an account's floor. Raises UnknownAccount, InsufficientFunds."""
    key = key_of(Table.ACCOUNT, account)
    row = context.get(Account, key)
    if row is None:
        raise UnknownAccount(f"there is no account {account}", account=account)
    if row.balance < floor:
        raise _short(account, row.balance, 0, floor)
    context.put(key, msgspec.structs.replace(row, floor=floor, floor_by=decided_by), own_way=True)
    context.undo_by(Floor(account, row.floor, row.floor_by, decided_by))
    remember(context, f"account:{account}")


def recount(context: Context, side: str, name: str, amount: int) -> None:
    """Add to what a source gave or a sink took."""
    key = key_of(Table.TOTAL, side, name)
    row = context.get(Total, key) or Total()
    total = row.amount + amount
    if not 0 <= total <= AMOUNT_MAX:
        raise BadAmount(f"the {side} {name} cannot come to {total} in all", amount=amount)
    context.put(key, msgspec.structs.replace(row, amount=total), own_way=True)
    context.undo_by(Recount(side, name, -amount))
    context.minted += amount if side == SOURCE else -amount
    if abs(context.minted) > AMOUNT_MAX:
        raise BadAmount("one transaction cannot create so much money", amount=amount)


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
