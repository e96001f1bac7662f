"""What is known of a hand-over of shards, and what can be done about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple

from shard_node.wire.handover import Phase


class State(enum.StrEnum):
    """What the transfer waits for."""

    WARMING = "warming"
    VOICE = "voice"
    ARMING = "arming"
    REARMING = "rearming"
    RELEASING = "releasing"
    TAKING = "taking"
    SETTLING = "settling"
    FLIPPING = "flipping"
    SETTLED = "settled"
    UNDOING = "undoing"
    ENDED = "ended"


class Flipped(enum.Enum):
    """Whether it is durable that the target has the shards."""

    NO = 0
    ASKED = 1
    YES = 2


class Facts(NamedTuple):
    """What is known now. Phases are those of this operation, for each shard; none at all: the
    process has not reported to this broker. ``target_due``: it should be ready by now;
    ``permit``: it waits for one."""

    source_lives: bool
    target_lives: bool
    source: Mapping[int, Phase]
    target: Mapping[int, Phase]
    voice: int = 0
    target_due: bool = False
    permit: bool = False
    flipped: Flipped = Flipped.NO


class Arm(NamedTuple):
    """Tell the target to be ready. ``source`` "": there is none any more."""

    shards: tuple[int, ...]
    source: str


class Release(NamedTuple):
    """Tell the source to give up."""

    shards: tuple[int, ...]


class Disarm(NamedTuple):
    """Tell the target to let go."""

    shards: tuple[int, ...]
    reason: str


class Settle(NamedTuple):
    """Tell the source to take nothing back."""

    shards: tuple[int, ...]


class Kill(NamedTuple):
    """Kill ``source`` or ``target``: it does not do what it is told."""

    who: str
    reason: str


class Flip(NamedTuple):
    """Make it durable that the target has these shards."""

    shards: tuple[int, ...]


class End(NamedTuple):
    """It is over: ``done``, ``failed`` (nothing was given up) or ``reverted``."""

    state: str
    reason: str


Command = Arm | Release | Disarm | Settle | Kill | Flip | End

ARMED: Final = frozenset({Phase.ARMED, Phase.TAKING, Phase.HELD})
GIVEN_UP: Final = frozenset({Phase.RELEASING, Phase.RELEASED, Phase.TAKING})
"""Phases of a source that has not got its shard, and means to have it back (TAKING: has it,
and RESUMEs)."""


def leftover(phase: Phase, *, owns: bool) -> type[Disarm | Settle] | None:
    """What a process is told that reports a phase of an operation that is over. ``owns``:
    the shard is its own by the records. It may have heard nothing for long."""
    if owns:
        return None
    if phase in ARMED or phase is Phase.RETAKEN:
        return Disarm
    return Settle if phase in GIVEN_UP else None
