"""``async with node.transaction() as tx``: several operations, all or nothing, one record.

    async with node.transaction(user=inter.author.id, reason="shop") as tx:
        tx.economy.transfer("user:1", "shop", 50)
        tx.members.update(guild_id, 1, role_bought=True)
    print(tx.id)

The operations are applied in this order when the block ends; one that is refused undoes all.
An exception out of the block sends nothing.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from shard_node.shared.backend import WRITE_TIMEOUT_S, Backend, Tx, transaction
from shard_node.shared.primitives import Primitives
from shard_node.shared.sinks import Collected
from shard_node.shared.watch import no_watching
from shard_node.state import arguments
from shard_node.state.errors import BadValue


class Transaction(Primitives):
    """The primitives, collected. ``id`` and ``results`` are there once the block has ended."""

    def __init__(
        self,
        backend: Backend,
        *,
        user: int = 0,
        reason: str = "",
        idempotency_key: str | int | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self._collected = Collected(
            backend, user=user, reason=reason, idempotency_key=idempotency_key
        )
        super().__init__(self._collected, no_watching)
        self._timeout_s = arguments.timeout(timeout_s)
        self._done = Tx(0)

    def transaction(self, **_said: Any) -> Transaction:
        """Raises BadValue: one in another would be committed whatever becomes of that."""
        hint = "give its operations to the one that is open, or begin it after that"
        raise BadValue("a transaction has no transaction in it", hint=hint)

    @property
    def id(self) -> int:
        """Its place in the log, for ``node.state.rollback``; 0 before it is committed, and for
        one without operations."""
        return self._done.id

    @property
    def results(self) -> tuple[Any, ...]:
        """What each operation returned, in order."""
        return self._done.results

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raises what the first operation that is refused raises; nothing is written then."""
        sink = self._collected
        sink.closed = True
        if kind is not None or not sink.ops:
            return
        tx = transaction(
            sink.backend,
            sink.ops,
            user=sink.user,
            reason=sink.reason,
            idempotency_key=sink.key,
        )
        self._done = sink.done = await sink.backend.commit(tx, timeout_s=self._timeout_s)
