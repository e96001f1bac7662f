"""What is kept, as typed records, and the key that each has.

Times are seconds of CLOCK_MONOTONIC and mean something within one boot only, so every
record with a time carries the boot's id. Fields are only ever appended, with defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

SCHEMA: Final = 1


class Record(msgspec.Struct, array_like=True, frozen=True):
    """Root of the records: an array on disk."""


class EpochRecord(Record, frozen=True):
    """The last epoch given to the node ``name``; durable before the process is spawned."""

    name: str
    epoch: int
    restarts: int = 0


class PlanNode(Record, frozen=True):
    """A node of the plan: its stable name, its place, its shards."""

    name: str
    index: int
    shards: tuple[int, ...]


class PlanRecord(Record, frozen=True):
    """Who holds which shards. ``shaped``: by moves or a scale, in a fleet whose settings wanted
    so many nodes (0: auto); -1: it is as it was planned."""

    num_shards: int
    nodes: tuple[PlanNode, ...]
    shaped: int = -1


class PermitRecord(Record, frozen=True):
    """A permit that was granted and of whose IDENTIFY nothing was heard yet."""

    permit: int
    shard: int
    node: str
    epoch: int
    lapses_at_s: float


class LedgerRecord(Record, frozen=True):
    """The IDENTIFY ledger.

    ``remaining`` of ``total`` session starts are left until ``reset_at_s``; ``free_at_s``
    maps a rate-limit key to the moment from which it may be used again. All of it holds for
    one Discord application (``application``, see the broker's Settings).
    """

    application: str
    boot_id: str
    total: int
    remaining: int
    reset_at_s: float
    max_concurrency: int
    next_permit: int
    free_at_s: dict[int, float]
    permits: tuple[PermitRecord, ...] = ()


class CommandsRecord(Record, frozen=True):
    """The set of commands that Discord has for an application."""

    application: str
    digest: str


class LeaseRecord(Record, frozen=True):
    """Who holds the lease ``name``, and until when."""

    name: str
    node: str
    epoch: int
    expires_at_s: float
    boot_id: str


class StepRecord(Record, frozen=True):
    """One process's part of an operation. ``target``: the node that gets the shards, which
    is ``node`` itself where it is replaced; the epochs are those of the two processes.
    ``flipped``: the shards are the target's; ``undone``: it was cancelled and goes back.
    ``told``: what was said of shards, (shard, milliseconds without handling, whether it had to
    IDENTIFY)."""

    node: str
    shards: tuple[int, ...]
    state: str = "waiting"
    old_epoch: int = 0
    new_epoch: int = 0
    target: str = ""
    target_epoch: int = 0
    reason: str = ""
    flipped: bool = False
    undone: bool = False
    told: tuple[tuple[int, float, bool], ...] = ()


class OperationRecord(Record, frozen=True):
    """Something that takes long: a respawn, a move. ``id`` is ``op-`` and the number."""

    id: str
    kind: str
    state: str
    args: dict[str, Any]
    steps: tuple[StepRecord, ...]
    number: int
    started_ms: int
    boot_id: str
    reason: str = ""


class GuildRecord(Record, frozen=True):
    """A guild that was given away: to the node ``node``, or to who holds ``shard`` (-1: to a
    node). ``label`` is the process that has it, "" where it is at home for now; ``version`` the
    last that was said of it; ``given_back``: how often its process died."""

    guild: int
    version: int
    node: str = ""
    shard: int = -1
    label: str = ""
    by: str = "operator"
    since_ms: int = 0
    given_back: int = 0


class FleetReadyRecord(Record, frozen=True):
    """The last start of the fleet of which all shards were ready at one time."""

    start: str


class Forget(NamedTuple):
    """Removes the record of this type and name."""

    kind: type[Record]
    name: str


Change = Record | Forget


class Table(NamedTuple):
    """Where records of a type live. ``name_of`` is None where there is but one."""

    prefix: bytes
    name_of: Callable[[Any], str] | None


TABLES: Final[dict[type[Record], Table]] = {
    EpochRecord: Table(b"epoch/", lambda record: record.name),
    PlanRecord: Table(b"plan", None),
    LedgerRecord: Table(b"ledger", None),
    CommandsRecord: Table(b"commands/", lambda record: record.application),
    LeaseRecord: Table(b"lease/", lambda record: record.name),
    OperationRecord: Table(b"operation/", lambda record: record.id),
    FleetReadyRecord: Table(b"ready", None),
    GuildRecord: Table(b"guild/", lambda record: str(record.guild)),
}


@dataclass(slots=True)
class Durable:
    """All that the store holds, as read at the start."""

    epochs: dict[str, EpochRecord] = field(default_factory=dict)
    plan: PlanRecord | None = None
    ledger: LedgerRecord | None = None
    digests: dict[str, str] = field(default_factory=dict)
    leases: dict[str, LeaseRecord] = field(default_factory=dict)
    operations: dict[str, OperationRecord] = field(default_factory=dict)
    fleet_ready: str = ""
    guilds: dict[int, GuildRecord] = field(default_factory=dict)


_encoder = msgspec.msgpack.Encoder()
_decoders = {kind: msgspec.msgpack.Decoder(kind) for kind in TABLES}


def key_of(change: Change) -> bytes:
    """The key that a change touches. Raises KeyError for a type that has no table."""
    kind = change.kind if isinstance(change, Forget) else type(change)
    table = TABLES[kind]
    if table.name_of is None:
        return table.prefix
    name = change.name if isinstance(change, Forget) else table.name_of(change)
    return table.prefix + name.encode()


def value_of(record: Record) -> bytes:
    """The record's bytes."""
    return _encoder.encode(record)


def read_record(key: bytes, value: bytes) -> Record | None:
    """The record under ``key``; None for a key of no table of ours.

    Raises msgspec.MsgspecError or ValueError where the value is not what the table holds.
    """
    for kind, table in TABLES.items():
        if key == table.prefix or (table.name_of is not None and key.startswith(table.prefix)):
            return _decoders[kind].decode(value)
    return None


def collect(durable: Durable, record: Record) -> None:
    """Puts a record in its place in ``durable``."""
    match record:
        case EpochRecord():
            durable.epochs[record.name] = record
        case PlanRecord():
            durable.plan = record
        case LedgerRecord():
            durable.ledger = record
        case CommandsRecord():
            durable.digests[record.application] = record.digest
        case LeaseRecord():
            durable.leases[record.name] = record
        case OperationRecord():
            durable.operations[record.id] = record
        case FleetReadyRecord():
            durable.fleet_ready = record.start
        case GuildRecord():
            durable.guilds[record.guild] = record
        case _:
            msg = f"no place for {type(record).__name__}"
            raise TypeError(msg)
