"""Two processes, a lock for each shard, a broker that may die: what a Transfer is played in.

The processes do what nodes do (Handing); the locks are the kernel's: whoever has one keeps it
until he lets go or dies. All frames and reports may be lost, and reports come late.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from broker.core.handover import (
    Arm,
    Command,
    Disarm,
    End,
    Facts,
    Flip,
    Flipped,
    Kill,
    Release,
    Settle,
    State,
    leftover,
)
from broker.core.limits import LifecycleLimits
from broker.core.transfer import Transfer
from shard_node.wire.handover import Phase

STEP_S = 0.25
LIMITS = LifecycleLimits()
SHARDS = (2, 3)


@dataclass
class Play:
    """What goes wrong, by the tick. Ticks are STEP_S long."""

    dies: dict[int, str] = field(default_factory=dict)
    hangs: dict[int, str] = field(default_factory=dict)
    broker: frozenset[int] = frozenset()
    cancels: int = -1
    lossy: float = 0.0
    warm_s: float = 1.0
    refuses: frozenset[int] = frozenset()
    """Shards of which the target's connection fails."""
    slow_take_s: float = 0.25
    store_fails: int = 0
    warms: bool = True
    settle_s: float = 3.0
    voice: int = 0
    voice_s: float = 0.0
    hang_s: float = 15.0
    lost: tuple[type, ...] = ()
    """Commands of these kinds do not come through."""
    seed: int = 0


class Process:
    """One process and its phases."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.alive = True
        self.hung_at: float | None = None
        self.phases = dict.fromkeys(SHARDS, Phase.NONE)
        self.since = dict.fromkeys(SHARDS, 0.0)
        self.settled: set[int] = set()
        self.ignores: set[int] = set()

    @property
    def runs(self) -> bool:
        return self.alive and self.hung_at is None

    def die(self) -> None:
        self.alive = False
        for shard, holder in self.world.locks.items():
            if holder is self:
                self.world.locks[shard] = None

    def set(self, shard: int, phase: Phase) -> None:
        self.phases[shard] = phase
        self.since[shard] = self.world.now
        if not self.world.loses():
            self.world.report(self)

    def hear(self, command: Command) -> None:
        if not self.runs:
            return
        for shard in getattr(command, "shards", ()):
            self._hear(command, shard)

    def _hear(self, command: Command, shard: int) -> None:
        mine = self.world.locks[shard] is self
        phase = self.phases[shard]
        match command:
            case Arm() if phase in (Phase.NONE, Phase.WARM):
                bad = shard in self.world.play.refuses
                self.set(shard, Phase.FAILED if bad else Phase.ARMED)
            case Disarm() if phase is not Phase.NONE:
                if mine:
                    self.world.locks[shard] = None
                self.set(shard, Phase.WARM if self.world.play.warms else Phase.NONE)
            case Release() if mine and phase is Phase.NONE:
                self.world.locks[shard] = None
                self.set(shard, Phase.RELEASED)
            case Settle():
                self.settled.add(shard)
                if not mine:
                    self.set(shard, Phase.NONE)

    def tick(self) -> None:
        if not self.runs:
            return
        for shard in SHARDS:
            self._tick(shard)

    def _tick(self, shard: int) -> None:
        locks, age_s = self.world.locks, self.world.now - self.since[shard]
        match self.phases[shard]:
            case Phase.ARMED if locks[shard] is None:
                locks[shard] = self
                self.set(shard, Phase.TAKING)
            case Phase.TAKING if age_s >= self.world.play.slow_take_s:
                self.set(shard, Phase.HELD)
            case Phase.RELEASED if shard not in self.settled:
                if locks[shard] is not None:
                    self.since[shard] = self.world.now
                elif age_s >= LIMITS.retake_s:
                    locks[shard] = self
                    self.set(shard, Phase.RETAKEN)


class World:
    """Virtual time. ``run`` plays to the end of the transfer, and a while after it."""

    def __init__(self, play: Play) -> None:
        self.play, self.now, self.ticks = play, 0.0, 0
        self._random = random.Random(play.seed)
        self.locks: dict[int, Process | None] = {}
        self.source, self.target = Process(self, "a#5"), Process(self, "a#6")
        self.locks = dict.fromkeys(SHARDS, self.source)
        if play.warms:
            self.target.phases = dict.fromkeys(SHARDS, Phase.WARMING)
        self.seen: dict[str, dict[int, Phase]] = {}
        self.report(self.source)
        self.flipped = Flipped.NO
        self.cancelled = False
        self.transfer = self._new_transfer()
        self.said: list[Command] = []
        self.end: End | None = None
        self.states: list[State] = []

    def loses(self) -> bool:
        return self._random.random() < self.play.lossy

    def report(self, process: Process) -> None:
        self.seen[process.name] = dict(process.phases)

    def _new_transfer(self) -> Transfer:
        return Transfer(
            "op-1",
            SHARDS,
            self.source.name,
            self.target.name,
            LIMITS,
            self.now,
            settle_s=self.play.settle_s,
            warms=self.play.warms,
            drain_voice_s=self.play.voice_s,
        )

    def facts(self) -> Facts:
        return Facts(
            self.source.alive,
            self.target.alive,
            self.seen.get(self.source.name, {}),
            self.seen.get(self.target.name, {}),
            voice=self.play.voice,
            target_due=self.now >= LIMITS.ready_s,
            flipped=self.flipped,
        )

    def run(self, max_s: float = 300.0, after_s: float = 40.0) -> World:
        ended_at = None
        while ended_at is None or self.now < ended_at + after_s:
            self.tick()
            if self.end is not None and ended_at is None:
                ended_at = self.now
            assert ended_at is not None or self.now < max_s, (self.transfer.state, self.play)
        return self

    def tick(self) -> None:
        self._faults()
        for process in (self.source, self.target):
            process.tick()
            if process.runs and self.ticks % 4 == 0 and not self.loses():
                self.report(process)
        if self.end is None:
            for command in self.transfer.look(self.facts(), self.now):
                self.said.append(command)
                self._carry_out(command)
            if not self.states or self.states[-1] is not self.transfer.state:
                self.states.append(self.transfer.state)
            due = self.transfer.next_deadline()
            assert due is None or due > self.now, "it would be looked at without end"
        else:
            self._tidy()
        self.ticks += 1
        self.now = self.ticks * STEP_S

    def _tidy(self) -> None:
        """What the broker does about reports of an operation that is over."""
        for process in (self.source, self.target):
            for shard, phase in self.seen.get(process.name, {}).items():
                kind = leftover(phase, owns=process is self.owner)
                if kind is Disarm and not self.loses():
                    process.hear(Disarm((shard,), "over"))
                elif kind is Settle and not self.loses():
                    process.hear(Settle((shard,)))

    def _faults(self) -> None:
        play = self.play
        victims = {"source": self.source, "target": self.target}
        if self.ticks in play.dies:
            victims[play.dies[self.ticks]].die()
        if self.ticks in play.hangs:
            victims[play.hangs[self.ticks]].hung_at = self.now
        for process in (self.source, self.target):
            if process.hung_at is not None and self.now >= process.hung_at + play.hang_s:
                process.die()
        if play.warms and self.now >= play.warm_s and self.target.runs:
            for shard in SHARDS:
                if self.target.phases[shard] is Phase.WARMING:
                    self.target.set(shard, Phase.WARM)
        self._troubles_of_the_broker()

    def _troubles_of_the_broker(self) -> None:
        play = self.play
        if self.ticks == play.cancels and self.end is None:
            self.cancelled = self.transfer.cancel("cancelled", self.now)
        if self.ticks in play.broker and self.end is None:
            self.seen.clear()
            if self.flipped is Flipped.ASKED:
                self.flipped = Flipped.NO
            self.transfer = self._new_transfer()
            if self.cancelled:
                self.transfer.cancel("cancelled", self.now)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Kill(who=who):
                (self.source if who == "source" else self.target).die()
            case Flip():
                self.play.store_fails -= 1
                self.flipped = Flipped.NO if self.play.store_fails >= 0 else Flipped.YES
            case End():
                self.end = command
                if command.state != "done" and self.play.warms:
                    self.target.die()
            case _ if not self.loses() and not isinstance(command, self.play.lost):
                to = self.target if isinstance(command, Arm | Disarm) else self.source
                to.hear(command)

    # --- what must be true

    @property
    def owner(self) -> Process:
        """Whose the shards are, as the broker's records have it."""
        return self.target if self.flipped is Flipped.YES else self.source

    def check(self) -> None:
        """Each shard is its owner's, or, where that one is dead, nobody's."""
        for shard, holder in self.locks.items():
            wanted = self.owner if self.owner.alive else None
            name = holder.name if holder is not None else "nobody"
            assert holder is wanted, (shard, name, self.end, self.states, self.play)
