"""One guild on its way from a process to another. Pure: what the processes report goes in, what
they are to be told comes out, again each second until the reports show it.

The feeder holds the guild's shard. The owner handles the guild's events now and the target shall:
each of them may be the feeder itself, to which the guild is then at home. Before the flip, which
is a record in the store, everything is undone; after it, everything is completed.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from broker.core.handover import Flipped
from broker.core.limits import GuildLimits
from broker.core.operation import OpState
from shard_node.wire import topics
from shard_node.wire.bodies import Body
from shard_node.wire.migration import (
    GuildAt,
    GuildDrop,
    GuildHold,
    GuildMoved,
    GuildPhase,
    GuildRelease,
    GuildRoute,
    GuildTake,
)


class Stage(enum.Enum):
    """How far it is."""

    WARMING = "warming"
    HOLDING = "holding"
    RELEASING = "releasing"
    TAKING = "taking"
    FLIPPING = "flipping"
    ROUTING = "routing"
    UNDOING = "undoing"
    ENDED = "ended"


class Way(NamedTuple):
    """Which guild, of which shard, from which process to which; by their labels. ``owner``: ""
    where none lives that has it."""

    guild: int
    version: int
    shard: int
    num_shards: int
    feeder: str
    owner: str
    target: str


class GuildFacts(NamedTuple):
    """What is. ``feeder``: the process that holds the shard now, "" for none; what the three say
    is of this version or None."""

    feeder: str
    owner_lives: bool
    target_lives: bool
    feeder_said: GuildMoved | None = None
    owner_said: GuildMoved | None = None
    target_said: GuildMoved | None = None
    flipped: Flipped = Flipped.NO


class Say(NamedTuple):
    """Tell a process."""

    to: str
    topic: str
    body: Body


class Flip(NamedTuple):
    """Have the record say that the guild is the target's."""


class End(NamedTuple):
    """It is over."""

    state: OpState
    reason: str


Command = Say | Flip | End
_READ: Final = frozenset({GuildPhase.WARM, GuildPhase.OWNED})


class Migration:
    """One of them. ``drain_s``: so long the handlers that run may take before the guild goes."""

    def __init__(self, way: Way, limits: GuildLimits, now: float, *, drain_s: float = 0.0) -> None:
        self.way = way
        self.stage = Stage.WARMING
        self.at = GuildAt()
        self.held, self.held_ms, self.reason = 0, -1.0, ""
        self._limits, self._drain_s = limits, drain_s
        self._due_at = now + limits.warm_s
        self._told: dict[str, tuple[float, Body]] = {}
        self._state = OpState.REVERTED
        self._began_hold = False

    # --- from outside

    def resume(self, now: float, *, flipped: bool) -> None:
        """A broker before this one began it: what is flipped is completed, all else undone."""
        if flipped:
            self._go(Stage.ROUTING, now, self._limits.route_s)
        else:
            self._began_hold = True
            self._undo("the broker was started anew meanwhile", now)

    def cancel(self, reason: str, now: float) -> bool:
        """Take it back; False where it is too late."""
        if self.stage in (Stage.FLIPPING, Stage.ROUTING, Stage.UNDOING, Stage.ENDED):
            return False
        self._state = OpState.CANCELLED
        self._undo(reason, now)
        return True

    def next_deadline(self) -> float | None:
        """When it is to be looked at, at the latest."""
        if self.stage is Stage.ENDED:
            return None
        times = [at + self._limits.told_again_s for at, _ in self._told.values()]
        return min((*times, self._due_at))

    def look(self, facts: GuildFacts, now: float) -> list[Command]:
        """What is to be done now."""
        commands: list[Command] = []
        while True:
            before = self.stage
            commands += _STEPS[before](self, facts, now)
            asked = self.stage is Stage.FLIPPING  # what became of it the next facts say
            if asked or self.stage in (before, Stage.ENDED):
                return commands

    # --- before the flip

    def _warming(self, facts: GuildFacts, now: float) -> list[Command]:
        said, way = facts.target_said, self.way
        if self._lost(facts, now):
            return []
        if said is not None and said.phase in _READ:
            self._began_hold = True
            self._go(Stage.HOLDING, now, self._limits.hold_s)
            return []
        limit = self._limits.warm_s
        if self._refused(said, now) or self._late(f"{way.target} could not read it", limit, now):
            return []
        return self._say(way.target, topics.GUILD_TAKE, self._take(lock=False), now)

    def _holding(self, facts: GuildFacts, now: float) -> list[Command]:
        said, way = facts.feeder_said, self.way
        if self._lost(facts, now) or self._refused(facts.target_said, now):
            return []
        if said is not None and said.phase in (GuildPhase.BURST, GuildPhase.FAILED):
            self._undo(said.error or "too many events came while it was held", now)
            return []
        if said is not None and said.phase is GuildPhase.HELD:
            self.at = said.at
            self._go(Stage.RELEASING, now, self._drain_s + self._limits.hold_s)
            return []
        limit = self._drain_s + self._limits.hold_s
        if self._late(f"{way.feeder} did not hold it", limit, now):
            return []
        hold = GuildHold(way.guild, way.version, self._drain_s)
        return self._say(way.feeder, topics.GUILD_HOLD, hold, now)

    def _releasing(self, facts: GuildFacts, now: float) -> list[Command]:
        said, way = facts.owner_said, self.way
        if self._lost(facts, now) or self._burst(facts, now):
            return []
        away = way.owner not in ("", way.feeder, way.target)
        free = said is not None and said.phase is GuildPhase.RELEASED
        if not away or free or not facts.owner_lives:
            self._go(Stage.TAKING, now, self._limits.take_s)
            return []
        limit = self._drain_s + self._limits.hold_s
        if self._late(f"{way.owner} did not let it go", limit, now):
            return []
        release = GuildRelease(way.guild, way.version, way.target, self._drain_s)
        return self._say(way.owner, topics.GUILD_RELEASE, release, now)

    def _taking(self, facts: GuildFacts, now: float) -> list[Command]:
        said, way = facts.target_said, self.way
        if self._lost(facts, now) or self._burst(facts, now) or self._refused(said, now):
            return []
        if said is not None and said.phase is GuildPhase.OWNED and self._told:
            self._go(Stage.FLIPPING, now, self._limits.take_s)
            return [Flip()]
        if self._late(f"{way.target} did not take it", self._limits.take_s, now):
            return []
        return self._say(way.target, topics.GUILD_TAKE, self._take(lock=True), now)

    def _flipping(self, facts: GuildFacts, now: float) -> list[Command]:
        if facts.flipped is Flipped.YES:
            self._go(Stage.ROUTING, now, self._limits.route_s)
        elif facts.flipped is Flipped.NO:
            self._undo("the store does not have it", now)
        else:
            self._due_at = now + self._limits.take_s
        return []

    # --- after it

    def _routing(self, facts: GuildFacts, now: float) -> list[Command]:
        said, way = facts.feeder_said, self.way
        owner = "" if way.feeder == way.target else way.target
        if self._is_routed(said, owner):
            return self._end(OpState.DONE, "")
        if said is not None and said.phase is GuildPhase.HOME:
            return self._end(OpState.FAILED, f"{facts.feeder} handles it itself")
        if now >= self._due_at:
            return self._end(OpState.DONE, f"shard {way.shard}'s holder has not said so yet")
        route = GuildRoute(way.guild, way.version, owner)
        return self._say(facts.feeder, topics.GUILD_ROUTE, route, now)

    # --- back

    def _undoing(self, facts: GuildFacts, now: float) -> list[Command]:
        """The target lets go first, then the owner has it again, then its events go there."""
        way = self.way
        if now >= self._due_at:
            return self._end(self._state, self.reason)
        if not self._is_dropped(facts):
            drop = GuildDrop(way.guild, way.version, self.reason)
            return self._say(way.target, topics.GUILD_DROP, drop, now)
        if not self._began_hold:
            return self._end(self._state, self.reason)
        owner = "" if way.owner == way.feeder else way.owner
        if owner or not way.owner:
            if not facts.owner_lives:  # whoever gives back what dead processes had goes on
                return self._end(self._state, self.reason)
            had = facts.owner_said
            if had is None or had.phase is not GuildPhase.OWNED:
                return self._say(owner, topics.GUILD_TAKE, self._take(lock=True), now)
        if self._is_routed(facts.feeder_said, owner):
            return self._end(self._state, self.reason)
        route = GuildRoute(way.guild, way.version, owner)
        return self._say(facts.feeder, topics.GUILD_ROUTE, route, now)

    def _is_dropped(self, facts: GuildFacts) -> bool:
        said = facts.target_said
        if not facts.target_lives or self.way.target == self.way.owner:
            return True
        return said is not None and said.phase in (GuildPhase.NONE, GuildPhase.FAILED)

    def _over(self, _facts: GuildFacts, _now: float) -> list[Command]:
        return []

    # --- within

    def _is_routed(self, said: GuildMoved | None, owner: str) -> bool:
        """Whether the shard's holder has it where it shall be; "": at home."""
        if said is None:
            return False
        if not owner:
            there = said.phase is GuildPhase.HOME
        else:
            there = said.phase is GuildPhase.ROUTED and said.owner == owner
        if there:
            self.held, self.held_ms = said.held, said.held_ms
        return there

    def _lost(self, facts: GuildFacts, now: float) -> bool:
        """Somebody is not there any more without whom it does not go on."""
        if not facts.target_lives:
            self._undo(f"{self.way.target} has ended", now)
        elif facts.feeder != self.way.feeder:
            self._undo(f"{self.way.feeder} does not hold shard {self.way.shard} any more", now)
        else:
            return False
        return True

    def _refused(self, said: GuildMoved | None, now: float) -> bool:
        if said is None or said.phase not in (GuildPhase.FAILED, GuildPhase.LEFT):
            return False
        self._undo(said.error or f"{self.way.target} does not take it", now)
        return True

    def _burst(self, facts: GuildFacts, now: float) -> bool:
        said = facts.feeder_said
        if said is None or said.phase is not GuildPhase.BURST:
            return False
        self._undo(said.error or "too many events came while it was held", now)
        return True

    def _late(self, what: str, limit_s: float, now: float) -> bool:
        if now < self._due_at:
            return False
        self._undo(f"{what} within {limit_s:g} s", now)
        return True

    def _undo(self, reason: str, now: float) -> None:
        self.reason = reason
        if self._state is not OpState.CANCELLED:
            self._state = OpState.REVERTED if self._began_hold else OpState.FAILED
        self._go(Stage.UNDOING, now, self._limits.undo_s)

    def _end(self, state: OpState, reason: str) -> list[Command]:
        self.stage, self.reason = Stage.ENDED, reason
        self._told.clear()
        return [End(state, reason)]

    def _go(self, stage: Stage, now: float, limit_s: float) -> None:
        self.stage, self._due_at = stage, now + limit_s
        self._told.clear()

    def _take(self, *, lock: bool) -> GuildTake:
        way = self.way
        return GuildTake(
            way.guild, way.version, way.shard, way.num_shards, way.owner, lock, self.at
        )

    def _say(self, to: str, topic: str, body: Body, now: float) -> list[Command]:
        """Unless it was said so a moment ago."""
        at, before = self._told.get(topic, (now, None))
        if not to or (before == body and now < at + self._limits.told_again_s):
            return []
        self._told[topic] = (now, body)
        return [Say(to, topic, body)]


_STEPS: Final = {
    Stage.WARMING: Migration._warming,
    Stage.HOLDING: Migration._holding,
    Stage.RELEASING: Migration._releasing,
    Stage.TAKING: Migration._taking,
    Stage.FLIPPING: Migration._flipping,
    Stage.ROUTING: Migration._routing,
    Stage.UNDOING: Migration._undoing,
    Stage.ENDED: Migration._over,
}
