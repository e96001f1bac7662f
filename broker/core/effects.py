"""What the broker wants done. The machine carries out the first group itself; the second
is for the shell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from broker.core.events import Event, Outcome
from broker.core.inflight import Ref
from broker.core.logtime import LogMark
from broker.core.stateport import Forgetting
from broker.core.table import Owner
from shard_node.state.log import Entry
from shard_node.wire.bodies import Body, ErrorBody


class Effect:
    """Root of the effects."""

    __slots__ = ()


Effects = list[Effect]


# --- carried out by the machine


@dataclass(frozen=True, slots=True)
class Reply(Effect):
    """Answers a request of a peer."""

    ref: Ref
    body: Body | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refuse(Effect):
    """Answers a request of a peer with an error."""

    ref: Ref
    error: ErrorBody


@dataclass(frozen=True, slots=True)
class Ask(Effect):
    """Has a node answer a request of a peer in the broker's place."""

    ref: Ref
    name: str
    epoch: int
    topic: str
    body: Body


@dataclass(frozen=True, slots=True)
class Tell(Effect):
    """Sends an event of the broker to one node's process."""

    name: str
    epoch: int
    topic: str
    body: Body


@dataclass(frozen=True, slots=True)
class Publish(Effect):
    """Sends an event to the subscribers of a topic. ``sender``: on whose behalf."""

    topic: str
    body: Body
    sender: str


@dataclass(frozen=True, slots=True)
class Share(Effect):
    """Sends an event of the broker to these peers, as to the subscribers of its topic.
    ``numbers``: what each gets as its header's correlation."""

    topic: str
    body: Body
    owners: tuple[Owner, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Emit(Effect):
    """Hands an event to all parts of the broker."""

    event: Event


@dataclass(frozen=True, slots=True)
class Keep(Effect):
    """Makes changes durable; ``then`` is emitted when they are, or with its ``error``.

    Persist, then send: whatever depends on the change hangs on ``then``.
    """

    changes: tuple[Any, ...]
    then: Outcome | None = None


@dataclass(frozen=True, slots=True)
class RetryLetters(Effect):
    """Sends dead letters again (none named: all), and tells the operator how many."""

    ref: Ref
    numbers: tuple[int, ...]


# --- carried out by the shell


@dataclass(frozen=True, slots=True)
class Commit(Effect):
    """Changes for the store's writer; it answers with Committed(token)."""

    token: int
    changes: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class KeepState(Effect):
    """Rows and records for the state's writer; it answers with StateCommitted(token).

    A row None is deleted. The shell only reads them. ``forgetting``: kept with them, where
    it is not None.
    """

    token: int
    writes: dict[bytes, bytes | None]
    entries: list[Entry]
    mark: LogMark
    forgetting: tuple[Forgetting, ...] | None = None


@dataclass(frozen=True, slots=True)
class KeepNote(Effect):
    """Bytes to be kept beside the state's rows and log, under a name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Erase(Effect):
    """Erases the payloads of these records, and keeps who is left to be forgotten; answered
    with StateCommitted(ERASED)."""

    lsns: tuple[int, ...]
    forgetting: tuple[Forgetting, ...]


@dataclass(frozen=True, slots=True)
class Backup(Effect):
    """Copies the state into ``folder`` ("": the data folder's own) and verifies the copy, beside
    all else; answered with BackedUp. ``keep`` of them stay; ``at_ms`` is what log time it is."""

    folder: str
    keep: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Trim(Effect):
    """Trims the next piece of the state's log, at most to ``up_to``; answered with
    StateCommitted(TRIMMED)."""

    up_to: int


@dataclass(frozen=True, slots=True)
class ResetState(Effect):
    """After a commit that failed: what was computed on top of it is forgotten, and the state's
    writer may take new commits."""


@dataclass(frozen=True, slots=True)
class Order(Effect):
    """A line for the supervisor."""

    line: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AskGateway(Effect):
    """Asks Discord GET /gateway/bot; one question at a time."""


@dataclass(frozen=True, slots=True)
class Log(Effect):
    """A line for the log. ``level`` is one of the names of the logging module."""

    level: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WatchProcesses(Effect):
    """Nobody reports exits any more: watch these (name, epoch, pid) and report them."""

    processes: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Quit(Effect):
    """The daemon's work is done; or (another exit code than 0) another process has to do it."""

    reason: str
    exit_code: int = 0
