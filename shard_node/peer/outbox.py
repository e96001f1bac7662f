"""What a node has to say: lanes for each target, a window, and what is kept. Pure.

Messages are put into the open batch of their line (target and lane). Nobody waits for a
batch to fill: whenever the shell gets to send it takes the next frame, whatever is in it.
A frame that holds more than events is kept until every message in it is settled, so that a
broker that is killed loses nothing.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final

from shard_node.peer.asks import Ask
from shard_node.peer.frames import Frame, Line, again, ttl_ms
from shard_node.peer.lines import Lines
from shard_node.wire.batch import Flag, Message, encode_batch
from shard_node.wire.codec import encode_header
from shard_node.wire.credit import Entry, Handled
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import (
    CREDIT_RESERVE_MESSAGES,
    LINE_WINDOW_MESSAGES,
    PROTOCOL_VERSION,
    SEND_WINDOW_BYTES,
    SEND_WINDOW_MESSAGES,
)

PATIENCE_FRAMES: Final = (0, 0, 32, 64)
"""How many frames may overtake a waiting one, lane by lane; the two upper lanes wait for none."""
UNTOLD_S: Final = 5.0
"""How long after its deadline the broker may still speak of a frame."""
UNTOLD_MAX: Final = 256
_STRICT: Final = (0, 1, 2, 3)
_NORMAL: Final = int(Lane.NORMAL)
_LOW: Final = int(Lane.LOW)
_RESENT: Final = int(Flag.RESENT)
_LANES: Final = tuple(Lane)
_UPPER: Final = int(Lane.HIGH)


class Outbox(Lines):
    """All lines of a node. ``up`` says whether there is a broker to send to."""

    def __init__(self) -> None:
        super().__init__()
        self.up = False
        self._seq = [0, 0, 0, 0]
        self._sent: tuple[dict[int, Frame], ...] = ({}, {}, {}, {})
        self._out_messages = 0
        self._out_bytes = 0
        self._kept: dict[tuple[int, int], Frame] = {}
        self._overtaken = [0, 0, 0, 0]
        self._impatient = False
        self._untold: list[tuple[float, int, int]] = []

    # --- sending

    @property
    def ready(self) -> bool:
        """Whether a line may have something to send."""
        return any(self._ready)

    @property
    def urgent(self) -> bool:
        """Whether something waits in the two upper lanes."""
        return bool(self._ready[0] or self._ready[1])

    def next(self) -> Frame | None:
        """The frame to send now: of the most urgent lane, line by line in turn; now and then
        of a lower one that waits."""
        if not self.up:
            return None
        shut = False
        for lane in self._turns() if self._impatient else _STRICT:
            if shut and lane > _UPPER:
                return None
            ready = self._ready[lane]
            while ready:
                line = ready[0]
                frame = self._first(line)
                if frame is None:
                    ready.popleft().queued = False
                elif frame.over:
                    line.frames.popleft()
                    self._count(frame, -1)
                elif not self._has_window(lane, frame):
                    if lane <= _UPPER or self._overtaken[lane] >= 2 * PATIENCE_FRAMES[lane]:
                        return None
                    shut = True
                    break
                elif line.out and line.out + len(frame.messages) > LINE_WINDOW_MESSAGES:
                    line.blocked = True
                    self._blocked[lane][ready.popleft()] = None
                else:
                    return frame
        return None

    def _turns(self) -> tuple[int, ...]:
        """The lanes, first the one that was overtaken too often."""
        for lane in (_NORMAL, _LOW):
            if self._overtaken[lane] >= PATIENCE_FRAMES[lane]:
                if self._ready[lane]:
                    return (lane, *(other for other in _STRICT if other != lane))
                self._overtaken[lane] = 0
        self._impatient = False
        return _STRICT

    def _overtake(self, lane: int) -> None:
        """A frame of a lane has left; those below have waited."""
        self._overtaken[lane] = 0
        for lower in (_NORMAL, _LOW):
            if lower > lane and self._ready[lower]:
                self._overtaken[lower] += 1
                if self._overtaken[lower] >= PATIENCE_FRAMES[lower]:
                    self._impatient = True

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
        self._opened(line)
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
        if len(ready) > 1 and ready[0] is line:
            ready.rotate(-1)
        if self._impatient or self._ready[_LOW] or self._ready[_NORMAL]:
            self._overtake(line.lane)

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
            line.held += 1

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
                self._let_go(lane, seq)

    def bounced(self, lane: int, seq: int) -> list[Ask]:
        """A frame came back. Returns those in it that somebody still waits for."""
        if 0 <= lane < len(self._sent):
            self._left(lane, seq)
        frame = self._let_go(lane, seq)
        return [] if frame is None else [ask for ask in frame.asks if ask.open]

    def settled(self, ask: Ask) -> None:
        """An ask has ended: its frame is let go with the last of them."""
        frame, ask.frame = ask.frame, None  # a ring of the two would wait for the collector
        if frame is None:
            self._withdrawn[ask.lane] += 1
            return
        frame.open -= 1
        if not frame.done:
            return
        lane, seq = frame.line.lane, frame.seq
        if seq in self._sent[lane]:
            self._watch(frame, lane, seq)
        elif self._let_go(lane, seq) is None:
            self._withdrawn[lane] += len(frame.messages)

    def _watch(self, frame: Frame, lane: int, seq: int) -> None:
        """Nobody waits for a frame any more that the broker has not spoken of."""
        until = max(ask.deadline for ask in frame.asks) + UNTOLD_S
        if len(self._untold) > 2 * len(self._sent[lane]) + UNTOLD_MAX:
            self._untold = [entry for entry in self._untold if entry[2] in self._sent[entry[1]]]
            heapq.heapify(self._untold)
        heapq.heappush(self._untold, (until, lane, seq))

    @property
    def untold_at(self) -> float | None:
        """When ``give_up`` may have something to do."""
        return self._untold[0][0] if self._untold else None

    def give_up(self, now: float) -> bool:
        """Frames whose time is over and that the broker never spoke of: it could not read
        them, say. True where their place in the window is free now."""
        found = False
        while self._untold and self._untold[0][0] <= now:
            _, lane, seq = heapq.heappop(self._untold)
            found = found or seq in self._sent[lane]
            self._left(lane, seq)
            self._let_go(lane, seq)
        return found

    def _let_go(self, lane: int, seq: int) -> Frame | None:
        """A frame is never to be said again."""
        frame = self._kept.pop((lane, seq), None)
        if frame is not None:
            frame.line.held -= 1
        return frame

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
        self._untold.clear()
        for frame in kept:
            frame.line.held -= 1
        self._resend(kept)

    def owner_gone(self, owner: str) -> None:
        """The process that frames were passed on to is dead: its messages are sent again, to
        whoever owns the target now."""
        theirs = [f for f in self._kept.values() if f.owner == owner]
        for frame in theirs:
            self._let_go(frame.line.lane, frame.seq)
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
