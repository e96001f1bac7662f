"""What happens to the broker. Events from outside come first, those of our own last.

Times never stand in an event: whoever hands it over says what ``now`` is (seconds of
CLOCK_MONOTONIC).
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.inflight import Ref
from broker.core.keeping import LastBackup
from shard_node.wire.bodies import Body


class Event:
    """Root of the events."""

    __slots__ = ()


# --- from the socket


@dataclass(frozen=True, slots=True)
class FrameReceived(Event):
    """A frame of two parts from the peer behind ``routing_id``."""

    routing_id: bytes
    header: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class WrongParts(Event):
    """A message that has not the two parts of a frame."""

    routing_id: bytes


@dataclass(frozen=True, slots=True)
class PeerUnreachable(Event):
    """Nobody is connected under a routing id; what waited for it has been dropped."""

    routing_id: bytes


# --- from the supervisor


@dataclass(frozen=True, slots=True)
class Process:
    """A living node process, as the supervisor knows it."""

    name: str
    epoch: int
    pid: int
    index: int
    shards: tuple[int, ...]
    num_shards: int
    uptime_s: float


@dataclass(frozen=True, slots=True)
class SupervisorHello(Event):
    """The supervisor's first line: the node processes that live."""

    supervisor_pid: int
    processes: tuple[Process, ...]


@dataclass(frozen=True, slots=True)
class Spawned(Event):
    """A node's process runs."""

    name: str
    epoch: int
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed(Event):
    """A node's process could not be started."""

    name: str
    epoch: int
    error: str


@dataclass(frozen=True, slots=True)
class Exited(Event):
    """A node's process has ended and was reaped. ``tail`` are the last lines of its log."""

    name: str
    epoch: int
    pid: int
    code: int | None
    signal: int | None
    uptime_s: float = 0.0
    tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StopAsked(Event):
    """The operator wants the fleet down."""

    reason: str
    discard_sessions: bool = False


@dataclass(frozen=True, slots=True)
class SupervisorGone(Event):
    """The supervisor died: the nodes stop by themselves."""


# --- from the other ports


@dataclass(frozen=True, slots=True)
class GatewayInfo(Event):
    """Discord's answer to GET /gateway/bot. ``reset_after_s`` counts from the answer."""

    shards: int
    total: int
    remaining: int
    reset_after_s: float
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class GatewayFailed(Event):
    """GET /gateway/bot failed. ``fatal``: no retry mends it (the token is refused)."""

    code: str
    message: str
    hint: str = ""
    fatal: bool = False
    retry_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Committed(Event):
    """What was to be kept under ``token`` is durable, or (``error``) is not kept."""

    token: int
    error: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class StateCommitted(Event):
    """The state's rows under ``token`` (0 and less: not rows) are durable; or, with the ``code``
    and words of an error, they and what came after are not kept."""

    token: int
    code: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class StateSettled(Event):
    """The state's file shows all rows up to ``token``; or, with the words and the ``code`` of an
    error, it takes them not for now. They are durable all the same."""

    token: int
    error: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class BackedUp(Event):
    """The backup that was begun is there and was verified, or (``last`` None) is not."""

    last: LastBackup | None
    code: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time has passed."""


# --- our own: from one part of the broker to another


@dataclass(frozen=True, slots=True)
class Asked(Event):
    """A peer's request or event for the broker, its body decoded."""

    ref: Ref
    topic: str
    body: Body


@dataclass(frozen=True, slots=True)
class SpawnWanted(Event):
    """A node that has no process shall have one. ``again``: it had one before."""

    name: str
    again: bool


@dataclass(frozen=True, slots=True)
class StopWanted(Event):
    """Something that no restart mends: the fleet shall end."""

    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Hung(Event):
    """The event loop of a node's process does not turn, says its heartbeat."""

    name: str
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class NodeRegistered(Event):
    """A node's process has registered; ``again``: it had before."""

    name: str
    epoch: int
    again: bool


@dataclass(frozen=True, slots=True)
class NodeGone(Event):
    """A node's process is dead and reaped."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class ClientJoined(Event):
    """A program outside a bot has registered (again)."""

    name: str


@dataclass(frozen=True, slots=True)
class ClientGone(Event):
    """A client was silent for too long, or gave its place up."""

    name: str


@dataclass(frozen=True, slots=True)
class EpochStored(Event):
    """A node's next epoch is durable (or not): its process may be spawned."""

    name: str
    epoch: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class PlanStored(Event):
    """The fleet's plan is durable (or not): its nodes may be started."""

    error: str = ""


@dataclass(frozen=True, slots=True)
class InfoWanted(Event):
    """The fleet's start needs a fresh answer of GET /gateway/bot."""


@dataclass(frozen=True, slots=True)
class PermitStored(Event):
    """The ledger with this permit is durable (or not)."""

    permit: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class LeaseStored(Event):
    """A lease is durable (or not)."""

    ref: Ref
    name: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class DigestStored(Event):
    """The digest of the synced commands is durable (or not)."""

    ref: Ref
    digest: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class SuccessorWanted(Event):
    """A node shall have a second process, for the operation ``op``, that takes its shards over."""

    name: str
    op: str


@dataclass(frozen=True, slots=True)
class SuccessorSpawned(Event):
    """The supervisor has been asked for a successor, which is in ``Fleet.procs``; or (``error``)
    there will be none. One that cannot be started after all comes as Exited."""

    name: str
    epoch: int
    op: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class SuccessorStored(Event):
    """The epoch of a successor is durable (or not): it may be spawned."""

    name: str
    epoch: int
    op: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Promoted(Event):
    """A successor is its node's current process: to be said after ``Fleet.promote``.
    ``old_epoch`` is 0 where the one before is dead."""

    name: str
    old_epoch: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Given(Event):
    """Shards of a node are another's: to be said after ``Fleet.give``, for each node that had
    some."""

    source: str
    shards: tuple[int, ...]
    target: str


@dataclass(frozen=True, slots=True)
class OperationStored(Event):
    """An operation is durable as it stands (or not)."""

    op: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class StepFlipped(Event):
    """It is durable (or not) that a step's shards are its target's."""

    op: str
    step: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class FleetReadyStored(Event):
    """It is durable (or not) that this start of the fleet came to where all shards were ready."""

    start: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Forgotten(Event):
    """A user was forgotten by a record of the state's log, which is durable."""

    user: int
    lsn: int


Outcome = (
    PlanStored
    | EpochStored
    | SuccessorStored
    | PermitStored
    | LeaseStored
    | DigestStored
    | OperationStored
    | StepFlipped
    | FleetReadyStored
)
"""Events that tell how a commit went."""
