"""What senders hear from the broker: which frames have left, and which come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from broker.core.frames import Batch
from broker.core.queues import Frame, Outbox, Put
from shard_node.wire import identity
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.credit import Entry, Forwarded
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import CREDIT_TELL_MESSAGES, CREDIT_TELL_S, PROTOCOL_VERSION
from shard_node.wire.targets import BROKER, Node

CREDITS_PER_FRAME: Final = 4096
CREDITS_KEPT_MAX: Final = 65_536
"""Entries for a sender that reads nothing; honest ones stay within their window."""
CONTROL_FRAMES_MAX: Final = 64
"""A peer behind so many control frames hears of its credit when it has read them."""
CARRIED_MAX: Final = 16
"""Entries in the header of a BATCH: with the longest names they stay far within its limit."""
CREDIT_HEADER: Final = encode_header(
    Header(PROTOCOL_VERSION, Kind.CREDIT, BROKER, "", Lane.CONTROL)
)


class Owed:
    """What one sender has not been told yet, ``since`` when."""

    __slots__ = ("entries", "messages", "since")

    def __init__(self, since: float) -> None:
        self.entries: list[Entry] = []
        self.messages = 0
        self.since = since


class Senders:
    """Credit that waits for a BATCH to carry it, or is due; and bounces. Shares the control
    outbox."""

    def __init__(self, counts: Counter[str], outbox: Outbox) -> None:
        self._counts = counts
        self._outbox = outbox
        self._owed: dict[str, Owed] = {}  # in the order in which they are due
        self._many: dict[str, None] = {}
        self.now = 0.0
        """The time, as whoever drives it says now and then."""

    def __len__(self) -> int:
        return len(self._owed)

    def release(self, batch: Batch, owner: str) -> None:
        """A frame has left for ``owner``; or (empty) is stuck, dropped or back.

        A kept frame that was stuck is told of again when it has left, so that its sender
        knows who has it. Of copies the last one counts.
        """
        fan = batch.fan
        if fan is not None:
            if batch.released:
                return
            fan.left -= 1
            batch.released = True
            if fan.left:
                return
            owner = ""
        elif batch.released and not (owner and batch.kept):
            return
        batch.released = True
        owed = self._owed.get(batch.sender)
        if owed is None:
            owed = self._owed[batch.sender] = Owed(self.now)
        if len(owed.entries) < CREDITS_KEPT_MAX and batch.head.seq > 0:
            owed.entries.append((batch.head.lane, batch.head.seq, owner))
            owed.messages += batch.count
            if owed.messages >= CREDIT_TELL_MESSAGES:
                self._many[batch.sender] = None

    def bounce(self, batch: Batch, error: ErrorBody) -> None:
        """A kept frame goes back; nobody waits behind a dead letter."""
        if identity.is_letter(batch.sender):
            return
        self._counts["bounced"] += 1
        head = batch.head
        target = Node(batch.sender.partition("#")[0])
        header = Header(PROTOCOL_VERSION, Kind.BOUNCE, target, "", head.lane, seq=max(0, head.seq))
        frame = Frame(encode_header(header), encode_body(error), Kind.BOUNCE)
        if self._outbox.put(batch.sender.encode(), head.lane, frame) is not Put.QUEUED:
            self._counts["bounces_lost"] += 1

    def carried(self, sender: str) -> list[Entry] | None:
        """What the header of a BATCH to ``sender`` may carry; ``forget`` where it went."""
        owed = self._owed.get(sender)
        if owed is None or len(owed.entries) > CARRIED_MAX:
            return None
        return owed.entries

    def due(self, now: float) -> list[tuple[str, bytes]]:
        """Takes out what can wait no longer: senders with the bodies of their CREDIT frames."""
        senders = dict(self._many)
        for sender, owed in self._owed.items():
            if owed.since > now - CREDIT_TELL_S:
                break
            senders[sender] = None
        if not senders:
            return []
        if len(self._outbox):  # what waits behind control frames grows no second queue
            senders = {s: None for s in senders if self._takes(s) or self._put_off(s, now)}
        return self._told(senders)

    def _put_off(self, sender: str, now: float) -> bool:
        self._many.pop(sender, None)
        owed = self._owed.pop(sender)
        owed.since = now
        self._owed[sender] = owed
        return False

    def _takes(self, sender: str) -> bool:
        return self._outbox.depth(sender.encode()) < CONTROL_FRAMES_MAX

    def next_deadline(self) -> float | None:
        """When somebody has to be told at the latest."""
        if self._many:
            return 0.0
        for owed in self._owed.values():
            return owed.since + CREDIT_TELL_S
        return None

    def flush(self) -> None:
        """Puts all credit into the outbox, before whatever is put there next."""
        for sender, body in self._told([s for s in self._owed if self._takes(s)]):
            self.queue(sender.encode(), body)

    def queue(self, routing_id: bytes, body: bytes) -> None:
        """A CREDIT frame that waits with the other control frames of its peer."""
        frame = Frame(CREDIT_HEADER, body, Kind.CREDIT)
        if self._outbox.put(routing_id, Lane.CONTROL, frame) is not Put.QUEUED:
            self._counts["credits_lost"] += 1

    def forget(self, sender: str) -> None:
        """A sender is dead, or told."""
        self._owed.pop(sender, None)
        if self._many:
            self._many.pop(sender, None)

    def _told(self, senders: Iterable[str]) -> list[tuple[str, bytes]]:
        found = []
        for sender in senders:
            entries = self._owed[sender].entries
            self.forget(sender)
            if identity.is_letter(sender):
                continue
            for start in range(0, len(entries), CREDITS_PER_FRAME):
                part = entries[start : start + CREDITS_PER_FRAME]
                found.append((sender, encode_body(Forwarded(part))))
        return found
