"""Frames that wait for their destinations: four lanes each, bounded lane by lane.

Control goes first, then high; normal and low go while neither waits, and each is let by
after a fixed number of frames that overtook it, so that none is starved for ever.

At a lane's limit (frames or bytes) an event or message pushes out the oldest of its kind,
which is counted; a request is refused, and the caller tells its sender; a reply pushes out
the oldest event too, and is dropped and counted where there is none.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from shard_node.wire.header import Kind
from shard_node.wire.identity import OPERATOR_PREFIX
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import QUEUE_MAX_BYTES, QUEUE_MAX_FRAMES

SPARE_MAX: Final = 256
"""Empty queues that are kept for the next destinations."""
DESTINATIONS_MAX: Final = 8192
OUTBOX_MAX_BYTES: Final = 256 << 20
"""Over all destinations. Only the control lane is let in beyond it: heartbeats are answered."""
OPERATOR_QUEUE_MAX_FRAMES: Final = 64
OPERATOR_QUEUE_MAX_BYTES: Final = 4 << 20
"""A command line asks one thing at a time; one that never reads gets no more than this."""
PATIENCE_FRAMES: Final = (0, 0, 32, 64)
"""How many frames may overtake a waiting one, lane by lane (0: no lane is let by)."""
DROPPABLE: Final = frozenset({Kind.EVENT, Kind.MESSAGE})


class Put(enum.Enum):
    """What became of a frame that was to be queued."""

    QUEUED = enum.auto()
    REFUSED = enum.auto()
    DROPPED = enum.auto()


@dataclass(slots=True, eq=False)
class Frame:
    """A frame as it goes out. ``ref`` is the number of the request it carries, or 0."""

    header: bytes
    body: bytes
    kind: Kind
    ref: int = 0
    dead: bool = False

    @property
    def size_bytes(self) -> int:
        """What the frame counts for in its lane."""
        return len(self.header) + len(self.body)


class LaneQueue:
    """One lane of one destination, in order."""

    __slots__ = (
        "_dead",
        "_droppable",
        "_frames",
        "_max_bytes",
        "_max_frames",
        "frames",
        "size_bytes",
    )

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        self._droppable: deque[Frame] = deque()
        self._dead = 0
        self.frames = 0
        self.size_bytes = 0

    def put(self, frame: Frame) -> tuple[Put, int]:
        """Queues a frame; the number is how many older ones it pushed out."""
        pushed_out = 0
        while not self._has_room(frame):
            if frame.kind is Kind.REQUEST:
                return Put.REFUSED, pushed_out
            if not self._droppable:
                return Put.DROPPED, pushed_out
            self._push_out()
            pushed_out += 1
        self._append(frame)
        return Put.QUEUED, pushed_out

    def head(self) -> Frame:
        """The oldest frame; the lane must not be empty."""
        while self._frames[0].dead:
            self._frames.popleft()
            self._dead -= 1
        return self._frames[0]

    def pop(self) -> None:
        """Removes the frame that ``head`` gave."""
        frame = self.head()
        self._frames.popleft()
        if frame.kind in DROPPABLE:
            self._droppable.popleft()
        self._forget(frame)

    @property
    def clean(self) -> bool:
        """Whether nothing lies in it, not even a dead frame."""
        return not (self._frames or self._droppable or self._dead)

    def _has_room(self, frame: Frame) -> bool:
        return (
            self.frames < self._max_frames and self.size_bytes + frame.size_bytes <= self._max_bytes
        )

    def _append(self, frame: Frame) -> None:
        self._frames.append(frame)
        if frame.kind in DROPPABLE:
            self._droppable.append(frame)
        self.frames += 1
        self.size_bytes += frame.size_bytes

    def _push_out(self) -> None:
        frame = self._droppable.popleft()
        frame.dead = True
        self._dead += 1
        self._forget(frame)
        if self._dead > self._max_frames:
            self._frames = deque(frame for frame in self._frames if not frame.dead)
            self._dead = 0

    def _forget(self, frame: Frame) -> None:
        self.frames -= 1
        self.size_bytes -= frame.size_bytes


class Queue:
    """The four lanes of one destination."""

    __slots__ = ("_overtaken", "lanes")

    def __init__(
        self,
        max_frames: tuple[int, ...] = QUEUE_MAX_FRAMES,
        max_bytes: tuple[int, ...] = QUEUE_MAX_BYTES,
    ) -> None:
        self.lanes = tuple(
            LaneQueue(frames, size) for frames, size in zip(max_frames, max_bytes, strict=True)
        )
        self._overtaken = [0] * len(self.lanes)

    def __len__(self) -> int:
        return sum(lane.frames for lane in self.lanes)

    def clean(self) -> bool:
        """Make an empty one as good as new; False where dead frames still lie in it."""
        self._overtaken = [0] * len(self.lanes)
        return all(lane.clean for lane in self.lanes)

    def choose(self) -> Lane | None:
        """The lane whose turn it is; None where nothing waits."""
        first = None
        for lane in Lane:
            if not self.lanes[lane].frames:
                continue
            if first is None:
                first = lane
            elif first is not Lane.CONTROL and self._overtaken[lane] >= PATIENCE_FRAMES[lane] > 0:
                return lane
        return first

    def sent(self, lane: Lane) -> None:
        """The head of ``lane`` has gone out."""
        self.lanes[lane].pop()
        if lane is Lane.CONTROL:
            return  # control is rare, and costs nobody's patience
        for other in Lane:
            if other > lane and self.lanes[other].frames:
                self._overtaken[other] += 1
        self._overtaken[lane] = 0


class Outbox:
    """All destinations' queues. ``counts`` is shared with whoever shows it."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self.size_bytes = 0
        self._queues: dict[bytes, Queue] = {}
        self._spare: list[Queue] = []

    def __len__(self) -> int:
        return len(self._queues)

    def put(self, routing_id: bytes, lane: Lane, frame: Frame) -> Put:
        """Queues a frame for a destination."""
        if lane is not Lane.CONTROL and self.size_bytes + frame.size_bytes > OUTBOX_MAX_BYTES:
            return self._no_room("dropped_outbox", frame)
        queue = self._queues.get(routing_id)
        if queue is None:
            if len(self._queues) >= DESTINATIONS_MAX:
                return self._no_room("dropped_destinations", frame)
            queue = self._queues[routing_id] = self._queue_for(routing_id)
        waiting = queue.lanes[lane]
        before = waiting.size_bytes
        put, pushed_out = waiting.put(frame)
        self.size_bytes += waiting.size_bytes - before
        if pushed_out or put is Put.DROPPED:
            self.counts[f"dropped_{lane.name.lower()}"] += pushed_out + (put is Put.DROPPED)
        if put is Put.REFUSED:
            self.counts[f"refused_{lane.name.lower()}"] += 1
        if not queue:
            self._empty(routing_id, queue)
        return put

    def waiting(self) -> list[bytes]:
        """Destinations for which something waits."""
        return list(self._queues)

    def depth(self, routing_id: bytes) -> int:
        """How many frames wait for a destination."""
        queue = self._queues.get(routing_id)
        return len(queue) if queue is not None else 0

    def head(self, routing_id: bytes) -> tuple[Lane, Frame] | None:
        """The next frame for a destination; None where nothing waits."""
        queue = self._queues.get(routing_id)
        lane = queue.choose() if queue is not None else None
        if queue is None or lane is None:
            return None
        return lane, queue.lanes[lane].head()

    def sent(self, routing_id: bytes, lane: Lane) -> None:
        """The frame that ``head`` gave has gone out."""
        queue = self._queues[routing_id]
        before = queue.lanes[lane].size_bytes
        queue.sent(lane)
        self.size_bytes -= before - queue.lanes[lane].size_bytes
        if not queue:
            self._empty(routing_id, queue)

    def forget(self, routing_id: bytes) -> int:
        """Drops all that waits for a destination; returns how many frames it was."""
        queue = self._queues.pop(routing_id, None)
        if queue is None:
            return 0
        self.size_bytes -= sum(lane.size_bytes for lane in queue.lanes)
        return len(queue)

    def _no_room(self, count: str, frame: Frame) -> Put:
        self.counts[count] += 1
        return Put.REFUSED if frame.kind is Kind.REQUEST else Put.DROPPED

    def _queue_for(self, routing_id: bytes) -> Queue:
        if routing_id.startswith(OPERATOR_PREFIX):
            lanes = len(Lane)
            return Queue((OPERATOR_QUEUE_MAX_FRAMES,) * lanes, (OPERATOR_QUEUE_MAX_BYTES,) * lanes)
        return self._spare.pop() if self._spare else Queue()

    def _empty(self, routing_id: bytes, queue: Queue) -> None:
        """Most wait for a moment only, and making a queue costs more than its frame."""
        del self._queues[routing_id]
        if (
            len(self._spare) < SPARE_MAX
            and not routing_id.startswith(OPERATOR_PREFIX)
            and queue.clean()
        ):
            self._spare.append(queue)
