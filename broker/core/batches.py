"""BATCH frames that wait: one destination, four lanes, and the receiver's credit.

A frame of events may be pushed out by a newer frame; one that is kept never is. Limits are
lane by lane, in frames, messages and bytes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.core.frames import Batch
from shard_node.wire.batch import Flag
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import (
    BATCH_MAX_BYTES,
    BATCH_MAX_MESSAGES,
    CREDIT_MAX_BYTES,
    CREDIT_MAX_MESSAGES,
    CREDIT_MIN_MESSAGES,
    CREDIT_RESERVE_MESSAGES,
    QUEUE_MAX_BYTES,
    QUEUE_MAX_FRAMES,
    QUEUE_MAX_MESSAGES,
    WAITING_MAX_BYTES,
)

PATIENCE_FRAMES: Final = (0, 0, 32, 64)
"""How many frames may overtake a waiting one, lane by lane (0: no lane is let by)."""
START_WINDOW_MESSAGES: Final = 256
"""What a receiver gets that has not said yet how fast it is."""
RATE_WEIGHT: Final = 0.2
"""Of the newest measurement in a receiver's rate."""
COMPACT_FRAMES: Final = 64
_RESENT: Final = int(Flag.RESENT)


class BatchLane:
    """One lane of one destination, in order."""

    __slots__ = ("_dead", "_events", "_frames", "_limits", "frames", "messages", "size_bytes")

    def __init__(self, max_frames: int, max_messages: int, max_bytes: int) -> None:
        self._limits = (max_frames, max_messages, max_bytes)
        self._frames: deque[Batch] = deque()
        self._events: deque[Batch] = deque()
        self._dead = 0
        self.frames = self.messages = self.size_bytes = 0

    def has_room(self, batch: Batch) -> bool:
        """Whether the frame fits within the limits."""
        max_frames, max_messages, max_bytes = self._limits
        return (
            self.frames < max_frames
            and self.messages + batch.count <= max_messages
            and self.size_bytes + batch.size_bytes <= max_bytes
        )

    def append(self, batch: Batch) -> None:
        """Queues a frame that has room."""
        self._frames.append(batch)
        if not batch.kept:
            self._events.append(batch)
        self.frames += 1
        self.messages += batch.count
        self.size_bytes += batch.size_bytes

    def insert(self, batch: Batch) -> None:
        """Queues a frame that has room, and was passed on once: before those of its sender's
        that never were."""
        later = [
            place
            for place, other in enumerate(self._frames)
            if other.sender == batch.sender and not other.flags & _RESENT and not other.gone
        ]
        self.append(batch)
        if later:
            self._frames.pop()
            self._frames.insert(later[0], batch)

    def oldest_events(self) -> Batch | None:
        """The oldest frame that may be dropped."""
        events = self._events
        while events and events[0].gone:
            events.popleft()
        return events[0] if events else None

    def head(self) -> Batch:
        """The oldest frame; the lane must not be empty."""
        frames = self._frames
        while frames[0].gone:
            frames.popleft()
            self._dead -= 1
        return frames[0]

    def pop(self, batch: Batch) -> None:
        """Removes the frame that ``head`` gave."""
        self._frames.popleft()
        self._forget(batch)

    def remove(self, batch: Batch) -> None:
        """Removes a frame from anywhere."""
        self._dead += 1
        self._forget(batch)
        if self._dead > self.frames + COMPACT_FRAMES:
            self._frames = deque(frame for frame in self._frames if not frame.gone)
            self._dead = 0

    def waiting(self) -> list[Batch]:
        """All frames, oldest first."""
        return [batch for batch in self._frames if not batch.gone]

    def _forget(self, batch: Batch) -> None:
        batch.gone = True
        self.frames -= 1
        self.messages -= batch.count
        self.size_bytes -= batch.size_bytes
        if not batch.kept:
            self.oldest_events()


class Stock:
    """What waits in the lanes of all destinations together, in bytes. A copy for each of
    several receivers counts, although they share their bytes."""

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        self.size_bytes = 0


class Lanes:
    """The four lanes of one destination, or of an owner that is away."""

    __slots__ = ("frames", "lanes", "stock")

    def __init__(
        self,
        max_frames: tuple[int, ...] = QUEUE_MAX_FRAMES,
        max_messages: tuple[int, ...] = QUEUE_MAX_MESSAGES,
        max_bytes: tuple[int, ...] = QUEUE_MAX_BYTES,
    ) -> None:
        limits = zip(max_frames, max_messages, max_bytes, strict=True)
        self.lanes = tuple(BatchLane(*limit) for limit in limits)
        self.frames = 0
        self.stock = Stock()

    def __len__(self) -> int:
        return self.frames

    @property
    def messages(self) -> int:
        """Messages that wait in all lanes."""
        return sum(lane.messages for lane in self.lanes)

    def put(self, batch: Batch) -> tuple[bool, list[Batch]]:
        """Queues a frame; says whether it has room, and which events it pushed out."""
        lane = self.lanes[batch.queue_lane]
        pushed_out: list[Batch] = []
        while not self.has_room(batch):
            oldest = lane.oldest_events()
            if oldest is None:
                return False, pushed_out
            self.remove(oldest)
            pushed_out.append(oldest)
        self._add(lane, batch)
        self.frames += 1
        self.stock.size_bytes += batch.size_bytes
        batch.home = self
        return True, pushed_out

    def _add(self, lane: BatchLane, batch: Batch) -> None:
        lane.append(batch)

    def has_room(self, batch: Batch) -> bool:
        """Whether the frame would be taken without pushing anything out."""
        room = self.stock.size_bytes + batch.size_bytes <= WAITING_MAX_BYTES
        return room and self.lanes[batch.queue_lane].has_room(batch)

    def remove(self, batch: Batch) -> None:
        """Takes a waiting frame out."""
        self.lanes[batch.queue_lane].remove(batch)
        self.frames -= 1
        self.stock.size_bytes -= batch.size_bytes

    def waiting(self) -> list[Batch]:
        """All frames, lane by lane, oldest first."""
        return [batch for lane in self.lanes for batch in lane.waiting()]

    def take_all(self) -> list[Batch]:
        """Takes everything out, lane by lane, oldest first."""
        waiting = self.waiting()
        for batch in waiting:
            self.remove(batch)
            batch.gone = False
        return waiting


class Parked(Lanes):
    """What waits for an owner that is away, by the name that it comes back under."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def _add(self, lane: BatchLane, batch: Batch) -> None:
        if batch.flags & _RESENT:
            lane.insert(batch)
        else:
            lane.append(batch)


class Destination(Lanes):
    """A registered process: its lanes, and what it may have in its hands.

    Totals count since its registration. ``paused_until``: the socket had nobody there.
    ``heard_at``: when it gave credit last, or when frames began to wait; ``stuck``: that was
    longer than STUCK_S ago.
    """

    __slots__ = (
        "_handled_at",
        "_overtaken",
        "handled_bytes",
        "handled_messages",
        "heard_at",
        "lost_bytes",
        "lost_messages",
        "paused_until",
        "rate",
        "routing_id",
        "sent_bytes",
        "sent_messages",
        "stuck",
        "text",
        "window_bytes",
        "window_messages",
    )

    def __init__(self, routing_id: bytes) -> None:
        super().__init__()
        self.routing_id = routing_id
        self.text = routing_id.decode()
        self._overtaken = [0, 0, 0, 0]
        self.paused_until = 0.0
        self.rate = 0.0
        self.reset()

    def reset(self) -> None:
        """The process has registered (again): both sides count from nothing."""
        self.sent_messages = self.sent_bytes = 0
        self.handled_messages = self.handled_bytes = 0
        self.lost_messages = self.lost_bytes = 0
        self.heard_at = 0.0
        self.stuck = False
        self.window_messages = START_WINDOW_MESSAGES
        self.window_bytes = CREDIT_MAX_BYTES
        self._handled_at = 0.0

    def write_off(self) -> None:
        """What was on its way to a connection that broke never comes."""
        self.lost_messages += self.sent_messages - self.handled_messages
        self.lost_bytes += self.sent_bytes - self.handled_bytes
        self.handled_messages, self.handled_bytes = self.sent_messages, self.sent_bytes

    def fits(self, batch: Batch) -> bool:
        """Whether the receiver's credit allows the frame.

        Up to a quarter of the window a receiver may keep to itself what it has handled, and
        so one frame goes on top of it, however large.
        """
        out = self.sent_messages - self.handled_messages
        out_bytes = self.sent_bytes - self.handled_bytes
        messages, size_bytes = self.window_messages, self.window_bytes
        if out * 4 <= messages and out_bytes * 4 <= size_bytes:
            return True
        if batch.queue_lane <= Lane.HIGH:
            messages = max(messages, messages // 4 + BATCH_MAX_MESSAGES) + CREDIT_RESERVE_MESSAGES
            size_bytes += BATCH_MAX_BYTES
        return out + batch.count <= messages and out_bytes + batch.size_bytes <= size_bytes

    def next(self) -> Batch | None:
        """The frame whose turn it is, if there is one and credit for it."""
        first = patient = -1
        for number, lane in enumerate(self.lanes):
            if not lane.frames:
                continue
            if first < 0:
                first = number
                if not number:
                    break  # nothing overtakes control
            elif self._overtaken[number] >= PATIENCE_FRAMES[number] > 0:
                patient = number
                break
        if first < 0:
            return None
        if patient > 0:
            batch = self.lanes[patient].head()
            if self.fits(batch):
                return batch
            if first > Lane.HIGH or self._overtaken[patient] >= 2 * PATIENCE_FRAMES[patient]:
                return None  # what comes before it would keep it from ever fitting
        batch = self.lanes[first].head()
        return batch if self.fits(batch) else None

    def charge(self, batch: Batch) -> None:
        """A frame goes out: it is in the receiver's hands from now on."""
        self.sent_messages += batch.count
        self.sent_bytes += batch.size_bytes

    def refund(self, batch: Batch) -> None:
        """It did not go after all."""
        self.sent_messages -= batch.count
        self.sent_bytes -= batch.size_bytes

    def sent(self, batch: Batch) -> None:
        """The frame that ``next`` gave has gone out."""
        number = batch.queue_lane
        self.lanes[number].pop(batch)
        self.frames -= 1
        self.stock.size_bytes -= batch.size_bytes
        self.charge(batch)
        if number:
            for other in range(number + 1, len(self.lanes)):
                if self.lanes[other].frames:
                    self._overtaken[other] += 1
            self._overtaken[number] = 0

    def credit(self, messages: int, size_bytes: int, now: float) -> bool:
        """What it has handled in all; False for more than it got, or less than before."""
        messages += self.lost_messages
        good = self.handled_messages <= messages <= self.sent_messages
        messages = min(max(messages, self.handled_messages), self.sent_messages)
        if self._handled_at and now > self._handled_at:
            rate = (messages - self.handled_messages) / (now - self._handled_at)
            self.rate += RATE_WEIGHT * (rate - self.rate)
        self._handled_at = now
        self.handled_messages = messages
        size_bytes = max(size_bytes + self.lost_bytes, self.handled_bytes)
        self.handled_bytes = min(size_bytes, self.sent_bytes)
        if messages == self.sent_messages:
            self.handled_bytes = self.sent_bytes
        return good or bool(self.lost_messages)

    def size_window(self, messages: int, size_bytes: int) -> None:
        """What it wants to have in its hands at most."""
        self.window_messages = min(max(messages, CREDIT_MIN_MESSAGES), CREDIT_MAX_MESSAGES)
        self.window_bytes = min(max(size_bytes, BATCH_MAX_BYTES), CREDIT_MAX_BYTES)
