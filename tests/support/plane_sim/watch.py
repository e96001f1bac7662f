"""Credit as it can be seen on the wire, with the declared limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from shard_node.wire import limits
from shard_node.wire.batch import Flag
from shard_node.wire.codec import decode_body, decode_header
from shard_node.wire.credit import Entry, Forwarded, Handled
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.topics import CLIENT_REGISTER, REGISTER
from tests.support.plane_sim.net import Network, Parts
from tests.support.plane_sim.world import World

START_WINDOW_MESSAGES = 256
"""shard-protocol(7): until the first CREDIT of a receiver."""
_LONG_ARRAY = 0xDC
"""The first byte of a header with more than 15 fields; its length follows in two bytes."""
_WATCHED = frozenset({int(Kind.REPLY), int(Kind.CREDIT), int(Kind.BATCH), int(Kind.BOUNCE)})


def kind_of(head: bytes) -> int:
    """The kind in a header, without decoding all of it."""
    return head[4 if head[0] == _LONG_ARRAY else 2]


class Receiver:
    """What a peer was sent since its registration, and what it gave back."""

    __slots__ = ("handled", "handled_bytes", "lost", "lost_bytes", "sent", "sent_bytes", "window",
                 "window_bytes")  # fmt: skip

    def __init__(self) -> None:
        self.sent = self.sent_bytes = self.handled = self.handled_bytes = 0
        self.lost = self.lost_bytes = 0
        self.window, self.window_bytes = START_WINDOW_MESSAGES, limits.CREDIT_MAX_BYTES


class Sender:
    """A peer's frames that have not left the broker, as far as it was told."""

    __slots__ = ("messages", "out", "size_bytes")

    def __init__(self) -> None:
        self.out: dict[tuple[int, int], tuple[int, int]] = {}
        self.messages = self.size_bytes = 0

    def told(self, entries: list[Entry]) -> None:
        """These have left."""
        for lane, seq, _ in entries:
            count, size = self.out.pop((lane, seq), (0, 0))
            self.messages -= count
            self.size_bytes -= size


class Watch:
    """Sees every frame at the moment when its sender or its reader has it in hand."""

    def __init__(self, world: World, net: Network, registering: Callable[[str], None]) -> None:
        self.world, self.registering = world, registering
        self.receivers: dict[bytes, Receiver] = {}
        self.senders: dict[bytes, Sender] = {}
        self.counts: Counter[str] = Counter()
        self._dead: set[bytes] = set()
        net.got_up, net.got_down = self._got_up, self._got_down
        net.sent_up, net.sent_down = self._sent_up, self._sent_down
        net.unreachable = self._unreachable

    def forget(self) -> None:
        """The next broker counts from nothing."""
        self.receivers.clear()

    def gone(self, identity: bytes) -> None:
        """A peer's process is dead."""
        self._dead.add(identity)
        self.receivers.pop(identity, None)
        self.senders.pop(identity, None)

    def open(self) -> list[str]:
        """What is still out when all should be calm."""
        found = [
            f"{i.decode()} has {r.sent - r.handled} messages in its window"
            for i, r in self.receivers.items()
            if r.sent != r.handled
        ]
        return found + [
            f"{i.decode()} waits to hear of {list(s.out)[:5]}"
            for i, s in self.senders.items()
            if s.out
        ]

    # --- the broker's side

    def _sent_down(self, identity: bytes, parts: Parts) -> None:
        kind = kind_of(parts[0])
        if kind not in _WATCHED or identity in self._dead:
            return
        head = decode_header(parts[0])
        self.world.note(f"-> {identity.decode()} {kind} {head.topic} {head.sender} {head.seq}")
        if kind == Kind.BOUNCE:
            self.counts["bounced"] += 1
        elif kind == Kind.BATCH:
            self.counts["resent"] += bool(head.flags & Flag.RESENT)
            self.counts["rerouted"] += bool(head.flags & Flag.REROUTED)
            self._credit_spent(identity, head.lane, head.count, len(parts[1]))

    def _credit_spent(self, identity: bytes, lane: int, count: int, size: int) -> None:
        self.counts["frames"] += 1
        peer = self.receivers.get(identity)
        if peer is None:
            self.world.fault(f"{identity.decode()} gets a BATCH and is not registered")
            return
        out, out_bytes = peer.sent - peer.handled, peer.sent_bytes - peer.handled_bytes
        # A frame goes on top of a quarter of the window, however large it is.
        window = max(peer.window, peer.window // 4 + limits.BATCH_MAX_MESSAGES)
        window += limits.CREDIT_RESERVE_MESSAGES * (lane <= Lane.HIGH)
        too_large = out_bytes > peer.window_bytes + limits.BATCH_MAX_BYTES
        if out and (out + count > window or too_large):
            self.world.fault(
                f"{identity.decode()} has {out} of {window} and gets {count} messages more"
            )
        peer.sent += count
        peer.sent_bytes += size

    def _got_up(self, identity: bytes, parts: Parts, late: bool) -> None:
        """``late``: over a connection that has broken since, maybe after its successor's first."""
        kind, peer = kind_of(parts[0]), self.receivers.get(identity)
        if kind == Kind.REQUEST:
            # The Welcome may be lost: what counts is what the broker knows.
            if decode_header(parts[0]).topic in (REGISTER, CLIENT_REGISTER):
                self.receivers[identity] = Receiver()
                self.registering(identity.decode().partition("#")[0])
            return
        if peer is None:
            return
        if kind == Kind.CREDIT:
            self._credit_given(identity, peer, decode_body(parts[1], Handled), late)
        elif kind == Kind.BATCH:
            handled = decode_header(parts[0]).handled
            if handled is not None:
                self._credit_given(identity, peer, handled, late)

    def _credit_given(self, identity: bytes, peer: Receiver, handled: Handled, late: bool) -> None:
        messages, size = handled.messages + peer.lost, handled.size_bytes + peer.lost_bytes
        if messages > peer.sent and not peer.lost and not late:
            self.world.fault(
                f"{identity.decode()} gives credit for {messages} of {peer.sent} messages"
            )
        peer.handled = min(max(messages, peer.handled), peer.sent)
        peer.handled_bytes = min(max(size, peer.handled_bytes), peer.sent_bytes)
        if peer.handled == peer.sent:
            peer.handled_bytes = peer.sent_bytes
        low, high = limits.CREDIT_MIN_MESSAGES, limits.CREDIT_MAX_MESSAGES
        peer.window = min(max(handled.window_messages, low), high)
        low, high = limits.BATCH_MAX_BYTES, limits.CREDIT_MAX_BYTES
        peer.window_bytes = min(max(handled.window_bytes, low), high)

    def _unreachable(self, identity: bytes) -> None:
        peer = self.receivers.get(identity)
        if peer is not None:
            peer.lost += peer.sent - peer.handled
            peer.lost_bytes += peer.sent_bytes - peer.handled_bytes
            peer.handled, peer.handled_bytes = peer.sent, peer.sent_bytes

    # --- the peers' side

    def _sent_up(self, identity: bytes, parts: Parts) -> None:
        if kind_of(parts[0]) != Kind.BATCH:
            return
        head, size = decode_header(parts[0]), len(parts[1])
        self.world.note(f"{identity.decode()} -> {head.target} {head.count} {head.seq}")
        peer = self.senders.setdefault(identity, Sender())
        upper = head.lane <= Lane.HIGH
        window = limits.SEND_WINDOW_MESSAGES + limits.CREDIT_RESERVE_MESSAGES * upper
        too_many = peer.messages + head.count > window
        # The window is in bytes of bodies; a frame is a little more.
        too_large = not upper and peer.size_bytes > limits.SEND_WINDOW_BYTES * 1.5
        if peer.out and (too_many or too_large):
            self.world.fault(f"{identity.decode()} sends beyond its window: {peer.messages}")
        peer.out[head.lane, head.seq] = (head.count, size)
        peer.messages += head.count
        peer.size_bytes += size

    def _got_down(self, identity: bytes, parts: Parts) -> None:
        kind, peer = kind_of(parts[0]), self.senders.get(identity)
        if kind not in _WATCHED or peer is None:
            return
        if kind == Kind.CREDIT:
            peer.told(decode_body(parts[1], Forwarded).frames)
            return
        head = decode_header(parts[0])
        if kind == Kind.BATCH:
            peer.told(head.forwarded or [])
        elif kind == Kind.BOUNCE:
            peer.told([(head.lane, head.seq, "")])
        elif head.topic in (REGISTER, CLIENT_REGISTER):
            self.senders[identity] = Sender()
            self.registering(identity.decode().partition("#")[0])
