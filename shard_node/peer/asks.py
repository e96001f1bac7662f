"""Messages and requests that somebody waits for, and when the waiting ends. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from shard_node.wire.batch import Message
from shard_node.wire.header import Kind

if TYPE_CHECKING:
    from shard_node.peer.frames import Frame

ASKS_MAX: Final = 65_536
SPAN_MAX: Final = 32_768
"""Numbers in one lane behind the newest that receivers have to remember."""
STALE_MAX: Final = 256
"""Settled entries in the heap of deadlines beyond as many again as there are open ones."""
_REQUEST: Final = int(Kind.REQUEST)


class Ask:
    """One MESSAGE or REQUEST. ``waiter`` is the shell's own; ``frame`` is set once it has one."""

    __slots__ = ("deadline", "frame", "lane", "message", "open", "waiter")

    def __init__(self, message: Message, lane: int, deadline: float, waiter: Any) -> None:
        self.message, self.lane, self.deadline, self.waiter = message, lane, deadline, waiter
        self.frame: Frame | None = None
        self.open = True

    @property
    def is_request(self) -> bool:
        """Whether a reply ends it, not a receipt."""
        return self.message.kind == _REQUEST


class Asks:
    """All that is open: requests by correlation, messages by lane and number.

    ``base`` is where correlations begin, so that an answer to an earlier process of the
    same name fits nothing.
    """

    def __init__(self, base: int) -> None:
        self.requests: dict[int, Ask] = {}
        self.messages: tuple[dict[int, Ask], ...] = ({}, {}, {}, {})
        self._correlation = base
        self._numbers = [0, 0, 0, 0]
        self._deadlines: list[tuple[float, int, Ask]] = []
        self._open = self._added = 0

    def __len__(self) -> int:
        return self._open

    def low(self, lane: int, asks: Sequence[Ask] = ()) -> int:
        """The lowest number in a lane that has no receipt yet, 0: none; but none that is
        SPAN_MAX behind the newest, save for a frame of its own ``asks``.

        One that is older is known no more where it has not come yet; then it ends at its
        deadline.
        """
        messages = self.messages[lane]
        if not messages:
            return 0
        low = next(iter(messages))
        oldest = self._numbers[lane] - SPAN_MAX
        if low > oldest:
            return low
        own = (ask.message.number for ask in asks if not ask.is_request)
        return min(oldest + 1, next(own, oldest + 1))

    @property
    def crowded(self) -> bool:
        """Whether no more can be asked now."""
        return self._open >= ASKS_MAX

    def add(self, ask: Ask) -> bool:
        """Give it its number and watch its deadline. True where it is the only one."""
        message = ask.message
        if message.kind == _REQUEST:
            message.number = self._correlation = self._correlation + 1
            self.requests[message.number] = ask
        else:
            message.number = self._numbers[ask.lane] = self._numbers[ask.lane] + 1
            self.messages[ask.lane][message.number] = ask
        self._open += 1
        self._added += 1  # of two equal deadlines the older one comes first
        heapq.heappush(self._deadlines, (ask.deadline, self._added, ask))
        if len(self._deadlines) > 2 * self._open + STALE_MAX:
            self._deadlines = [entry for entry in self._deadlines if entry[2].open]
            heapq.heapify(self._deadlines)
        return self._open == 1

    def end(self, ask: Ask) -> bool:
        """Nobody waits any more. False where that was so before."""
        if not ask.open:
            return False
        ask.open = False
        self._open -= 1
        if ask.message.kind == _REQUEST:
            del self.requests[ask.message.number]
        else:
            del self.messages[ask.lane][ask.message.number]
        return True

    def overdue(self, now: float) -> list[Ask]:
        """Those whose deadline has passed; they stay open until ``end``."""
        found = []
        heap = self._deadlines
        while heap and (not heap[0][2].open or heap[0][0] <= now):
            ask = heapq.heappop(heap)[2]
            if ask.open:
                found.append(ask)
        return found

    def next_deadline(self) -> float | None:
        """The earliest deadline, or one that is over already."""
        return self._deadlines[0][0] if self._deadlines else None

    def all(self) -> list[Ask]:
        """Every open one."""
        return [*self.requests.values(), *(a for lane in self.messages for a in lane.values())]
