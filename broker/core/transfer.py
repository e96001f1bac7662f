"""Shards go from one process to another: what the broker says meanwhile.

Who has a shard is decided by a lock of the kernel's; nothing that is said here, or lost, can
give it to two. ``look`` compares what the processes report with what is wanted, and says what
is missing, again and again. Nothing is remembered that a new broker could not see from the
reports: but for how long it has been waited.

    warming -> voice -> arming -> releasing -> taking -> settling -> flipping -> settled -> ended
                        |    \\-> rearming      |           |
                        v         v            v           v
                        +--------------- undoing -----------------> ended

Before the flip everything can be undone: the old process takes its shards back by itself. After
it there is only forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from broker.core.handover import (
    ARMED,
    GIVEN_UP,
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
)
from broker.core.limits import LifecycleLimits
from shard_node.wire.handover import Phase

_READY: Final = frozenset({Phase.WARM, Phase.ARMED, Phase.TAKING, Phase.HELD})
_TAKES: Final = frozenset({Phase.TAKING, Phase.HELD})
ARM_TRIES: Final = 2


class Transfer:
    """One hand-over. ``source`` is empty where the shards are nobody's.

    ``settle_s``: how long the target must have them before the flip; ``warms`` False: the
    target is a node that has been up for long.
    """

    def __init__(
        self,
        op: str,
        shards: tuple[int, ...],
        source: str,
        target: str,
        limits: LifecycleLimits,
        now: float,
        *,
        settle_s: float,
        warms: bool = True,
        drain_voice_s: float = 0.0,
    ) -> None:
        self.op, self.shards, self.source, self.target = op, shards, source, target
        self.state = State.WARMING
        self.reason = ""
        self._limits = limits
        self._settle_s = settle_s
        self._warms = warms
        self._voice_s = drain_voice_s
        self._due_at: float | None = None
        self._again_at = now
        self._take_due_at: float | None = None
        self._back_due_at: float | None = None
        self._tries = 0
        self._given_up = False
        self._disarmed = False
        self._steps: dict[State, Callable[[Facts, float], list[Command]]] = {
            State.WARMING: self._warming,
            State.VOICE: self._voice,
            State.ARMING: self._arming,
            State.REARMING: self._rearming,
            State.RELEASING: self._releasing,
            State.TAKING: self._taking,
            State.SETTLING: self._settling,
            State.FLIPPING: self._flipping,
            State.SETTLED: self._settled,
            State.UNDOING: self._undoing,
        }

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state is State.ENDED

    def look(self, facts: Facts, now: float) -> list[Command]:
        """What is to be done now. Each look may go on by several states."""
        commands: list[Command] = []
        self._notice(facts)
        before = None
        while self.state is not before and not self.over:
            before = self.state
            commands += self._deaths(facts, now)
            if self.over or self._unheard(facts, now):
                break
            if self.state is before:
                commands += self._steps[self.state](facts, now)
        if self._again_at <= now:
            self._again_at = now + self._limits.told_again_s
        return commands

    def cancel(self, reason: str, now: float) -> bool:
        """Undoes it; False where it is too late for that."""
        if self.state in (State.FLIPPING, State.SETTLED, State.ENDED):
            return False
        self._undo(reason, now)
        return True

    def next_deadline(self) -> float | None:
        """When the next look is due at the latest."""
        if self.state in (State.ENDED, State.WARMING):
            return None
        if self._due_at is None:
            return self._again_at
        return min(self._due_at, self._again_at)

    # --- what holds in every state

    def _notice(self, facts: Facts) -> None:
        source = set(facts.source.values())
        self._given_up |= bool(source & (GIVEN_UP | {Phase.RETAKEN}))
        self._given_up |= bool(set(facts.target.values()) & _TAKES)

    def _deaths(self, facts: Facts, now: float) -> list[Command]:
        if facts.flipped is Flipped.YES:
            if self.state is not State.SETTLED:
                self._enter(State.SETTLED, now, self._limits.release_s)
            return []
        if facts.flipped is Flipped.ASKED:
            # The answer decides what a death now means.
            return []
        if facts.target_lives:
            return []
        if not facts.source_lives:
            self._give_reason(f"{self.source or 'nobody'} and {self.target} ended")
            return self._end("failed")
        if self.state is not State.UNDOING:
            self._undo(f"{self.target} ended", now)
        return []

    def _unheard(self, facts: Facts, now: float) -> bool:
        """Whether a living process has yet to report to a broker that is new. Whose task it
        is to give up one that never does is not ours."""
        if self.state is State.WARMING:
            return False
        source = facts.source_lives and not facts.source
        target = facts.target_lives and not facts.target
        if self.state is State.UNDOING:
            target = target and not self._warms  # else it is killed in any case
        if not source and not (target and self.state is not State.SETTLED):
            return False
        if self._due_at is not None:
            self._due_at = max(self._due_at, now + self._limits.told_again_s)
        return True

    # --- forward

    def _warming(self, facts: Facts, now: float) -> list[Command]:
        if not self._warms or self._all(facts.target, _READY):
            self._enter(State.VOICE, now, self._voice_s)
            return []
        if Phase.FAILED in facts.target.values():
            self._undo(f"{self.target} did not become ready", now)
        elif facts.target_due:
            within = f"within {self._limits.ready_s:g} s ([lifecycle] ready_s)"
            self._undo(f"{self.target} did not become ready {within}", now)
        return []

    def _voice(self, facts: Facts, now: float) -> list[Command]:
        begun = any(facts.target.get(shard) in ARMED for shard in self.shards)
        if begun or self._is_due(now) or not facts.voice or not facts.source_lives:
            self._enter(State.ARMING, now, self._limits.arm_s)
            self._tries += 1
        return []

    def _arming(self, facts: Facts, now: float) -> list[Command]:
        missing = self._missing(facts.target, ARMED)
        if not missing:
            self._enter(State.RELEASING, now, self._limits.release_s)
            return []
        failed = Phase.FAILED in facts.target.values()
        if failed or self._is_due(now):
            why = "could not connect" if failed else "did not connect in time"
            self._give_reason(f"{self.target} {why}")
            if self._tries >= ARM_TRIES:
                self._undo(self.reason, now)
            else:
                self._enter(State.REARMING, now, self._limits.release_s)
            return []
        source = self.source if facts.source_lives else ""
        return self._tell(Arm(missing, source), now)

    def _rearming(self, facts: Facts, now: float) -> list[Command]:
        """A second try begins where the first one has left nothing."""
        held = [shard for shard in self.shards if facts.target.get(shard) in _TAKES]
        if held or not self._left(facts.target, ARMED | {Phase.FAILED}):
            self.reason = ""
            self._enter(State.ARMING, now, self._limits.arm_s)
            self._tries += 1
            return []
        if self._is_due(now):
            self._undo(self.reason, now)
            return []
        return self._tell(Disarm(self.shards, self.reason), now)

    def _releasing(self, facts: Facts, now: float) -> list[Command]:
        if self._lost(facts, now):
            return []
        held = self._still_held(facts)
        if not held:
            self._enter(State.TAKING, now, None)
            return []
        if self._is_due(now):
            shards = ", ".join(map(str, held))
            return self._kill("source", f"did not give up shard {shards} in time", now)
        return self._tell(Release(held), now)

    def _taking(self, facts: Facts, now: float) -> list[Command]:
        limit = now + self._limits.take_s
        if self._take_due_at is None or facts.permit:
            self._take_due_at = max(self._take_due_at or limit, limit)
        self._due_at = self._take_due_at
        if self._lost(facts, now):
            return []
        if self._all(facts.target, frozenset({Phase.HELD})):
            self._enter(State.SETTLING, now, self._settle_s)
            return []
        if self._is_due(now):
            self._undo(f"{self.target} did not take the shards in time", now)
        return []

    def _settling(self, facts: Facts, now: float) -> list[Command]:
        if self._lost(facts, now):
            return []
        if not self._all(facts.target, frozenset({Phase.HELD})):
            self._enter(State.TAKING, now, None)
            return []
        if self._is_due(now):
            self._enter(State.FLIPPING, now, None)
        return []

    def _flipping(self, facts: Facts, now: float) -> list[Command]:
        """A store that takes nothing for now is asked again; what the target has it keeps."""
        if facts.flipped is Flipped.ASKED or self._lost(facts, now):
            return []
        return self._tell(Flip(self.shards), now)

    def _settled(self, facts: Facts, now: float) -> list[Command]:
        """The source is told until it has heard. One that took the shards back meanwhile has
        no right to them, and its death gives them free."""
        if not facts.source_lives:
            return self._end("done")
        waits = self._left(facts.source, GIVEN_UP | {Phase.RETAKEN, Phase.HELD})
        if not waits:
            return self._end("done")
        if Phase.RETAKEN in facts.source.values() or self._is_due(now):
            return self._kill("source", "has shards that are another's for good", now)
        return self._tell(Settle(self.shards), now)

    # --- back

    def _undoing(self, facts: Facts, now: float) -> list[Command]:
        held = self._left(facts.target, ARMED)
        if facts.target_lives and (held or not self._disarmed):
            if held and self._is_due(now):
                return self._kill("target", f"does not let go: {self.reason}", now)
            # Said once in any case: an Arm may be under way to it.
            self._disarmed = True
            told = self._tell(Disarm(self.shards, self.reason), now)
            if held:
                return told
            return [*told, *self._returned(facts, now)]
        return self._returned(facts, now)

    def _returned(self, facts: Facts, now: float) -> list[Command]:
        """The target has nothing: does the source have all of it again?"""
        if not facts.source_lives:
            return self._end("failed")
        if self._left(facts.source, GIVEN_UP):
            if self._back_due_at is None:
                self._back_due_at = now + self._limits.release_s + self._limits.take_s
            self._due_at = self._back_due_at
            if now < self._back_due_at:
                return []
            # It lives, and goes on trying by itself: nobody else may have them.
        return self._end("reverted" if self._given_up else "failed")

    # --- helpers

    def _lost(self, facts: Facts, now: float) -> bool:
        """Whether it can only be undone: begins that."""
        if Phase.RETAKEN in facts.source.values() and facts.source_lives:
            self._undo(f"{self.source} took shards back that {self.target} did not take", now)
            return True
        if Phase.FAILED in facts.target.values():
            self._undo(f"{self.target} failed to take the shards", now)
            return True
        return False

    def _still_held(self, facts: Facts) -> tuple[int, ...]:
        """Shards that the source has to give up yet."""
        if not facts.source_lives:
            return ()
        return tuple(
            shard
            for shard in self.shards
            if facts.source.get(shard) is not Phase.RELEASED
            and facts.target.get(shard) not in _TAKES
        )

    def _undo(self, reason: str, now: float) -> None:
        self._give_reason(reason)
        self._disarmed = False
        self._enter(State.UNDOING, now, self._limits.release_s)

    def _give_reason(self, reason: str) -> None:
        """The first one is what it was about."""
        self.reason = self.reason or reason

    def _end(self, state: str) -> list[Command]:
        self.state = State.ENDED
        self._due_at = None
        return [End(state, "" if state == "done" else self.reason)]

    def _kill(self, who: str, reason: str, now: float) -> list[Command]:
        """Until the death is reported it is asked for again."""
        self._again_at = now + self._limits.told_again_s
        self._due_at = self._again_at
        return [Kill(who, reason)]

    def _enter(self, state: State, now: float, within_s: float | None) -> None:
        self.state = state
        self._due_at = None if within_s is None else now + within_s
        self._again_at = now

    def _is_due(self, now: float) -> bool:
        return self._due_at is not None and now >= self._due_at

    def _tell(self, command: Command, now: float) -> list[Command]:
        if now < self._again_at:
            return []
        self._again_at = now + self._limits.told_again_s
        return [command]

    def _all(self, phases: Mapping[int, Phase], wanted: frozenset[Phase]) -> bool:
        return not self._missing(phases, wanted)

    def _missing(self, phases: Mapping[int, Phase], wanted: frozenset[Phase]) -> tuple[int, ...]:
        return tuple(shard for shard in self.shards if phases.get(shard) not in wanted)

    def _left(self, phases: Mapping[int, Phase], unwanted: frozenset[Phase]) -> bool:
        return any(phases.get(shard) in unwanted for shard in self.shards)
