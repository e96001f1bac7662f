"""What the primitives need of a state, be it the fleet's or one in memory."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from shard_node.shared.clock import LogClock
from shard_node.state.log import Entry
from shard_node.state.ops import AnyOp
from shard_node.state.tx import OP_ID_BYTES, SALT_BYTES, Actor, new_op_id
from shard_node.state.tx import Tx as Submitted
from shard_node.wire.state import StateAt

WRITE_TIMEOUT_S: Final = 10.0
"""How long a write waits for its commit, over deaths of the broker."""
ASK_TIMEOUT_S: Final = 5.0


class Tx(NamedTuple):
    """A transaction that is committed. ``id`` is its place in the log, which
    ``node.state.rollback`` takes; ``results`` has what each of its operations returned."""

    id: int
    results: tuple[Any, ...] = ()

    @property
    def lsn(self) -> int:
        """Its log sequence number, which is its id."""
        return self.id


class Logged(NamedTuple):
    """Records of the log and how far it was looked at: ``read_to`` is where to go on;
    ``first`` and ``last`` are the log's own ends."""

    entries: tuple[Entry, ...]
    read_to: int
    first: int
    last: int
    more: bool


class Backend(Protocol):
    """Reads are synchronous and local; what is awaited may take until its deadline.

    What is awaited raises RequestTimeout, BrokerUnavailable, QueueFull (all retryable) and
    StateError's children.
    """

    name: str
    """Who the log says did it."""
    clock: LogClock

    @property
    def up(self) -> bool:
        """Whether what is committed now has a chance."""

    async def commit(self, tx: Submitted, *, timeout_s: float, quick: bool = False) -> Tx:
        """Apply a transaction; returns once it is durable. ``quick``: it waits for no disk,
        so it is sent apart from those that do."""

    def get(self, key: bytes) -> bytes | None:
        """A committed row, as this process knows it."""

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Committed rows in the order of their keys, as this process knows them."""

    async def fetch(self, keys: Sequence[bytes]) -> tuple[bytes | None, ...]:
        """Rows as the broker has them now."""

    def fetch_all(self, prefix: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """Rows whose keys begin like this, as the broker has them now."""

    async def mark(self, wait_lsn: int, *, timeout_s: float) -> StateAt:
        """Where the log stands, once it and this process's reads have reached ``wait_lsn``."""

    async def read_log(
        self,
        after: int,
        limit: int,
        *,
        newest: bool = False,
        kinds: tuple[str, ...] = (),
        user: int = 0,
        account: str = "",
    ) -> Logged:
        """Records of the log after ``after``, or the newest ones."""


def transaction(
    backend: Backend,
    ops: Sequence[AnyOp],
    *,
    user: int = 0,
    reason: str = "",
    idempotency_key: str | None = None,
) -> Submitted:
    """A transaction to commit. The same ``idempotency_key`` makes it the same one."""
    if idempotency_key is None:
        drawn = secrets.token_bytes(OP_ID_BYTES + SALT_BYTES)
        op_id, salt = new_op_id(time.time_ns() // 1_000_000, drawn), drawn[OP_ID_BYTES:]
    else:
        op_id = hashlib.sha256(b"idempotency:" + idempotency_key.encode()).digest()[:OP_ID_BYTES]
        salt = secrets.token_bytes(SALT_BYTES)
    return Submitted(op_id, salt, tuple(ops), Actor(backend.name, user, reason))
