"""Transactions on their way to the broker: those of one turn of the loop in one request.

A transaction keeps its op id however often it is sent, so one that the broker had applied
before it died is not applied again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any, Final, Protocol

from shard_node.errors import (
    BrokerUnavailable,
    QueueFull,
    RequestFailed,
    RequestTimeout,
    ShardNodeError,
)
from shard_node.state.errors import BY_CODE, TooLarge, from_code
from shard_node.state.machine import encode_tx
from shard_node.state.tx import Tx as Submitted
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.state import StateDo, StateDone, StateOutcome
from shard_node.wire.topics import STATE_DO

WAITING_MAX: Final = 16_384
"""Transactions of this process that have no outcome yet."""
FRAME_MAX_TXS: Final = 256
FRAME_MAX_BYTES: Final = 256 << 10
TX_MAX_BYTES: Final = 128 << 10
RETRY_FIRST_S: Final = 0.02
RETRY_MAX_S: Final = 0.5
FULL_RETRY_S: Final = 0.1
BUSY: Final = "E_BUSY"
"""The broker did not look at it: the node tries again by itself."""


class Asks(Protocol):
    """Who asks the broker: a node or a client."""

    @property
    def broker_up(self) -> bool:
        """Whether it answers now."""

    async def ask(
        self, topic: str, body: Any, *, timeout_s: float = ..., renew: bool = False
    ) -> Any:
        """The reply's body; with ``renew``, asked again of a broker that comes back."""


class _Waiting:
    """One transaction, as bytes, and who waits for it."""

    __slots__ = ("data", "deadline", "future")

    def __init__(self, data: bytes, deadline: float, future: asyncio.Future[StateOutcome]) -> None:
        self.data, self.deadline, self.future = data, deadline, future


class _Deadlines:
    """Ends each transaction of a request at its own deadline, by one timer for all."""

    def __init__(self, items: list[_Waiting]) -> None:
        self._loop, self._items = asyncio.get_running_loop(), items
        self._timer: asyncio.TimerHandle | None = None
        self._set()

    def close(self) -> None:
        """They have ended otherwise."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        if self._items:
            first = min([item.deadline for item in self._items])
            self._timer = self._loop.call_at(first, self._ring, first)

    def _ring(self, now: float) -> None:
        """The loop's clock may be a little behind the deadline that it rings for."""
        self._timer, items, self._items = None, self._items, []
        for item in items:
            if item.deadline <= now:
                text = "no outcome before the deadline: nobody knows whether it was applied"
                _fail(item, RequestTimeout(text))
            elif not item.future.done():
                self._items.append(item)
        self._set()


class Submitter:
    """Sends what was submitted in a turn of the loop at its end."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._queues: tuple[deque[_Waiting], deque[_Waiting]] = (deque(), deque())
        self._soon: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self.rows = False
        """Whether outcomes shall say what was written."""

    @property
    def waiting(self) -> int:
        """Transactions without an outcome."""
        return self._count

    async def submit(self, tx: Submitted, *, timeout_s: float, quick: bool = False) -> StateOutcome:
        """Returns once it is durable. ``quick`` ones share no request with the others.

        Raises StateError's children, TooLarge, QueueFull; and RequestTimeout or
        BrokerUnavailable where nobody knows whether it was applied.
        """
        loop = asyncio.get_running_loop()
        if self._count >= WAITING_MAX:
            text = f"{self._count} transactions wait for their outcome"
            raise QueueFull(text, retry_after_s=FULL_RETRY_S)
        data = encode_tx(tx)
        if len(data) > TX_MAX_BYTES:
            text = f"a transaction of {len(data)} bytes; the limit is {TX_MAX_BYTES}"
            raise TooLarge(text, size=len(data), limit=TX_MAX_BYTES)
        item = _Waiting(data, loop.time() + timeout_s, loop.create_future())
        self._queues[quick].append(item)
        if self._soon is None:
            self._soon = loop.call_soon(self._end_of_turn)
        self._count += 1
        try:
            return await item.future
        finally:
            self._count -= 1

    def close(self) -> None:
        """The loop ends: who waits hears that nobody knows."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        for queue in self._queues:
            while queue:
                _fail(queue.popleft(), BrokerUnavailable("the node stops"))
        for task in self._tasks:
            task.cancel()

    def _end_of_turn(self) -> None:
        self._soon = None
        loop = asyncio.get_running_loop()
        for queue in self._queues:
            while queue:
                task = loop.create_task(self._carry(_frame(queue)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _carry(self, items: list[_Waiting]) -> None:
        """Send until each has its outcome or is late."""
        clock, wait_s = asyncio.get_running_loop().time, RETRY_FIRST_S
        deadlines = _Deadlines(items)
        try:
            while True:
                items = [item for item in items if not item.future.done()]
                if not items:
                    return
                items = await self._once(items, max(i.deadline for i in items) - clock())
                if items:  # the jitter keeps those that were refused together apart
                    await asyncio.sleep(wait_s * (0.5 + random.random()))
                    wait_s = min(2 * wait_s, RETRY_MAX_S)
        except BaseException as error:
            lost = error if isinstance(error, ShardNodeError) else _stopped(error)
            for item in items:
                _fail(item, lost)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        finally:
            deadlines.close()

    async def _once(self, items: list[_Waiting], timeout_s: float) -> list[_Waiting]:
        """Send once. Returns those that are worth another try."""
        body = StateDo(tuple([item.data for item in items]), self.rows)
        try:
            reply: StateDone = await self._asks.ask(STATE_DO, body, timeout_s=timeout_s, renew=True)
        except RequestFailed as error:
            if error.code == BUSY:
                return items
            raise known(error) from None
        if len(reply.outcomes) != len(items):
            raise RequestFailed("the broker's outcomes fit no transactions", code="E_BAD_BODY")
        again = []
        for item, outcome in zip(items, reply.outcomes, strict=True):
            if outcome.error is None:
                future = item.future
                if not future.done():
                    future.set_result(outcome)
            elif outcome.error.code == BUSY:
                again.append(item)
            else:
                _fail(item, _told(outcome.error))
        return again


def known(error: RequestFailed) -> ShardNodeError:
    """A refusal of the broker as its own class, where it has one."""
    if error.code not in BY_CODE:
        return error
    return from_code(error.code, str(error), error.hint, error.details)


def _told(error: ErrorBody) -> ShardNodeError:
    return from_code(error.code, error.message, error.hint, error.details)


def _frame(queue: deque[_Waiting]) -> list[_Waiting]:
    items, size = [queue.popleft()], 0
    while queue and len(items) < FRAME_MAX_TXS:
        size += len(items[-1].data)
        if size + len(queue[0].data) > FRAME_MAX_BYTES:
            break
        items.append(queue.popleft())
    return items


def _fail(item: _Waiting, error: BaseException) -> None:
    if not item.future.done():
        item.future.set_exception(error)


def _stopped(error: BaseException) -> ShardNodeError:
    if isinstance(error, asyncio.CancelledError):
        return BrokerUnavailable("the node stops")
    return ShardNodeError(f"a transaction could not be sent: {error}")
