"""COMMAND_SYNC: one node of the fleet syncs the application commands, once for each set.

The digest of the set that Discord has is kept for each application, so that a fleet that
starts again with the same commands syncs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core.effects import Effects, Keep, Refuse, Reply
from broker.core.events import Asked, DigestStored, Event, NodeGone
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from shard_node.wire.bodies import CommandSync, CommandSyncReply, ErrorBody
from store.records import CommandsRecord, Durable

SYNC_MAX_S: Final = 120.0
"""A node that was elected and says nothing for so long is passed over."""
DIGEST_MAX_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Elected:
    """The node that syncs now."""

    node: str
    epoch: int
    until: float


class Commands:
    """The election, and the digest that was synced last."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._application = fleet.settings.application
        self._synced = durable.digests.get(self._application)
        self._elected: Elected | None = None

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=CommandSync() as body):
                return self._asked(ref, body, now)
            case DigestStored():
                return self._stored(event)
            case NodeGone(name=name, epoch=epoch):
                if self._is_elected(name, epoch):
                    self._elected = None
        return []

    def next_deadline(self) -> float | None:
        """None: an election that took too long is noticed when somebody asks."""
        return None

    def _asked(self, ref: Ref, body: CommandSync, now: float) -> Effects:
        if not 0 < len(body.digest) <= DIGEST_MAX_CHARS:
            text = f"a digest has 1-{DIGEST_MAX_CHARS} characters"
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", text))]
        if body.done:
            return self._done(ref, body.digest)
        if body.digest == self._synced:
            return [Reply(ref, CommandSyncReply("skip"))]
        return self._elect(ref, now)

    def _elect(self, ref: Ref, now: float) -> Effects:
        name, epoch = ref.peer.name, ref.peer.epoch
        elected = self._elected
        if elected is not None and elected.until > now and not self._is_elected(name, epoch):
            return [Reply(ref, CommandSyncReply("wait", elected.node))]
        self._elected = Elected(name, epoch, now + SYNC_MAX_S)
        return [Reply(ref, CommandSyncReply("sync", name))]

    def _done(self, ref: Ref, digest: str) -> Effects:
        if not self._is_elected(ref.peer.name, ref.peer.epoch):
            # Its broker died in between, or it was passed over: what it says is true
            # all the same, and the next node with another set syncs that.
            self._fleet.counts["command_syncs_unelected"] += 1
        else:
            self._elected = None
        self._synced = digest
        record = CommandsRecord(self._application, digest)
        return [Keep((record,), DigestStored(ref, digest))]

    def _stored(self, event: DigestStored) -> Effects:
        if not event.error:
            return [Reply(event.ref, CommandSyncReply("skip"))]
        return [Refuse(event.ref, ErrorBody("E_STORE", event.error, "retry", retryable=True))]

    def _is_elected(self, name: str, epoch: int) -> bool:
        elected = self._elected
        return elected is not None and (elected.node, elected.epoch) == (name, epoch)
