"""Where operations go: to the log at once, or into a transaction that goes there as one."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any, Protocol

from shard_node.shared.backend import WRITE_TIMEOUT_S, Backend, Tx, transaction
from shard_node.state import arguments
from shard_node.state.errors import BadValue, TooLarge
from shard_node.state.ops import AnyOp
from shard_node.state.tx import OPS_MAX


class Sink(Protocol):
    """Takes an operation when it is called, not only when its result is awaited."""

    backend: Backend

    def do(
        self,
        op: AnyOp,
        *,
        user: int = 0,
        reason: str = "",
        idempotency_key: str | int | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
        quick: bool = False,
    ) -> Awaitable[Tx]:
        """The transaction that it is in, once it is durable."""


class Direct:
    """Each operation is a transaction of its own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def do(
        self,
        op: AnyOp,
        *,
        user: int = 0,
        reason: str = "",
        idempotency_key: str | int | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
        quick: bool = False,
    ) -> Awaitable[Tx]:
        """Commits it."""
        key = _checked(user, reason, idempotency_key, timeout_s)
        tx = transaction(self.backend, (op,), user=user, reason=reason, idempotency_key=key)
        return self.backend.commit(tx, timeout_s=timeout_s, quick=quick)


class Collected:
    """Operations of one transaction, in order; ``done`` once they are committed."""

    def __init__(
        self, backend: Backend, *, user: int, reason: str, idempotency_key: str | int | None
    ) -> None:
        self.backend = backend
        self.key = _checked(user, reason, idempotency_key, WRITE_TIMEOUT_S)
        self.user, self.reason = user, reason
        self.ops: list[AnyOp] = []
        self.closed = False
        self.done: Tx | None = None

    def do(
        self,
        op: AnyOp,
        *,
        user: int = 0,
        reason: str = "",
        idempotency_key: str | int | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
        quick: bool = False,
    ) -> Awaitable[Tx]:
        """Keeps it. Who did it and why is said once, by the transaction or its first
        operation that says so. Raises TooLarge, BadValue."""
        _checked(user, reason, idempotency_key, timeout_s)
        del quick
        if self.closed:
            raise BadValue("the transaction is over", hint="begin another one")
        if idempotency_key is not None:
            raise BadValue("the idempotency key is the transaction's", hint=_KEY_HINT)
        if len(self.ops) >= OPS_MAX:
            text = f"a transaction has at most {OPS_MAX} operations"
            raise TooLarge(text, count=len(self.ops) + 1, limit=OPS_MAX)
        self.user, self.reason = self.user or user, self.reason or reason
        self.ops.append(op)
        return _NotYet()


_KEY_HINT = "node.transaction(idempotency_key=...)"


def _checked(
    user: int, reason: str, idempotency_key: str | int | None, timeout_s: float
) -> str | None:
    """The key as text. Raises BadName, BadValue, ReasonRequired for what each call may have."""
    arguments.actor(user)
    arguments.reason(reason)
    arguments.timeout(timeout_s)
    return arguments.idempotency_key(idempotency_key)


class _NotYet:
    """Awaited inside a transaction: nothing has happened yet, and the id is 0."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Tx]:
        yield from ()
        return Tx(0)
