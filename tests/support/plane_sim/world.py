"""Virtual time: an agenda of what happens when, and processes that each take their own time.

A process runs in turns. Within a turn its clock goes on from the world's, by what it burns;
until that time has come in the world it has no other turn. So a busy process is late, as a
real one is, and a stalled one (SIGSTOP) has no turns at all while its frames pile up.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any

TRACE_MAX = 1000
START_S = 1000.0
WALL_S = 1_700_000_000.0
IDLE_TURNS_MAX = 300
SPIN_S = 1.0
"""So many turns without a frame or a timer in so short a time: it burns its core for nothing."""


class World:
    """The agenda, the seeded randomness, and what was seen last."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = START_S
        self.running: Process | None = None
        self.trace: deque[tuple[float, str]] = deque(maxlen=TRACE_MAX)
        self.digest = 0
        self.faults: list[str] = []
        """Processes that turned and turned with nothing to do."""
        self.turns = 0
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    # --- time

    def clock(self) -> float:
        """The time of whoever runs now."""
        running = self.running
        return running.now if running is not None else self.now

    def at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, call, args))

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self.at(self.clock() + delay_s, call, *args)

    def run(self, until: float) -> None:
        """Lets time pass."""
        agenda, pop = self._agenda, heapq.heappop
        while agenda and agenda[0][0] <= until and not self.faults:
            when, _, call, args = pop(agenda)
            if when > self.now:
                self.now = when
            call(*args)
        self.now = max(self.now, until)

    # --- what tests look at

    def note(self, text: str) -> None:
        """A line of the trace. All of them together are the run's fingerprint."""
        now = self.clock()
        self.digest = hash((self.digest, round(now * 1e6), _sum(text)))
        self.trace.append((now, text))

    def fault(self, text: str) -> None:
        """An invariant does not hold: the run ends here."""
        self.note(f"FAULT {text}")
        self.faults.append(text)


def _sum(text: str) -> int:
    """Not hash(): that one differs from process to process."""
    return int.from_bytes(text.encode()[-48:], "big") % 0x1FFF_FFFF_FFFF_FFFF


class Process:
    """Something that runs. ``turn`` does what is due and says when it wants the next one."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.alive = True
        self.stalled = False
        self.now = world.now
        self.turn_s = 20e-6
        self.lost_s = 0.0
        """Time that it spent on nothing but computing, or stopped."""
        self._stalled_at = 0.0
        self._idle_turns, self._idle_since = 0, 0.0
        self._busy_until = 0.0
        self._due = math.inf

    def turn(self) -> float | None:
        raise NotImplementedError

    def burn(self, seconds: float) -> None:
        """It computes for so long."""
        self.now += seconds
        self.lost_s += seconds

    def active(self) -> None:
        """It does something: a frame, a timer."""
        self._idle_turns, self._idle_since = 0, self.now

    def wake(self, at: float = 0.0) -> None:
        """It has something to do at that time (or now)."""
        at = max(at, self.world.clock(), self._busy_until)
        if at < self._due and self.alive:
            self._due = at
            self.world.at(at, self._fire, at)

    def stall(self) -> None:
        if not self.stalled:
            self.stalled, self._stalled_at = True, self.world.now

    def resume(self) -> None:
        if not self.stalled:
            return
        self.stalled = False
        self.lost_s += self.world.now - self._stalled_at
        self._due = math.inf
        if self.alive:
            self.wake()

    def _fire(self, due: float) -> None:
        if due != self._due or not self.alive:
            return
        self._due = math.inf
        if self.stalled:
            return
        world = self.world
        world.running, self.now = self, world.now
        world.turns += 1
        self._idle_turns += 1
        if self._idle_turns >= IDLE_TURNS_MAX:
            if self.now - self._idle_since < SPIN_S:
                world.fault(f"{self.name} spins at {self.now:.3f}")
            self.active()
        try:
            again = self.turn()
        finally:
            world.running = None
        self._busy_until = self.now + self.turn_s
        if again is not None:
            self.wake(again)
