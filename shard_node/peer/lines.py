"""What waits in a node to be sent: the lines of its targets, and how much they may hold. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from shard_node.peer.asks import Ask
from shard_node.peer.frames import LOOK_BYTES, LOOK_MESSAGES, Frame, Line, withdraw
from shard_node.wire.batch import Message
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import BATCH_MAX_BYTES, BATCH_MAX_MESSAGES, QUEUE_MAX_BYTES
from shard_node.wire.targets import Target

QUEUE_MAX_MESSAGES: Final = 16_384
"""Messages that wait in one lane of this node, in frames that are closed."""
ROOM_MESSAGES: Final = 1024
"""Beyond so many in a line, whoever publishes to it waits for room."""
LINES_MAX: Final = 4096
"""Lines that are kept although nothing is in them."""
MANY_LINES: Final = 256
"""With fewer lines that have something to send the limit is looked at with their batches."""
SWEEP_SHARE: Final = 4
"""A full lane is searched for what nobody waits for, where that may be a share of one in 4."""


class Lines:
    """All lines of a node, lane by lane: those with something to send are ready, or blocked
    since their window is full."""

    def __init__(self) -> None:
        self.dropped = 0
        self.topics: dict[tuple[Any, str | None], Line] = {}
        """Lines of events by what their publisher says: the way to a line that costs least."""
        self.ways: dict[tuple[Target, Any, str | None, int], tuple[Line, str]] = {}
        """The same for messages and requests, with the topic's name."""
        self.answers: dict[tuple[str, int], Line] = {}
        """The same for answers, by who asked and lane."""
        self._lines: dict[tuple[Target, int], Line] = {}
        self._forget_at = LINES_MAX
        self._ready: tuple[deque[Line], ...] = tuple(deque() for _ in Lane)
        self._blocked: tuple[dict[Line, None], ...] = tuple({} for _ in Lane)
        self._waiting = [0, 0, 0, 0]
        self._waiting_bytes = [0, 0, 0, 0]
        self._withdrawn = [0, 0, 0, 0]

    def line(self, target: Target, lane: int) -> Line:
        """The line of a target, made where there is none."""
        key = (target, lane)
        found = self._lines.get(key)
        if found is None:
            if len(self._lines) >= self._forget_at:
                self._forget_idle()
            found = self._lines[key] = Line(target, lane)
        return found

    def put(self, line: Line, message: Message, ask: Ask | None = None) -> bool:
        """Add a message. True where a batch is full now, so that it may go at once."""
        size = len(message.body)
        full = False
        if line.batch and line.size + size > BATCH_MAX_BYTES:
            self.close_batch(line)
            full = True
        line.batch.append(message)
        line.size += size
        if ask is not None:
            line.asks.append(ask)
        if not line.queued:
            self.enqueue(line)
        if len(line.batch) >= line.look or line.size >= line.look_bytes:
            full = self.looked(line, BATCH_MAX_BYTES) or full
        return full

    def looked(self, line: Line, full_bytes: int) -> bool:
        """Counts what an open batch holds, and closes one that is full: then True."""
        if len(line.batch) >= BATCH_MAX_MESSAGES or line.size >= full_bytes:
            self.close_batch(line)
            return True
        self._recount(line, len(line.batch), line.size)
        line.look = min(2 * line.look, BATCH_MAX_MESSAGES)
        while line.look_bytes <= line.size:
            line.look_bytes *= 2
        line.look_bytes = min(line.look_bytes, full_bytes)
        if not line.kept and self.full(line.lane):
            self.drop_oldest(line)
        return False

    def enqueue(self, line: Line) -> None:
        """The line has something to send."""
        line.queued = True
        ready = self._ready[line.lane]
        ready.append(line)
        if len(ready) > MANY_LINES and not line.kept and self.full(line.lane):
            self.drop_oldest(line)

    def close_batch(self, line: Line) -> None:
        """The open batch becomes a frame that waits."""
        if line.asks:
            withdraw(line)
        if not line.batch:
            self._opened(line)
            return
        frame = Frame(line, line.batch, line.asks, line.size)
        for ask in line.asks:
            ask.frame = frame
        self._opened(line)
        line.frames.append(frame)
        self._count(frame, 1)
        if not line.kept and self.full(line.lane):
            self.drop_oldest(line)

    def _opened(self, line: Line) -> None:
        """The line begins a new batch."""
        line.batch, line.asks, line.size = [], [], 0
        if line.counted:
            self._recount(line, 0, 0)
        line.look, line.look_bytes = LOOK_MESSAGES, LOOK_BYTES

    def _recount(self, line: Line, messages: int, size: int) -> None:
        """So much of the open batch is among what waits."""
        more = messages - line.counted
        self._waiting[line.lane] += more
        line.waiting += more
        self._waiting_bytes[line.lane] += size - line.counted_bytes
        line.counted, line.counted_bytes = messages, size

    def room(self, line: Line) -> bool:
        """Whether a publisher may go on without waiting: it is asked to wait at half the
        limit, beyond which the oldest events go."""
        lane = line.lane
        return (
            line.waiting < ROOM_MESSAGES
            and 2 * self._in_lane(lane) < QUEUE_MAX_MESSAGES
            and 2 * self._waiting_bytes[lane] < QUEUE_MAX_BYTES[lane]
        )

    def full(self, lane: int) -> bool:
        """Whether a lane is at its limit: a message or a request has to be refused."""
        many = self._in_lane(lane) >= QUEUE_MAX_MESSAGES
        return many or self._waiting_bytes[lane] >= QUEUE_MAX_BYTES[lane]

    def _in_lane(self, lane: int) -> int:
        return self._waiting[lane] + len(self._ready[lane]) + len(self._blocked[lane])

    def refuses(self, lane: int) -> bool:
        """Whether a lane is at its limit, without what nobody waits for any more."""
        if not self.full(lane):
            return False
        if SWEEP_SHARE * self._withdrawn[lane] < self._in_lane(lane):
            return True
        self._sweep(lane)
        return self.full(lane)

    def _sweep(self, lane: int) -> None:
        """Let go what nobody waits for any more."""
        self._withdrawn[lane] = 0
        for line in (*self._ready[lane], *self._blocked[lane]):
            if line.asks:
                withdraw(line)
                self._recount(line, len(line.batch), line.size)
            if any(frame.over for frame in line.frames):
                for frame in line.frames:
                    if frame.over:
                        self._count(frame, -1)
                line.frames = deque(frame for frame in line.frames if not frame.over)
        ready = self._ready[lane]
        for _ in range(len(ready)):
            line = ready.popleft()
            line.queued = bool(line.frames or line.batch)
            if line.queued:
                ready.append(line)

    def drop_oldest(self, line: Line) -> int:
        """Drop the oldest events of a line, or of another one in its lane where it has none.
        Returns their number."""
        if line.frames and not line.kept:
            return self._drop(line)
        ready = self._ready[line.lane]
        for _ in range(len(ready)):
            other = ready[0]
            dropped = 0 if other.kept else self._drop(other)
            if other.frames or other.batch:
                ready.rotate(-1)
            else:
                ready.popleft().queued = False
            if dropped:
                return dropped
        events = (other for other in self._blocked[line.lane] if not other.kept)
        return next(filter(None, map(self._drop, events)), 0)

    def _drop(self, line: Line) -> int:
        if line.frames:
            frame = line.frames.popleft()
            self._count(frame, -1)
            count = len(frame.messages)
        else:
            count = len(line.batch)
            self._opened(line)
        self.dropped += count
        return count

    @property
    def waiting(self) -> int:
        """Messages that have not left: those in open batches too."""
        lanes = (*self._ready, *self._blocked)
        more = sum(len(line.batch) - line.counted for lane in lanes for line in lane)
        return sum(self._waiting) + more

    def _count(self, frame: Frame, sign: int) -> None:
        lane = frame.line.lane
        self._waiting[lane] += sign * len(frame.messages)
        frame.line.waiting += sign * len(frame.messages)
        self._waiting_bytes[lane] += sign * frame.size

    def _forget_idle(self) -> None:
        """Forgets lines that have nothing; next when there are twice as many as remain."""
        self._lines = {
            key: line
            for key, line in self._lines.items()
            if line.queued or line.batch or line.out or line.held
        }
        self._forget_at = max(LINES_MAX, 2 * len(self._lines))
        self.topics.clear()
        self.ways.clear()
        self.answers.clear()
