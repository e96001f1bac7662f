"""What senders hear from the broker: which frames have left, and which come back."""

from __future__ import annotations

from collections import Counter
from typing import Final

from broker.core.batches import Batch
from broker.core.queues import Frame, Outbox, Put
from shard_node.wire import identity
from shard_node.wire.batch import Forwarded
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import PROTOCOL_VERSION
from shard_node.wire.targets import BROKER, Node

CREDITS_PER_FRAME: Final = 4096
CREDITS_KEPT_MAX: Final = 65_536
"""Entries for a sender that reads nothing; honest ones stay within their window."""
CREDIT_HEADER: Final = encode_header(
    Header(PROTOCOL_VERSION, Kind.CREDIT, BROKER, "", Lane.CONTROL)
)

Entry = tuple[int, int, str]


class Senders:
    """Credit that is collected over a loop's turn, and bounces. Shares the control outbox."""

    def __init__(self, counts: Counter[str], outbox: Outbox) -> None:
        self._counts = counts
        self._outbox = outbox
        self._entries: dict[str, list[Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

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
        entries = self._entries.get(batch.sender)
        if entries is None:
            entries = self._entries[batch.sender] = []
        if len(entries) < CREDITS_KEPT_MAX and batch.head.seq > 0:
            entries.append((batch.head.lane, batch.head.seq, owner))

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

    def told(self) -> list[tuple[str, bytes]]:
        """Takes the credit out: senders with the bodies of their CREDIT frames."""
        found = []
        for sender, entries in self._entries.items():
            if identity.is_letter(sender):
                continue
            for start in range(0, len(entries), CREDITS_PER_FRAME):
                part = entries[start : start + CREDITS_PER_FRAME]
                found.append((sender, encode_body(Forwarded(part))))
        self._entries = {}
        return found

    def flush(self) -> None:
        """Puts the credit into the outbox, before whatever is put there next."""
        for sender, body in self.told():
            self.queue(sender.encode(), body)

    def queue(self, routing_id: bytes, body: bytes) -> None:
        """A CREDIT frame that waits with the other control frames of its peer."""
        frame = Frame(CREDIT_HEADER, body, Kind.CREDIT)
        if self._outbox.put(routing_id, Lane.CONTROL, frame) is not Put.QUEUED:
            self._counts["credits_lost"] += 1

    def forget(self, sender: str) -> None:
        """A sender is dead."""
        self._entries.pop(sender, None)
