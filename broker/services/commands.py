"""COMMAND_SYNC: one node of the fleet syncs the application commands, once for each set.

The digest of the set that Discord has is kept for each application, so that a fleet that
starts again with the same commands syncs nothing. A set that is not that of all nodes waits
until it is: while a fleet is replaced node by node, users find the commands that most of it
knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core.effects import Effects, Keep, Refuse, Reply
from broker.core.events import Asked, DigestStored, Event, NodeGone, Promoted, SupervisorHello
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from shard_node.wire.bodies import CommandSync, CommandSyncReply, ErrorBody
from store.records import CommandsRecord, Durable

SYNC_MAX_S: Final = 120.0
"""A node that was elected and says nothing for so long is passed over."""
DIGEST_MAX_CHARS: Final = 256
WARNING: Final = "commands"
NAMED_MAX: Final = 3


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
        self._digests: dict[tuple[str, int], str] = {}
        """The set of each process that has asked, or that lived before this broker: one that
        has settled by then has what was synced."""

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=CommandSync() as body):
                return self._asked(ref, body, now)
            case DigestStored():
                return self._stored(event)
            case SupervisorHello(processes=processes) if self._synced is not None:
                found = {(process.name, process.epoch): self._synced for process in processes}
                self._digests = found | self._digests
            case NodeGone(name=name, epoch=epoch):
                if self._is_elected(name, epoch):
                    self._elected = None
                self._digests.pop((name, epoch), None)
                self._warn()
            case Promoted():
                self._warn()
        return []

    def next_deadline(self) -> float | None:
        """None: an election that took too long is noticed when somebody asks."""
        return None

    def _asked(self, ref: Ref, body: CommandSync, now: float) -> Effects:
        if not 0 < len(body.digest) <= DIGEST_MAX_CHARS:
            text = f"a digest has 1-{DIGEST_MAX_CHARS} characters"
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", text))]
        asker = ref.peer.name, ref.peer.epoch
        if self._fleet.lives(*asker):
            self._digests[asker] = body.digest
        if body.done:
            return self._done(ref, body.digest)
        self._warn()
        if body.digest == self._synced:
            return [Reply(ref, CommandSyncReply("skip"))]
        other = self._with_another(body.digest, asker)
        if other:
            return [Reply(ref, CommandSyncReply("wait", other))]
        return self._elect(ref, now)

    def _with_another(self, digest: str, asker: tuple[str, int]) -> str:
        """A node whose process has another set; one that has yet to ask has none."""
        for node in self._fleet.nodes.values():
            key = node.name, node.epoch
            if key != asker and self._digests.get(key, digest) != digest:
                return node.name
        return ""

    def _warn(self) -> None:
        """Says that commands wait for the nodes of another version."""
        nodes = [node for node in self._fleet.nodes.values() if node.epoch]
        known = [(node.name, self._digests.get((node.name, node.epoch))) for node in nodes]
        fresh = [name for name, digest in known if digest not in (None, self._synced)]
        differ = fresh and len({digest for _, digest in known if digest is not None}) > 1
        text = (
            f"the application commands of {_names(fresh)} differ from those of other nodes: they "
            "are synced when all nodes run one version (shardctl respawn --all)"
        )
        self._fleet.warn(WARNING, text if differ else None)

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
        self._warn()
        record = CommandsRecord(self._application, digest)
        return [Keep((record,), DigestStored(ref, digest))]

    def _stored(self, event: DigestStored) -> Effects:
        if not event.error:
            return [Reply(event.ref, CommandSyncReply("skip"))]
        return [Refuse(event.ref, ErrorBody("E_STORE", event.error, "retry", retryable=True))]

    def _is_elected(self, name: str, epoch: int) -> bool:
        elected = self._elected
        return elected is not None and (elected.node, elected.epoch) == (name, epoch)


def _names(nodes: list[str]) -> str:
    """
    >>> _names(["a"]), _names(["a", "b", "c", "d", "e"])
    ('node a', 'nodes a, b, c and 2 more')
    """
    shown, more = ", ".join(nodes[:NAMED_MAX]), len(nodes) - NAMED_MAX
    return f"node{'s' if len(nodes) > 1 else ''} {shown}{f' and {more} more' if more > 0 else ''}"
