"""The ROUTER socket's traffic: what waits for a peer stays in its lanes, where priority works."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from broker.core.batches import Destination
from broker.core.dataplane import DataPlane
from broker.core.events import Event, PeerUnreachable
from broker.core.frames import Batch
from broker.core.queues import Outbox
from broker.core.senders import CREDIT_HEADER, Senders
from broker.ports.listener import Listener, PeerGone, Take

SEND_BATCH: Final = 64
"""Frames for one destination before the next has its turn."""
BLOCKED_RETRY_S: Final = 0.05
"""A safety net: a peer that takes frames again wakes the socket by itself."""


class RouterPort:
    """Binds ``path``. ``blocked`` says that some peer did not take all that waits for it."""

    def __init__(self, path: Path) -> None:
        self._listener = Listener(path)
        self.watch, self.unwatch = self._listener.watch, self._listener.unwatch
        self.wait = self._listener.wait
        self.blocked = False

    def receive(self, take: Take) -> None:
        """Hands over what has come: see ``Listener.receive``."""
        self._listener.receive(take)

    def send(self, outbox: Outbox) -> list[Event]:
        """Sends control frames that the peers take. Sets ``blocked`` where some took not all."""
        lost: list[Event] = []
        for routing_id in outbox.waiting():
            try:
                self._send_to(routing_id, outbox)
            except PeerGone:
                lost.append(PeerUnreachable(routing_id))
        return lost

    def _send_to(self, routing_id: bytes, outbox: Outbox) -> None:
        send = self._listener.send
        for _ in range(SEND_BATCH):
            head = outbox.head(routing_id)
            if head is None:
                return
            lane, frame = head
            if not send(routing_id, frame.header, frame.body):
                self.blocked = True
                return
            outbox.sent(routing_id, lane)

    def express(self, plane: DataPlane, now: float) -> list[Event]:
        """Sends the frames that may go at once."""
        lost: list[Event] = []
        for destination, batch in plane.express:
            if destination.frames:  # one before it did not go
                plane.delayed(destination, batch, now)
                continue
            try:
                if self._put(destination, batch, plane.senders, now):
                    plane.went(destination, batch)
                    continue
            except PeerGone:
                lost.append(PeerUnreachable(destination.routing_id))
            plane.delayed(destination, batch, now)
        plane.express.clear()
        return lost

    def forward(self, plane: DataPlane, outbox: Outbox, now: float) -> list[Event]:
        """Sends BATCH frames for which there is credit; a peer's control frames go before."""
        lost: list[Event] = []
        for destination in plane.ready():
            if outbox.depth(destination.routing_id):
                continue
            try:
                self._forward_to(destination, plane, now)
            except PeerGone:
                lost.append(PeerUnreachable(destination.routing_id))
        return lost

    def _forward_to(self, destination: Destination, plane: DataPlane, now: float) -> None:
        following, senders = destination.next, plane.senders
        for _ in range(SEND_BATCH):
            batch = following()
            if batch is None:
                plane.rest(destination)
                return
            if not self._put(destination, batch, senders, now):
                return
            plane.sent(destination, batch)

    def _put(self, destination: Destination, batch: Batch, senders: Senders, now: float) -> bool:
        """False where it has not gone. Raises PeerGone."""
        text = destination.text
        credit = senders.carried(text)
        if self._listener.send(destination.routing_id, batch.header(now, credit), batch.body):
            if credit is not None:
                senders.forget(text)
            return True
        self.blocked = True
        return False

    def tell(self, senders: Senders, outbox: Outbox, now: float) -> list[Event]:
        """Sends senders the credit that is due; behind their control frames, where some wait."""
        lost: list[Event] = []
        for sender, body in senders.due(now):
            routing_id = sender.encode()
            try:
                if not outbox.depth(routing_id):
                    if self._listener.send(routing_id, CREDIT_HEADER, body):
                        continue
                    self.blocked = True
            except PeerGone:
                lost.append(PeerUnreachable(routing_id))
                continue
            senders.queue(routing_id, body)
        return lost

    def close(self) -> None:
        """Closes the socket; what was handed to it and not taken is lost."""
        self._listener.close()
