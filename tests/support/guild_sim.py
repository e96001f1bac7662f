"""Fleets in virtual time in which guilds go from process to process: the real broker, and processes
that do with a guild what nodes do. What must be true is asked of the world, not of the broker.

Each guild has one stream of numbered events. Its shard's holder gets each once, a successor all
that were not acknowledged; whoever handles one writes its number down.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from typing import Any

from shard_node.wire import topics
from shard_node.wire.bodies import ShardState
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Kind
from shard_node.wire.migration import (
    GuildAt,
    GuildDrop,
    GuildHold,
    GuildMoved,
    GuildPart,
    GuildPhase,
    GuildRelease,
    GuildRoute,
    GuildTake,
)
from store.records import GuildRecord, collect
from tests.support.handover_sim import HandNode, HandoverSim

EVENT_S = 0.05
WARM_S = 0.05
LOCK_S = 0.02
TAKE_MAX_S = 5.0
DRAIN_S = 0.03
PHASE = GuildPhase


@dataclass
class Away:
    """What the shard's journal says of a guild that is not handled by the shard's holder."""

    version: int
    held: bool = True
    owner: str = ""


@dataclass
class Guild:
    """One guild's stream, and what is on disk of it."""

    id: int
    sent: int = 0
    gateway: deque[int] = field(default_factory=deque)
    """Not acknowledged: they come again to the next holder."""
    handled: list[tuple[int, str]] = field(default_factory=list)
    away: Away | None = None
    lock: str = ""


@dataclass
class Guest:
    """A guild that a process has, or is about to."""

    told: GuildTake
    version: int
    phase: GuildPhase = PHASE.WARMING


class GuildNode(HandNode):
    """A process that feeds the guilds of its shards to others, and has others'."""

    sim: GuildSim

    def __init__(self, sim: GuildSim, line: dict[str, Any]) -> None:
        super().__init__(sim, line)
        self.guests: dict[int, Guest] = {}
        self.draining: set[int] = set()

    @property
    def label(self) -> str:
        return f"{self.name}#{self.epoch}"

    def exit(self, code: int | None, signal: int | None = None) -> None:
        if self.alive:
            for guild in self.sim.guilds.values():
                if guild.lock == self.label:
                    guild.lock = ""
        super().exit(code, signal)

    def take(self, head: Any, body: bytes) -> None:
        if not self.runs:
            return
        kinds = {
            topics.GUILD_HOLD: (GuildHold, self.hold),
            topics.GUILD_ROUTE: (GuildRoute, self.route),
            topics.GUILD_TAKE: (GuildTake, self.board),
            topics.GUILD_RELEASE: (GuildRelease, self.let_go),
            topics.GUILD_DROP: (GuildDrop, self.drop),
        }
        if head.topic not in kinds:
            super().take(head, body)
            if head.kind is Kind.REPLY and head.topic == topics.REGISTER:
                self.say_all()
            return
        if self.sim.loses(head.topic):
            return
        kind, act = kinds[head.topic]
        act(decode_body(body, kind))

    def tell(
        self, guild: int, version: int, part: GuildPart, phase: GuildPhase, **more: Any
    ) -> None:
        if part is GuildPart.OWNER:
            more["owner"] = self.label
        moved = GuildMoved(guild, version, part, phase, **more)
        if not self.sim.loses(topics.GUILD_MOVED):
            self.send(Kind.EVENT, topics.GUILD_MOVED, moved)

    def say_all(self) -> None:
        for guild in self.sim.guilds.values():
            if self.feeds(guild.id) and guild.away is not None:
                self.say_feeder(guild)
        for number in self.guests:
            self.say_owner(number)

    # --- of its shards

    def feeds(self, number: int) -> bool:
        shard = (number >> 22) % self.num_shards
        return self.runs and self.has(shard) and self.states.get(shard) is ShardState.READY

    def say_feeder(self, guild: Guild, phase: GuildPhase | None = None) -> None:
        away = guild.away
        if away is None or guild.id in self.draining:
            return
        phase = phase or (PHASE.HELD if away.held else PHASE.ROUTED)
        at = GuildAt("s", guild.handled[-1][0] if guild.handled else 0)
        held = len(guild.gateway)
        self.tell(
            guild.id, away.version, GuildPart.FEEDER, phase, owner=away.owner, at=at, held=held
        )

    def hold(self, told: GuildHold) -> None:
        guild = self.sim.guilds[told.guild]
        if not self.feeds(guild.id):
            error = f"{self.label} does not hold its shard"
            self.tell(told.guild, told.version, GuildPart.FEEDER, PHASE.FAILED, error=error)
            return
        if guild.away is not None and told.version <= guild.away.version:
            if told.version == guild.away.version:
                self.say_feeder(guild)
            return
        owner = guild.away.owner if guild.away is not None else ""
        guild.away = Away(told.version, True, owner)
        self.draining.add(guild.id)

        def drained() -> None:
            self.draining.discard(guild.id)
            if self.feeds(guild.id):
                self.say_feeder(guild)

        self.sim.after(DRAIN_S, drained)

    def route(self, told: GuildRoute) -> None:
        guild = self.sim.guilds[told.guild]
        if not self.feeds(guild.id):
            return
        self.draining.discard(guild.id)
        if guild.away is None:
            self.tell(told.guild, told.version, GuildPart.FEEDER, PHASE.HOME)
            return
        if told.version < guild.away.version:
            return
        guild.away = replace(guild.away, version=told.version, held=False, owner=told.owner)
        if told.owner:
            self.say_feeder(guild)
        else:
            mine = self.guests.get(guild.id)
            if mine is not None and guild.lock != self.label:
                del self.guests[guild.id]
            self.say_feeder(guild, PHASE.HOME)
            guild.away = None

    # --- of others' shards

    def say_owner(self, number: int, phase: GuildPhase | None = None, **more: Any) -> None:
        guest = self.guests[number]
        self.tell(number, guest.version, GuildPart.OWNER, phase or guest.phase, **more)

    def board(self, told: GuildTake) -> None:
        guest = self.guests.get(told.guild)
        if guest is not None and told.version < guest.version:
            return
        if guest is None or guest.phase in (PHASE.FAILED, PHASE.LEFT, PHASE.RELEASED):
            guest = self.guests[told.guild] = Guest(told, told.version)
            self.say_owner(told.guild)
            self.sim.after(WARM_S, lambda: self.warm_guild(told.guild, guest))
            return
        guest.version = told.version
        if guest.phase in (PHASE.OWNED, PHASE.DRAINING):
            guild = self.sim.guilds[told.guild]
            if told.lock and self.feeds(told.guild) and guild.lock == self.label:
                guild.lock = ""
        elif told.lock or not guest.told.lock:
            guest.told = told
        self.say_owner(told.guild)

    def warm_guild(self, number: int, guest: Guest) -> None:
        if not self.runs or self.guests.get(number) is not guest:
            return
        guest.phase = PHASE.WARM
        if number in self.sim.refused:
            guest.phase = PHASE.FAILED
            self.say_owner(number, error="it cannot be read")
            return
        if not guest.told.lock:
            self.say_owner(number)
        self.try_guild_lock(number, guest, None)

    def try_guild_lock(self, number: int, guest: Guest, since: float | None) -> None:
        if not self.runs or self.guests.get(number) is not guest or guest.phase is not PHASE.WARM:
            return
        guild = self.sim.guilds[number]
        if guest.told.lock:
            since = self.sim.now if since is None else since
            if guild.lock in ("", self.label):
                guild.lock = "" if self.feeds(number) else self.label
                guest.phase = PHASE.OWNED
                self.say_owner(number)
                return
            if self.sim.now >= since + TAKE_MAX_S:
                guest.phase = PHASE.FAILED
                self.say_owner(number, error="it is still held by another process")
                return
        self.sim.after(LOCK_S, lambda: self.try_guild_lock(number, guest, since))

    def let_go(self, told: GuildRelease) -> None:
        guest = self.guests.get(told.guild)
        if guest is None:
            self.tell(told.guild, told.version, GuildPart.OWNER, PHASE.RELEASED)
            return
        if told.version < guest.version:
            return
        guest.version = told.version
        if guest.phase in (PHASE.DRAINING, PHASE.RELEASED):
            self.say_owner(told.guild)
            return
        guest.phase = PHASE.DRAINING

        def drained() -> None:
            if not self.runs or self.guests.get(told.guild) is not guest:
                return
            guild = self.sim.guilds[told.guild]
            if guild.lock == self.label:
                guild.lock = ""
            guest.phase = PHASE.RELEASED
            self.say_owner(told.guild)

        self.sim.after(DRAIN_S, drained)

    def drop(self, told: GuildDrop) -> None:
        guest = self.guests.get(told.guild)
        if guest is not None and told.version < guest.version:
            return
        if guest is not None:
            guild = self.sim.guilds[told.guild]
            if guild.lock == self.label:
                guild.lock = ""
            del self.guests[told.guild]
        self.tell(told.guild, told.version, GuildPart.OWNER, PHASE.NONE)

    def handles(self, number: int) -> bool:
        """Whether it takes what a feeder sends."""
        guest, guild = self.guests.get(number), self.sim.guilds[number]
        return (
            self.runs
            and guest is not None
            and guest.phase is PHASE.OWNED
            and guild.lock == self.label
        )


class GuildSim(HandoverSim):
    """``refused``: guilds that nobody can read; ``loss``: how many of the words about guilds
    vanish."""

    def __init__(self, *, guilds: int = 2, **options: Any) -> None:
        super().__init__(**options)
        count = self.discord.shards
        self.guilds = {one: Guild(one) for one in (((k % count) + count * (1 + k // count)) << 22
                                                   for k in range(guilds))}  # fmt: skip
        self.refused: set[int] = set()
        self.loss = 0.0
        self.faults: list[str] = []
        self.held_at: dict[int, float] = {}
        self.lost: dict[str, int] = defaultdict(int)

    def loses(self, topic: str) -> bool:
        gone = self.loss > 0 and self.random.random() < self.loss
        self.lost[topic] += gone
        return gone

    def _spawn(self, line: dict[str, Any]) -> None:
        import tests.support.handover_sim as base

        before, base.HandNode = base.HandNode, GuildNode  # type: ignore[misc]
        try:
            super()._spawn(line)
        finally:
            base.HandNode = before  # type: ignore[misc]

    # --- events

    def play(self) -> None:
        """One event of each guild, and again after a moment."""
        for guild in self.guilds.values():
            guild.sent += 1
            guild.gateway.append(guild.sent)
            self.flow(guild)
        self.after(EVENT_S, self.play)

    def feeder(self, number: int) -> GuildNode | None:
        found = [n for n in self.nodes.values() if n.alive and n.feeds(number)]  # type: ignore[attr-defined]
        if len(found) > 1:
            self.faults.append(f"{number} is fed by {[n.name for n in found]}")
        return found[0] if found else None  # type: ignore[return-value]

    def flow(self, guild: Guild) -> None:
        """What can be handled is, by who may."""
        feeder = self.feeder(guild.id)
        if feeder is None:
            return
        away = guild.away
        if away is None:
            self.handle(guild, feeder)
        elif not away.held and away.owner:
            name, _, epoch = away.owner.partition("#")
            owner = self.nodes.get((name, int(epoch)))
            if owner is not None and owner.handles(guild.id):  # type: ignore[attr-defined]
                self.handle(guild, owner)  # type: ignore[arg-type]

    def handle(self, guild: Guild, who: GuildNode) -> None:
        if guild.lock not in ("", who.label) or (guild.lock == "" and not who.feeds(guild.id)):
            holder = self.nodes.get(_who(guild.lock))
            if holder is not None and holder.handles(guild.id):  # type: ignore[attr-defined]
                self.faults.append(f"{guild.id}: {who.label} handles what {guild.lock} has")
        while guild.gateway:
            guild.handled.append((guild.gateway.popleft(), who.label))

    def _commit(self, token: int, changes: tuple[Any, ...]) -> None:
        mine = [one for one in changes if _is_guild(one)]
        rest = tuple(one for one in changes if not _is_guild(one))
        if not self.store_down:
            for change in mine:
                if isinstance(change, GuildRecord):
                    self.after(0.001, lambda change=change: collect(self.durable, change))
                else:
                    self.after(
                        0.001, lambda name=change.name: self.durable.guilds.pop(int(name), None)
                    )
        super()._commit(token, rest)

    # --- judged

    def quiet(self) -> bool:
        """Each guild is handled by who has its record, and nothing waits."""
        if self.broker is None:
            return False
        for guild in self.guilds.values():
            if guild.gateway:
                return False
            record = self.durable.guilds.get(guild.id)
            feeder = self.feeder(guild.id)
            if feeder is None:
                return False
            where = guild.handled[-1][1] if guild.handled else ""
            wanted = record.label if record is not None and record.label else feeder.label
            if where != wanted:
                return False
        return True

    def judge(self) -> None:
        """Each event was handled once and in order, and all is where it should be."""
        self.loss = 0.0
        assert self.run(120, self.quiet), [
            (one.id, one.away, one.lock, len(one.gateway), one.handled[-1:], self.durable.guilds)
            for one in self.guilds.values()
        ]
        for guild in self.guilds.values():
            numbers = [number for number, _ in guild.handled]
            assert numbers == list(range(1, len(numbers) + 1))
        assert self.faults == []


def _who(label: str) -> tuple[str, int]:
    name, _, epoch = label.partition("#")
    return name, int(epoch or 0)


def _is_guild(change: Any) -> bool:
    return isinstance(change, GuildRecord) or getattr(change, "kind", None) is GuildRecord
