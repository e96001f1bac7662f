"""What goes out together: frames of messages for one target and lane, and their lines. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from shard_node.peer.asks import Ask
from shard_node.wire.batch import Flag, Message
from shard_node.wire.limits import TTL_MAX_MS
from shard_node.wire.targets import Target, Topic

LOOK_MESSAGES: Final = 16
LOOK_BYTES: Final = 1024
"""An open batch is counted as something that waits from this size on; below, its line is."""
_KEPT: Final = int(Flag.KEPT)
_ANSWERS: Final = int(Flag.KEPT | Flag.ANSWERS)
_RESENT: Final = int(Flag.RESENT)


class Frame:
    """Messages of one line. ``asks`` are those that somebody waits for, ``open`` counts them;
    ``others`` counts the rest, events or answers."""

    __slots__ = ("asks", "body", "flags", "line", "messages", "open", "others", "owner", "pin",
                 "seq", "size")  # fmt: skip

    def __init__(self, line: Line, messages: list[Message], asks: list[Ask], size: int) -> None:
        self.line, self.messages, self.asks, self.size = line, messages, asks, size
        self.open = len(asks)
        self.others = len(messages) - len(asks)
        self.flags = 0
        if line.kept:
            self.flags = _KEPT if asks else _ANSWERS
        self.pin = self.owner = ""
        self.seq = 0
        self.body = b""

    @property
    def over(self) -> bool:
        """Whether nobody wants it any more."""
        return self.open == 0 and self.others == 0

    @property
    def done(self) -> bool:
        """Of one that has left the broker: whether it is never to be sent again."""
        return self.open == 0 and (self.others == 0 or bool(self.owner))


class Line:
    """What waits for one target in one lane: closed frames, and the batch that is open.

    ``queued``: the line has its place among those that have something to send, or waits for
    its window (``blocked``). ``waiting`` messages are in its frames, ``out`` are at the broker,
    ``held`` frames there or beyond may have to be said again.

    The outbox looks at the open batch when it has ``look`` messages or ``look_bytes``;
    ``counted`` and ``counted_bytes`` of it are among what waits.
    """

    __slots__ = ("asks", "batch", "blocked", "counted", "counted_bytes", "frames", "held", "kept",
                 "lane", "look", "look_bytes", "out", "queued", "size", "target", "topic",
                 "waiting")  # fmt: skip

    def __init__(self, target: Target, lane: int) -> None:
        self.target, self.lane = target, lane
        self.kept = not isinstance(target, Topic)
        self.topic = target.name if isinstance(target, Topic) else ""
        self.frames: deque[Frame] = deque()
        self.batch: list[Message] = []
        self.asks: list[Ask] = []
        self.size = self.waiting = self.out = self.held = 0
        self.counted = self.counted_bytes = 0
        self.look, self.look_bytes = LOOK_MESSAGES, LOOK_BYTES
        self.queued = self.blocked = False


def withdraw(line: Line) -> None:
    """Take out of the open batch what nobody waits for any more."""
    gone = {id(ask.message) for ask in line.asks if not ask.open}
    if gone:
        line.batch = [message for message in line.batch if id(message) not in gone]
        line.asks = [ask for ask in line.asks if ask.open]
        line.size = sum(len(message.body) for message in line.batch)


def again(frame: Frame) -> Frame | None:
    """The part of a frame that is to be said again; None where all of it was heard."""
    passed_on = bool(frame.owner)
    asks = [ask for ask in frame.asks if ask.open and not (passed_on and ask.is_request)]
    awaited = {id(ask.message) for ask in frame.asks}
    answers = [] if passed_on else [m for m in frame.messages if id(m) not in awaited]
    wanted = {id(ask.message) for ask in asks} | {id(message) for message in answers}
    messages = [message for message in frame.messages if id(message) in wanted]
    if not messages:
        return None
    found = Frame(frame.line, messages, asks, sum(len(m.body) for m in messages))
    found.flags |= _RESENT
    found.pin = frame.owner or frame.pin
    for ask in asks:
        ask.frame = found
    return found


def ttl_ms(frame: Frame, now: float) -> int:
    """What remains of the longest deadline in a frame; 0 where a message has none."""
    asks = frame.asks
    if not asks or len(asks) < len(frame.messages):
        return 0
    latest = asks[0].deadline if len(asks) == 1 else max(ask.deadline for ask in asks)
    left_ms = int((latest - now) * 1000)
    if left_ms < 1:
        return 1
    return left_ms if left_ms < TTL_MAX_MS else TTL_MAX_MS
