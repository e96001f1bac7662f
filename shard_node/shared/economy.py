"""Money: ``node.economy``. Amounts are whole numbers of the smallest unit.

An account is named by a string of 1 to 192 bytes, such as ``"user:80351110224678912"``. It
never holds less than 0 unless it was allowed to.
"""

from __future__ import annotations

from collections.abc import Awaitable

from shard_node.shared.backend import WRITE_TIMEOUT_S, Tx
from shard_node.shared.log import LOG_LIMIT_MAX, LogPage, page_of
from shard_node.shared.sinks import Sink
from shard_node.state import arguments
from shard_node.state.economy import (
    Account,
    Deposit,
    SetFloor,
    Transfer,
    Withdraw,
    check_amount,
    check_floor,
)
from shard_node.state.errors import SelfTransfer, UnknownAccount
from shard_node.state.keys import Table, key_of
from shard_node.state.rollback import Rollback
from shard_node.state.rows import read

HISTORY_LIMIT = 50


class Economy:
    """Accounts. Every change raises StateError's children where it is refused, and
    BrokerUnavailable, RequestTimeout or QueueFull (retryable) where no broker confirmed it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def transfer(
        self,
        src: str,
        dst: str,
        amount: int,
        *,
        idempotency_key: str | int | None = None,
        user: int = 0,
        reason: str = "",
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Awaitable[Tx]:
        """Move money; an account that gets its first is opened. Durable when it returns.

        Called again with the same ``idempotency_key`` (text, or an id such as ``inter.id``) it
        is the same transfer, which happens once: a key holds for at least the last 65,536
        transactions of the fleet. Raises BadAmount, BadName, SelfTransfer,
        UnknownAccount, InsufficientFunds.
        """
        check_amount(amount)
        arguments.account(src, "src")
        arguments.account(dst, "dst")
        if src == dst:
            raise SelfTransfer(f"{src} cannot pay itself", account=src)
        return self._sink.do(
            Transfer(src, dst, amount),
            user=user,
            reason=reason,
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
        )

    def deposit(
        self,
        account: str,
        amount: int,
        *,
        source: str = "deposit",
        idempotency_key: str | int | None = None,
        user: int = 0,
        reason: str = "",
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Awaitable[Tx]:
        """Create money in an account, which is opened where it is new. ``source`` names where
        it came from, for the audit. Raises BadAmount, BadName."""
        check_amount(amount)
        arguments.account(account)
        arguments.name_of(source, "source")
        return self._sink.do(
            Deposit(account, amount, source),
            user=user,
            reason=reason,
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
        )

    def withdraw(
        self,
        account: str,
        amount: int,
        *,
        sink: str = "withdraw",
        idempotency_key: str | int | None = None,
        user: int = 0,
        reason: str = "",
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Awaitable[Tx]:
        """Take money out of the world; ``sink`` names where it went, for the audit.

        Raises BadAmount, BadName, UnknownAccount, InsufficientFunds.
        """
        check_amount(amount)
        arguments.account(account)
        arguments.name_of(sink, "sink")
        return self._sink.do(
            Withdraw(account, amount, sink),
            user=user,
            reason=reason,
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
        )

    def allow_overdraft(
        self, account: str, floor: int, *, user: int = 0, reason: str = ""
    ) -> Awaitable[Tx]:
        """Let an account go down to ``floor`` (0 or less). Raises BadAmount, UnknownAccount,
        InsufficientFunds where it is below that already."""
        arguments.account(account)
        check_floor(floor)
        return self._sink.do(SetFloor(account, floor), user=user, reason=reason)

    def balance(self, account: str) -> int:
        """The balance, as this process knows it. Raises UnknownAccount, BadName."""
        return _balance(account, self._sink.backend.get(_key(account)))

    async def fetch(self, account: str) -> int:
        """The balance, as the broker has it now. Raises UnknownAccount, BadName."""
        (row,) = await self._sink.backend.fetch((_key(account),))
        return _balance(account, row)

    async def history(
        self, account: str, *, after: int | None = None, limit: int = HISTORY_LIMIT
    ) -> LogPage:
        """The newest records of the log that moved this account's money, oldest first; with
        ``after``, the first ones behind that record (0: from the beginning).

        Raises BadName, BadValue.
        """
        arguments.account(account)
        arguments.limit(limit, LOG_LIMIT_MAX)
        start = 0 if after is None else arguments.place(after, "after")
        backend = self._sink.backend
        found = await backend.read_log(start, limit, newest=after is None, account=account)
        return page_of(found)

    def rollback(
        self, tx_id: int, reason: str, *, user: int = 0, force: bool = False
    ) -> Awaitable[Tx]:
        """Undo a transaction. Raises as ``node.state.rollback``, and InsufficientFunds where
        the money that it gave was spent."""
        op = Rollback(arguments.transaction_id(tx_id), arguments.flag(force, "force"))
        arguments.needed_reason(reason, "a rollback")
        return self._sink.do(op, user=user, reason=reason)


def _key(account: str) -> bytes:
    return key_of(Table.ACCOUNT, arguments.account(account))


def _balance(account: str, data: bytes | None) -> int:
    row = read(Account, data)
    if row is None:
        raise UnknownAccount(f"there is no account {account}", account=account)
    return row.balance
