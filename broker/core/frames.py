"""A BATCH on its way through the broker: its header, its opaque body, its copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shard_node.wire.batch import Flag
from shard_node.wire.codec import encode_header
from shard_node.wire.credit import Entry
from shard_node.wire.header import Header
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import PROTOCOL_VERSION

if TYPE_CHECKING:
    from broker.core.batches import Lanes

TTL_GRAIN_S: Final = 0.005
"""A frame that goes on sooner keeps its sender's ttl as it is."""
_KEPT: Final = int(Flag.KEPT)
_LANES: Final = tuple(Lane)


class Fan:
    """How many copies of one frame still wait."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Batch:
    """A BATCH frame in the broker, on its way to one destination.

    ``head`` is as its sender wrote it, ``flags`` as it goes on; ``queue_lane`` may be another
    than the sender's by a rule. ``deadline`` 0: none. ``released``: the sender has its window
    back; ``gone``: it waits no more.
    """

    __slots__ = (
        "arrived",
        "body",
        "count",
        "deadline",
        "fan",
        "flags",
        "gone",
        "head",
        "home",
        "kept",
        "queue_lane",
        "released",
        "sender",
        "size_bytes",
    )

    def __init__(self, sender: str, head: Header, body: bytes, now: float) -> None:
        self.sender = sender
        self.head = head
        self.body = body
        self.count = head.count
        self.size_bytes = len(body)
        self.flags = head.flags
        self.kept = bool(head.flags & _KEPT)
        self.queue_lane = int(head.lane)
        self.arrived = now
        self.deadline = now + head.ttl_ms / 1000 if head.ttl_ms else 0.0
        self.fan: Fan | None = None
        self.home: Lanes | None = None
        self.released = False
        self.gone = False

    def copy(self, fan: Fan) -> Batch:
        """The same frame for another destination."""
        other = Batch(self.sender, self.head, self.body, self.arrived)
        other.flags, other.queue_lane, other.fan = self.flags, self.queue_lane, fan
        return other

    def header(self, now: float, forwarded: list[Entry] | None = None) -> bytes:
        """The header as it goes out: the true sender, what remains of the deadline, and the
        credit that it carries."""
        head = self.head
        ttl_ms = head.ttl_ms
        if ttl_ms and now - self.arrived > TTL_GRAIN_S:
            ttl_ms = max(1, round((self.deadline - now) * 1000))
        lane = head.lane if self.kept else _LANES[self.queue_lane]
        return encode_header(
            Header(
                PROTOCOL_VERSION,
                head.kind,
                head.target,
                "",
                lane,
                0,
                ttl_ms,
                self.sender,
                head.seq,
                self.count,
                self.flags,
                head.pin,
                head.low,
                head.sent_at,
                None,
                forwarded,
            )
        )
