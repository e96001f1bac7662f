"""Typed bodies of the built-in topics. Fields are only ever appended, with defaults."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from shard_node.wire.limits import HEARTBEAT_INTERVAL_S


class Body(msgspec.Struct, array_like=True, frozen=True):
    """Root of the bodies: an array on the wire."""


class ShardState(enum.StrEnum):
    """States of a shard, in the words that `status --json` prints."""

    QUEUED = "queued"
    IDENTIFYING = "identifying"
    RESUMING = "resuming"
    READY = "ready"
    RELEASING = "releasing"
    """Given up, so that another process may have it."""
    DRAINING = "draining"
    LOST = "lost"
    """Closed by the bot's author, or its node stays down."""
    GONE = "gone"
    """Its process ended as it was asked to."""
    ZOMBIE = "zombie"
    DEAF = "deaf"
    PARTLY_DEAF = "partly-deaf"
    HUNG = "hung"
    DEAD = "dead"
    """Its process ended by itself."""


class ErrorBody(Body, frozen=True):
    """Body of an ERROR frame. ``code`` is stable; ``hint`` says what to do next."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    details: dict[str, Any] = {}


# --- a node and its broker


class ShardReport(Body, frozen=True):
    """One shard as its node sees it. ``latency_ms`` is -1 before the first ACK. ``phase`` is
    how far it is in the hand-over ``op`` (see shard_node.wire.handover); ``events_per_s`` what
    came of late; ``voice`` counts voice clients; ``flaw`` says why a next process will find no
    journal to RESUME from."""

    id: int
    state: ShardState
    guilds: int = 0
    latency_ms: float = -1.0
    sequence: int = 0
    phase: str = ""
    op: str = ""
    events_per_s: float = 0.0
    voice: int = 0
    flaw: str = ""


class Register(Body, frozen=True):
    """First message of a node, and again after the broker was away."""

    name: str
    epoch: int
    pid: int
    num_shards: int
    shards: tuple[ShardReport, ...]
    topics: tuple[str, ...] = ()
    disnake: str = ""
    uptime_s: float = 0.0


class Welcome(Body, frozen=True):
    """The broker's answer. ``accepted`` False means: an old epoch; end yourself.

    ``told`` counts the changes of the state that it was told of before (see HeartbeatAck).
    ``era`` is that of the state (see StateAt).
    """

    accepted: bool
    fleet: str
    broker_pid: int
    heartbeat_interval_s: float
    drain_s: float
    reason: str = ""
    told: int = 0
    era: str = ""


class Heartbeat(Body, frozen=True):
    """Once a second, from the node's heartbeat thread.

    ``loop_lag_ms`` is how long the event loop has not turned; the memory is the resident
    set; ``queue`` counts what waits in the node's outbox; ``troubles`` counts what it has
    dropped and refused since it began, by names of its own; ``cpu_s`` is the processor time
    since then; ``lingers`` counts what waits in a process that has given its shards up: views,
    modals, waiters, handlers; ``heard`` is how many seconds ago an event came last, by its type.
    """

    counter: int
    loop_lag_ms: float
    rss_bytes: int
    queue: int
    shards: tuple[ShardReport, ...]
    troubles: dict[str, int] = {}
    cpu_s: float = 0.0
    lingers: int = 0
    heard: dict[str, float] = {}


class HeartbeatAck(Body, frozen=True):
    """``registered`` False asks the node to register again (the broker is new).

    ``heartbeat_interval_s`` is the pace from now on: of many clients each beats less often.
    ``told`` is the number of the last change of the state that it was told of: who has not got
    that one after a moment missed it.
    """

    counter: int
    registered: bool
    broker_pid: int
    heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S
    told: int = 0


class PermitRequest(Body, frozen=True):
    """A node asks to IDENTIFY one shard; the reply comes when it may."""

    shard: int
    num_shards: int


class PermitGrant(Body, frozen=True):
    """May IDENTIFY now. Unused for ``use_within_s``, the permit lapses."""

    permit: int
    use_within_s: float


class IdentifySent(Body, frozen=True):
    """The IDENTIFY of a permit left ``ago_ms`` ago; the 5 s of its key count from then."""

    permit: int
    shard: int
    ago_ms: float = 0.0


class PermitReturn(Body, frozen=True):
    """A permit that will not be used: the connection failed before its IDENTIFY."""

    permit: int
    shard: int


class ShardReady(Body, frozen=True):
    """SHARD_READY: a shard's initialisation is complete."""

    shard: int
    num_shards: int
    guilds: int
    resumed: bool = False


class ShardDisconnect(Body, frozen=True):
    """SHARD_DISCONNECT: a shard's connection ended. ``code`` 0: no close code seen."""

    shard: int
    num_shards: int
    code: int = 0
    resumable: bool = True
    reason: str = ""


class NodeFatal(Body, frozen=True):
    """A node met what no restart mends, such as close code 4004."""

    code: int
    reason: str
    hint: str = ""


class NodeStop(Body, frozen=True):
    """The broker asks a node to stop gracefully."""

    reason: str
    drain_s: float
    discard_sessions: bool = False


class NodeGone(Body, frozen=True):
    """The broker tells every node that this process has ended."""

    name: str
    epoch: int


class ClientRegister(Body, frozen=True):
    """First message of a program outside a bot, and again after the broker was away.

    ``name`` is its short name: Node(name) reaches the latest client of that name.
    """

    name: str
    topics: tuple[str, ...] = ()


class LeaseRequest(Body, frozen=True):
    """Acquire or renew the lease ``name`` for ``ttl_s``, counted from the request."""

    name: str
    ttl_s: float


class LeaseReply(Body, frozen=True):
    """``holder`` is the node's name that holds the lease now."""

    granted: bool
    holder: str


class LeaseRelease(Body, frozen=True):
    """Give a lease back."""

    name: str


class CommandSync(Body, frozen=True):
    """COMMAND_SYNC: a node has this set of commands; ``digest`` is its hash.

    ``done`` False asks whether to sync, True reports that it was synced.
    """

    digest: str
    done: bool = False


class CommandSyncReply(Body, frozen=True):
    """``action`` is ``sync`` (you do it), ``wait`` (another does) or ``skip`` (done)."""

    action: str
    holder: str = ""


class Subscribe(Body, frozen=True):
    """The whole set of topics that a node now listens to."""

    topics: tuple[str, ...]


# --- the operator and the broker


class StatusRequest(Body, frozen=True):
    """Asks for what `shardctl status` shows.

    A large fleet does not fit into one body: the answer says how many ``pages`` there are,
    each with its part of the nodes and shards.
    """

    page: int = 0


class RespawnRequest(Body, frozen=True):
    """Replace the processes that hold these shards, these ``nodes``, or ``everything``.

    ``max_unavailable`` at a time; with ``abort_on_fail`` no more after one that failed.
    ``in_sequence``: the old one ends before the new one starts; ``queue``: wait for an
    operation that has the same shards, instead of being refused.
    """

    shards: tuple[int, ...]
    dry_run: bool = False
    nodes: tuple[str, ...] = ()
    everything: bool = False
    max_unavailable: int = 1
    abort_on_fail: bool = False
    drain_voice_s: float = 0.0
    in_sequence: bool = False
    queue: bool = False


class RespawnReply(Body, frozen=True):
    """``nodes`` maps each node that is replaced to all the shards it holds. ``op`` is the
    operation, empty for a dry run; ``plan`` what is known before (see OpReply)."""

    nodes: dict[str, tuple[int, ...]]
    op: str = ""
    plan: dict[str, Any] = {}


class StopRequest(Body, frozen=True):
    """Stop the fleet."""

    discard_sessions: bool = False


class StopReply(Body, frozen=True):
    """The stop has begun; ``drain_s`` bounds how long handlers may still run."""

    drain_s: float


class WhereRequest(Body, frozen=True):
    """Who owns this guild? Or, with ``what``, who gets what is sent there: ``shard:3``,
    ``node:a``, ``topic:NAME``, ``pool:NAME``; the guild is 0 then."""

    guild: int
    what: str = ""


class WhereReply(Body, frozen=True):
    """``route`` is ``formula`` or ``override``; ``node`` is None where nobody holds it.

    ``version`` is the routing table's, ``why`` the reason in words. Asked for ``what``, the
    reply names it again; ``route`` is ``registration``, ``subscriptions``, ``rule``, ``pool``
    or ``broker``, ``nodes`` the routing ids of who gets it now (``more`` are not named),
    ``shard`` -1 where it is none, ``lane`` the one it waits in, or empty for the sender's.
    """

    guild: int
    shard: int
    num_shards: int
    node: str | None
    route: str
    version: int = 0
    why: str = ""
    what: str = ""
    nodes: tuple[str, ...] = ()
    more: int = 0
    lane: str = ""


class NodesRequest(Body, frozen=True):
    """Asks which nodes the fleet is planned to have."""


class NodesReply(Body, frozen=True):
    """Each node of the plan by name, and whether a process of it is registered now."""

    nodes: tuple[tuple[str, bool], ...]


class RoutesRequest(Body, frozen=True):
    """Asks for the routing table."""


class DeadLettersRequest(Body, frozen=True):
    """Asks for the dead letters from the number ``after`` on, oldest first."""

    after: int = 0


class LettersChosen(Body, frozen=True):
    """Dead letters by number; none named: all of them."""

    numbers: tuple[int, ...] = ()


class LettersDone(Body, frozen=True):
    """How many letters were tried again or dropped; ``skipped``: their bytes are gone."""

    done: int
    skipped: int = 0
