"""What a node has to say: lanes for each target, a window, and what is kept. Pure.

Messages are put into the open batch of their line (target and lane). Nobody waits for a
batch to fill: whenever the shell gets to send it takes the next frame, whatever is in it.
A frame that holds more than events is kept until every message in it is settled, so that a
broker that is killed loses nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from shard_node.peer.asks import Ask
from shard_node.peer.frames import Frame, Line, again, ttl_ms, withdraw
from shard_node.wire.batch import Flag, Message, encode_batch
from shard_node.wire.codec import encode_header
from shard_node.wire.credit import Entry, Handled
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import (
    BATCH_MAX_BYTES,
    BATCH_MAX_MESSAGES,
    CREDIT_RESERVE_MESSAGES,
    LINE_WINDOW_MESSAGES,
    PROTOCOL_VERSION,
    QUEUE_MAX_BYTES,
    SEND_WINDOW_BYTES,
    SEND_WINDOW_MESSAGES,
)
from shard_node.wire.targets import Target

QUEUE_MAX_MESSAGES: Final = 16_384
"""Messages that wait in one lane of this node, in frames that are closed."""
ROOM_MESSAGES: Final = 1024
"""Beyond so many in a line, whoever publishes to it waits for room."""
LINES_MAX: Final = 4096
"""Lines that are kept although nothing is in them."""
_RESENT: Final = int(Flag.RESENT)
_LANES: Final = tuple(Lane)
_UPPER: Final = int(Lane.HIGH)


class Outbox:
    """All lines of a node. ``up`` says whether there is a broker to send to."""

    def __init__(self) -> None:
        self.up = False
        self.dropped = 0
        self.topics: dict[tuple[Any, str | None], Line] = {}
        """Lines of events by what their publisher says: the way to a line that costs least."""
        self.ways: dict[tuple[Target, Any, str | None, int], tuple[Line, str]] = {}
        """The same for messages and requests, with the topic's name."""
        self._lines: dict[tuple[Target, int], Line] = {}
        self._ready: tuple[deque[Line], ...] = tuple(deque() for _ in Lane)
        self._blocked: tuple[dict[Line, None], ...] = tuple({} for _ in Lane)
        self._waiting = [0, 0, 0, 0]
        self._waiting_bytes = [0, 0, 0, 0]
        self._seq = [0, 0, 0, 0]
        self._sent: tuple[dict[int, Frame], ...] = ({}, {}, {}, {})
        self._out_messages = 0
        self._out_bytes = 0
        self._kept: dict[tuple[int, int], Frame] = {}

    # --- taking messages in

    def line(self, target: Target, lane: int) -> Line:
        """The line of a target, made where there is none."""
        key = (target, lane)
        found = self._lines.get(key)
        if found is None:
            if len(self._lines) >= LINES_MAX:
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
        if len(line.batch) >= BATCH_MAX_MESSAGES or line.size >= BATCH_MAX_BYTES:
            self.close_batch(line)
            full = True
        return full

    def enqueue(self, line: Line) -> None:
        """The line has something to send."""
        line.queued = True
        self._ready[line.lane].append(line)

    def close_batch(self, line: Line) -> None:
        """The open batch becomes a frame that waits."""
        if line.asks:
            withdraw(line)
        if not line.batch:
            line.size = 0
            return
        frame = Frame(line, line.batch, line.asks, line.size)
        for ask in line.asks:
            ask.frame = frame
        line.batch, line.asks, line.size = [], [], 0
        line.frames.append(frame)
        self._count(frame, 1)
        if not line.kept and self.full(line.lane):
            self.drop_oldest(line)

    def room(self, line: Line) -> bool:
        """Whether a publisher may go on without waiting."""
        return line.waiting < ROOM_MESSAGES and not self.full(line.lane)

    def full(self, lane: int) -> bool:
        """Whether a lane is at its limit: a message or a request has to be refused."""
        too_many = self._waiting[lane] >= QUEUE_MAX_MESSAGES
        return too_many or self._waiting_bytes[lane] >= QUEUE_MAX_BYTES[lane]

    def drop_oldest(self, line: Line) -> int:
        """Drop the oldest frame of events of a line, or of another one in its lane where it
        has none. Returns its messages."""
        for other in (line, *self._blocked[line.lane], *self._ready[line.lane]):
            if not other.kept and other.frames:
                frame = other.frames.popleft()
                self._count(frame, -1)
                self.dropped += len(frame.messages)
                return len(frame.messages)
        return 0

    # --- sending

    @property
    def waiting(self) -> int:
        """Messages that have not left: those in open batches too."""
        lanes = (*self._ready, *self._blocked)
        return sum(self._waiting) + sum(len(line.batch) for lane in lanes for line in lane)

    @property
    def ready(self) -> bool:
        """Whether a line may have something to send."""
        return any(self._ready)

    @property
    def urgent(self) -> bool:
        """Whether something waits in the two upper lanes."""
        return bool(self._ready[0] or self._ready[1])

    def next(self) -> Frame | None:
        """The frame to send now: of the most urgent lane, line by line in turn."""
        if not self.up:
            return None
        for lane, ready in enumerate(self._ready):
            while ready:
                line = ready[0]
                frame = self._first(line)
                if frame is None:
                    ready.popleft().queued = False
                elif frame.over:
                    line.frames.popleft()
                    self._count(frame, -1)
                elif not self._has_window(lane, frame):
                    return None
                elif line.out and line.out + len(frame.messages) > LINE_WINDOW_MESSAGES:
                    line.blocked = True
                    self._blocked[lane][ready.popleft()] = None
                else:
                    return frame
        return None

    def alone(self, line: Line, message: Message, ask: Ask | None = None) -> Frame | None:
        """A frame of this message that may go at once; None where something waits, or the
        window is shut. It has gone (``went``) or is ``delayed``."""
        if line.queued or not self.up or any(self._ready):
            return None
        frame = Frame(line, [message], [] if ask is None else [ask], len(message.body))
        if self._out_messages and not self._may_go(line, frame):
            return None
        if ask is not None:
            ask.frame = frame
        return frame

    def only(self) -> Frame | None:
        """The open batch of the only line that has something to send, under the same terms;
        None where it is not that simple."""
        lines: deque[Line] | None = None
        for ready in self._ready:
            if ready:
                if lines is not None or len(ready) > 1:
                    return None
                lines = ready
        if lines is None or not self.up:
            return None
        line = lines[0]
        asks = line.asks
        if line.frames or not line.batch or not all(ask.open for ask in asks):
            return None
        frame = Frame(line, line.batch, asks, line.size)
        if self._out_messages and not self._may_go(line, frame):
            return None
        for ask in asks:
            ask.frame = frame
        line.batch, line.asks, line.size = [], [], 0
        lines.popleft()
        line.queued = False
        return frame

    def _may_go(self, line: Line, frame: Frame) -> bool:
        messages = line.out + len(frame.messages)
        return (not line.out or messages <= LINE_WINDOW_MESSAGES) and self._has_window(
            line.lane, frame
        )

    def delayed(self, frame: Frame) -> None:
        """The socket did not take a frame that was to go alone."""
        frame.line.frames.append(frame)
        self._count(frame, 1)
        self.enqueue(frame.line)

    def encode(
        self, frame: Frame, now: float, sent_at: float, low: int, handled: Handled | None = None
    ) -> tuple[bytes, bytes]:
        """Header and body of a frame. ``sent_at`` is the wall clock's time in seconds,
        ``handled`` the credit that it carries."""
        line, flags = frame.line, frame.flags
        lane = line.lane
        frame.seq = self._seq[lane] + 1
        if not frame.body:
            if flags & _RESENT:
                for ask in frame.asks:
                    ask.message.ttl_ms = max(1, int((ask.deadline - now) * 1000))
            frame.body = encode_batch(frame.messages)
        head = Header(
            PROTOCOL_VERSION,
            Kind.BATCH,
            line.target,
            "",
            _LANES[lane],
            0,
            ttl_ms(frame, now) if frame.asks else 0,
            "",
            frame.seq,
            len(frame.messages),
            flags,
            frame.pin,
            low,
            sent_at,
            handled,
        )
        return encode_header(head), frame.body

    def sent(self, frame: Frame) -> None:
        """The frame that ``next`` gave has left."""
        line = frame.line
        ready = self._ready[line.lane]
        line.frames.popleft()
        self._count(frame, -1)
        self.went(frame)
        if len(ready) > 1:
            ready.rotate(-1)

    def went(self, frame: Frame) -> None:
        """A frame is at the broker."""
        line, seq = frame.line, frame.seq
        lane, count = line.lane, len(frame.messages)
        self._seq[lane] = seq
        self._sent[lane][seq] = frame
        self._out_messages += count
        self._out_bytes += frame.size
        line.out += count
        if line.kept:
            self._kept[lane, seq] = frame

    def _first(self, line: Line) -> Frame | None:
        if not line.frames and line.batch:
            self.close_batch(line)
        return line.frames[0] if line.frames else None

    def _has_window(self, lane: int, frame: Frame) -> bool:
        if not self._out_messages:
            return True
        reserve = CREDIT_RESERVE_MESSAGES if lane <= _UPPER else 0
        messages = self._out_messages + len(frame.messages)
        if messages > SEND_WINDOW_MESSAGES + reserve:
            return False
        return bool(reserve) or self._out_bytes + frame.size <= SEND_WINDOW_BYTES

    def _count(self, frame: Frame, sign: int) -> None:
        lane = frame.line.lane
        self._waiting[lane] += sign * len(frame.messages)
        frame.line.waiting += sign * len(frame.messages)
        self._waiting_bytes[lane] += sign * frame.size

    # --- what the broker says

    def forwarded(self, entries: list[Entry]) -> None:
        """Frames have left the broker: their place in the window is free."""
        for lane, seq, owner in entries:
            if not 0 <= lane < len(self._sent):
                continue
            self._left(lane, seq)
            frame = self._kept.get((lane, seq))
            if frame is None:
                continue
            frame.owner = owner or frame.owner
            if frame.done:
                del self._kept[lane, seq]

    def bounced(self, lane: int, seq: int) -> list[Ask]:
        """A frame came back. Returns those in it that somebody still waits for."""
        if 0 <= lane < len(self._sent):
            self._left(lane, seq)
        frame = self._kept.pop((lane, seq), None)
        return [] if frame is None else [ask for ask in frame.asks if ask.open]

    def settled(self, ask: Ask) -> None:
        """An ask has ended: its frame is let go with the last of them."""
        frame, ask.frame = ask.frame, None  # a ring of the two would wait for the collector
        if frame is None:
            return
        frame.open -= 1
        key = (frame.line.lane, frame.seq)
        if frame.done and frame.seq not in self._sent[key[0]]:
            self._kept.pop(key, None)

    def _left(self, lane: int, seq: int) -> None:
        frame = self._sent[lane].pop(seq, None)
        if frame is not None:
            self._out_messages -= len(frame.messages)
            self._out_bytes -= frame.size
            frame.line.out -= len(frame.messages)
            if frame.line.blocked:
                self._unblock(frame.line)

    def _unblock(self, line: Line) -> None:
        line.blocked = False
        del self._blocked[line.lane][line]
        self._ready[line.lane].append(line)

    # --- the broker comes and goes

    def link_lost(self) -> None:
        """The broker is gone. What it may not have passed on waits for the next one.

        A request that was passed on may have run, so it is never sent twice; its answer or
        its deadline ends it.
        """
        self.up = False
        for lane in self._sent:
            for frame in lane.values():
                frame.line.out = 0
                if frame.line.blocked:
                    self._unblock(frame.line)
            lane.clear()
        self._out_messages = self._out_bytes = 0
        kept, self._kept = list(self._kept.values()), {}
        self._resend(kept)

    def owner_gone(self, owner: str) -> None:
        """The process that frames were passed on to is dead: its messages are sent again, to
        whoever owns the target now."""
        theirs = [f for f in self._kept.values() if f.owner == owner]
        for frame in theirs:
            del self._kept[frame.line.lane, frame.seq]
            self._left(frame.line.lane, frame.seq)
        self._resend(theirs)

    def _resend(self, frames: list[Frame]) -> None:
        """Put frames at the head of their lines again, in the order they had."""
        for frame in sorted(frames, key=lambda f: f.seq, reverse=True):
            rest = again(frame)
            if rest is None:
                continue
            frame.line.frames.appendleft(rest)
            self._count(rest, 1)
            if not frame.line.queued:
                self.enqueue(frame.line)

    def _forget_idle(self) -> None:
        idle = [k for k, line in self._lines.items() if not (line.queued or line.batch or line.out)]
        for key in idle:
            del self._lines[key]
        self.topics.clear()
        self.ways.clear()
