"""How one shard comes to this process, or leaves it. Pure: one machine for each shard.

Whoever has the kernel's lock of a shard may connect it; this says when to try for the lock and
when to let go. What the broker says may be said twice or never, and may come late: each thing is
done once for an operation. Phases are those of ``wire.handover``:

    target  "" -> warming -> warm -> armed -> taking -> held       (disarm: back)
    source  "" -> releasing -> released -> ""                      (settle)
                                  \\-> taking -> retaken           (nobody has it)
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from shard_node.wire.handover import Phase

TRY_EVERY_S: Final = 0.002
"""How often the lock of a shard is tried for that is about to be let go."""
LOOK_EVERY_S: Final = 0.25
"""How often one that was given up is looked at: does nobody have it?"""


class Arm(NamedTuple):
    """The broker: be ready to take it."""

    op: str
    deadline_s: float = 10.0


class Release(NamedTuple):
    """The broker: give it up."""

    op: str
    target: str
    retake_s: float = 1.0
    reason: str = ""


class Disarm(NamedTuple):
    """The broker: let go whatever you have of it."""

    op: str


class Settle(NamedTuple):
    """The broker: it is the other's for good."""

    op: str


class Happened(enum.Enum):
    """What became of an effect, and of time."""

    WARMED = "warmed"
    CONNECTED = "connected"
    LOST = "lost"
    """The connection that was made ahead has ended."""
    LOCKED = "locked"
    REFUSED = "refused"
    """The lock is another's."""
    GIVEN = "given"
    JOINED = "joined"
    """RESUMED or READY came."""
    TICK = "tick"


class Failed(NamedTuple):
    """It cannot be done."""

    error: str


Event = Arm | Release | Disarm | Settle | Happened | Failed


class Do(enum.Enum):
    """What the shell carries out."""

    WARM = "warm"
    CONNECT = "connect"
    TRY_LOCK = "try lock"
    LET_GO = "let go"
    """Of a lock that was only looked at."""
    TAKE = "take"
    """Read the rest of the journal and RESUME."""
    RETAKE = "retake"
    """The same, with caches that are as old as the release."""
    GIVE = "give"
    DISCONNECT = "disconnect"
    """Of what was connected ahead; the caches stay."""
    DROP = "drop"
    """Let go of everything: connection, lock, caches; the shard is not ours."""
    LEAVE = "leave"
    """It is another's, and this process is done with it."""
    SAY = "say"


_TAKES: Final = frozenset({Phase.TAKING, Phase.HELD})


class Handing:
    """One shard. ``owns``: this process connects it by itself; ``follows``: it was started to
    take it, so it warms it again whenever it had to let go."""

    def __init__(self, *, owns: bool = False, follows: bool = False) -> None:
        self.phase = Phase.NONE
        self.op = self.error = ""
        self.target = self.reason = ""
        """Of the release."""
        self.owns, self.follows = owns, follows
        self._is_source = self._armed = self._settled = False
        self._deadline_s = self._retake_s = 0.0
        self._due_at: float | None = None
        self._look_at: float | None = None
        self._free_since: float | None = None

    def follow(self) -> list[Do]:
        """Warm it, before anybody says so."""
        self._to(Phase.WARMING)
        return [Do.WARM, Do.SAY]

    def on(self, event: Event, now: float) -> list[Do]:
        """What is to be done now. A phase that has changed is always said."""
        before = (self.phase, self.op)
        effects = self._on(event, now)
        if before != (self.phase, self.op) and Do.SAY not in effects:
            effects.append(Do.SAY)
        return effects

    def next_deadline(self) -> float | None:
        """When a TICK has something to do."""
        times = [at for at in (self._due_at, self._look_at) if at is not None]
        return min(times, default=None)

    def _on(self, event: Event, now: float) -> list[Do]:
        match event:
            case Arm():
                return self._arm(event, now)
            case Release():
                return self._release(event)
            case Disarm():
                return self._disarm(event)
            case Settle():
                return self._settle(event)
            case Failed():
                return self._failed(event.error)
        return self._happened(event, now)

    # --- what the broker says

    def _arm(self, event: Arm, now: float) -> list[Do]:
        again = event.op == self.op
        if self._is_source and self.phase is not Phase.RETAKEN:
            return [Do.SAY]  # it goes back or forward by itself
        if self.phase is Phase.FAILED and again:
            return [Do.SAY]
        self.op, self.error, self._is_source = event.op, "", False
        self._deadline_s = event.deadline_s
        if self.owns or self.phase in _TAKES:
            if self.phase not in _TAKES:
                self._to(Phase.HELD)
            return [Do.SAY]
        if self._due_at is not None:
            self._due_at = now + event.deadline_s
        if self._armed and self.phase in (Phase.WARMING, Phase.WARM, Phase.ARMED):
            return [Do.SAY]
        self._armed = True
        if self.phase in (Phase.NONE, Phase.FAILED):
            self._to(Phase.WARMING)
            return [Do.WARM]
        return [Do.CONNECT] if self.phase is Phase.WARM else [Do.SAY]

    def _release(self, event: Release) -> list[Do]:
        if self._is_source and event.op == self.op:
            return [Do.SAY]
        if not self.owns and self.phase not in (Phase.NONE, Phase.RELEASED):
            return [Do.SAY]  # a target: it has nothing to give
        self.op, self.error = event.op, ""
        self.target, self.reason, self._retake_s = event.target, event.reason, event.retake_s
        if self._is_source and self.phase in (Phase.RELEASING, Phase.RELEASED):
            return [Do.SAY]  # by an operation that is over
        self._is_source, self._settled, self.owns = True, False, False
        self._to(Phase.RELEASING)
        return [Do.GIVE]

    def _disarm(self, event: Disarm) -> list[Do]:
        if event.op != self.op and self.phase is not Phase.NONE:
            return [Do.SAY]
        if self._is_source:
            return self._let_go() if self.phase in (Phase.TAKING, Phase.RETAKEN) else [Do.SAY]
        self._armed = False
        if self.phase is Phase.NONE or (self.phase is Phase.WARMING and self.follows):
            return [Do.SAY]
        if self.phase in (Phase.WARM, Phase.ARMED) and self.follows:
            self._to(Phase.WARM)
            return [Do.DISCONNECT, Do.SAY]
        return self._let_go()

    def _settle(self, event: Settle) -> list[Do]:
        if not self._is_source or event.op != self.op:
            return [Do.SAY]
        if self.phase is Phase.RELEASING:
            self._settled = True
            return [Do.SAY]
        if self.phase is not Phase.RELEASED:
            return self._let_go()
        return self._leave()

    # --- what happens

    def _happened(self, what: Happened, now: float) -> list[Do]:
        phase = self.phase
        if what is Happened.WARMED and phase is Phase.WARMING:
            self._to(Phase.WARM)
            return [Do.CONNECT] if self._armed else []
        if what is Happened.CONNECTED and phase is Phase.WARM and self._armed:
            self._to(Phase.ARMED)
            self._due_at = now + self._deadline_s
            return [Do.TRY_LOCK]
        if what is Happened.LOST and phase is Phase.ARMED:
            self._to(Phase.WARM)
            return [Do.CONNECT]
        if what is Happened.LOCKED:
            return self._locked(now)
        if what is Happened.REFUSED:
            return self._refused(now)
        if what is Happened.GIVEN and phase is Phase.RELEASING:
            self._to(Phase.RELEASED)
            self._look_at = now + LOOK_EVERY_S
            return self._leave() if self._settled else []
        if what is Happened.JOINED and phase is Phase.TAKING:
            self._to(Phase.RETAKEN if self._is_source else Phase.HELD)
            self.owns = True
            return []
        return self._tick(now) if what is Happened.TICK else []

    def _tick(self, now: float) -> list[Do]:
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
            return [Do.TRY_LOCK]
        return []

    def _locked(self, now: float) -> list[Do]:
        if self.phase is Phase.ARMED:
            self._to(Phase.TAKING)
            return [Do.TAKE]
        if self.phase is not Phase.RELEASED:
            return [Do.LET_GO]
        if self._free_since is None:
            self._free_since = now
        if now - self._free_since < self._retake_s:
            self._look_at = now + LOOK_EVERY_S
            return [Do.LET_GO]
        self._to(Phase.TAKING)
        return [Do.RETAKE]

    def _refused(self, now: float) -> list[Do]:
        self._free_since = None
        if self.phase is Phase.RELEASED:
            self._look_at = now + LOOK_EVERY_S
        elif self.phase is Phase.ARMED:
            if self._due_at is not None and now >= self._due_at:
                return self._failed(f"it was not given up within {self._deadline_s:g} s")
            self._look_at = now + TRY_EVERY_S
        return []

    def _failed(self, error: str) -> list[Do]:
        if self.phase in (Phase.NONE, Phase.FAILED) or self._is_source:
            return []
        self._armed = self.owns = False
        self.error = error
        self._to(Phase.FAILED)
        return [Do.DROP]

    # --- the end of it

    def _let_go(self) -> list[Do]:
        self._is_source = self._armed = self.owns = False
        if self.follows:
            self._to(Phase.WARMING)
            return [Do.DROP, Do.WARM]
        self._to(Phase.NONE)
        return [Do.DROP, Do.SAY]

    def _leave(self) -> list[Do]:
        self._is_source = self.owns = False
        self._to(Phase.NONE)
        return [Do.SAY, Do.LEAVE]

    def _to(self, phase: Phase) -> None:
        self.phase = phase
        self._due_at = self._look_at = self._free_since = None
