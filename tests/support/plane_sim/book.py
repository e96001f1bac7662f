"""What was said, what was started, how it ended; and what of that must never be.

A message is handled by one living process, but where its guild moves between two while the
broker is killed: its sender may not know who had it, and then it goes to the new owner too.
That is counted, and is no fault as long as only the simulator moves guilds.

Order is checked within (sender, target, lane) at each receiving process. It is promised while
nothing breaks. A message may start after one that was said later, where between its saying
and its start

- the broker was killed, or the connection of its sender or of its receiver broke, and until
  that peer has registered again: what was on its way is lost, what came after may be through,
  and the lost one is said again;
- its receiver's process died, or its guild got another owner: it goes to the next one behind
  what has gone there straight;
- (all kinds, events too) the receiver's connection broke with frames in its socket that it had
  not read: ZeroMQ hands out those of the old and of the new connection in turn.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

from shard_node.errors import (
    NoHandler,
    QueueFull,
    RemoteError,
    RequestTimeout,
    ShardNodeError,
    Undeliverable,
)
from shard_node.peer.api import Gathered
from shard_node.wire.targets import Node
from tests.support.plane_sim.loop import LoopProcess
from tests.support.plane_sim.world import World

SLACK_S = 0.05
"""How much later than its deadline something may end, besides what its own process lost."""
SEND_ERRORS = (Undeliverable, QueueFull, NoHandler, RemoteError)
REQUEST_ERRORS = (*SEND_ERRORS, RequestTimeout)
EVERYBODY = "*"
ABSENT = Node("zz")
"""A target that nobody is."""
QUIET_S = 2.5
"""So long after the last trouble everybody is as if there had been none."""
PATIENT_S = 3.0
"""A deadline that is long enough for all handlers before it."""


class Say:
    """An event, a message or a request."""

    __slots__ = ("behaviour", "ended", "index", "kind", "lane", "lost_s", "said_at", "sender",
                 "target", "timeout_s", "topic", "uid")  # fmt: skip

    def __init__(
        self, uid: int, sender: LoopProcess, kind: str, target: Any, lane: str, behaviour: str
    ) -> None:
        self.uid, self.sender, self.kind, self.target = uid, sender, kind, target
        self.lane, self.behaviour = lane, behaviour
        self.topic = ""
        self.index = 0
        self.timeout_s = 0.0
        self.said_at = self.lost_s = 0.0
        self.ended = False

    def __str__(self) -> str:
        return f"{self.kind} {self.uid} ({self.sender.name} -> {self.target} {self.lane})"


class Book:
    """The checker."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.says: dict[int, Say] = {}
        self.counts: Counter[str] = Counter()
        self.open: dict[int, Say] = {}
        self._starts: dict[int, list[LoopProcess]] = {}
        self._ends: dict[int, set[str]] = {}
        self._lines: Counter[Any] = Counter()
        self._newest: dict[Any, int] = {}
        self._disturbed: defaultdict[str, float] = defaultdict(lambda: -math.inf)
        self._last_disturbed = -math.inf
        self._moved: dict[Any, float] = {}
        self.tight = False
        self.stopped = 0
        """Processes that are stopped now."""

    # --- what is said

    def said(self, say: Say, timeout_s: float) -> None:
        """Called in the same step as the call that says it."""
        line = (id(say.sender), say.kind == "event", say.target, say.lane)
        self._lines[line] += 1
        say.index = self._lines[line]
        say.said_at, say.timeout_s = self.world.clock(), timeout_s
        say.lost_s = say.sender.lost_s
        self.says[say.uid] = say
        self.world.note(f"say {say}")
        self.counts[say.kind] += 1
        if say.kind != "event":
            self.open[say.uid] = say

    def answered(self, say: Say, result: Any) -> None:
        """``send`` or ``request`` returned."""
        ends = self._ends.get(say.uid, ())
        if "ok" not in ends:
            self.world.fault(f"{say} is acknowledged and was never handled")
        if say.kind == "request" and result != answer_of(say.uid):
            self.world.fault(f"{say} was answered with {result!r}")
        self.counts[f"{say.kind}: {getattr(result, 'outcome', 'answered')}"] += 1
        self._end(say)

    def failed(self, say: Say, error: ShardNodeError) -> None:
        """It raised."""
        self._for_a_reason(say, error)
        declared = SEND_ERRORS if say.kind == "message" else REQUEST_ERRORS
        if not isinstance(error, declared):
            self.world.fault(f"{say} ended with {error!r}")
        self.counts[f"{say.kind}: {type(error).__name__} {error.code}"] += 1
        if isinstance(error, RemoteError) and not {"raised", "died"} & self._ends.get(
            say.uid, set()
        ):
            self.world.fault(f"{say} ended with {error!r}, and no handler raised")
        self._end(say)

    def _for_a_reason(self, say: Say, error: ShardNodeError) -> None:
        """Where nothing broke lately, everything arrives."""
        quiet = self._calm_since(say.said_at - QUIET_S) and say.target != ABSENT
        why = error.code
        if isinstance(error, NoHandler) and say.behaviour != "nobody":
            self.world.fault(f"{say} found no handler: {error}")
        elif why == "E_UNREACHABLE" and quiet:
            self.world.fault(f"{say} is unreachable, and nothing broke: {error}")
        elif why in ("E_EXPIRED", "E_TIMEOUT") and quiet and say.timeout_s >= PATIENT_S:
            self.world.fault(f"{say} is late, and nothing broke: {error}")
        elif isinstance(error, QueueFull) and not self.tight:
            self.world.fault(f"{say} is refused, and the queues are long: {error}")

    def _end(self, say: Say) -> None:
        say.ended = True
        self.open.pop(say.uid, None)
        self._not_late(say)

    def _not_late(self, say: Say) -> None:
        late_s = self.world.clock() - say.said_at - say.timeout_s
        if late_s > SLACK_S + say.sender.lost_s - say.lost_s:
            self.world.fault(f"{say} ended {late_s:.3f} s after its deadline")

    def look_for_late(self) -> None:
        """Those that should have ended and have not."""
        for say in list(self.open.values()):
            if not say.sender.alive:
                del self.open[say.uid]
            elif not say.sender.stalled:
                self._not_late(say)

    def rolled(self, found: Gathered, planned: list[str]) -> None:
        """``gather`` returned."""
        self.counts["roll"] += 1
        if sorted([*found.replies, *found.errors]) != planned:
            self.world.fault(f"of {planned} the roll has {found}")
        wrong = [name for name, reply in found.replies.items() if reply != name]
        if wrong or (found.errors and self._calm_since(self.world.clock() - QUIET_S)):
            self.world.fault(f"nothing broke, and the roll has {found}")

    def no_roll(self, error: ShardNodeError) -> None:
        """It raised."""
        self.counts[f"roll: {type(error).__name__}"] += 1
        if self._calm_since(self.world.clock() - QUIET_S):
            self.world.fault(f"nothing broke, and there is no roll: {error!r}")

    def _calm_since(self, when: float) -> bool:
        return self._last_disturbed < when and not self.stopped

    # --- what is started

    def started(self, uid: int, receiver: LoopProcess) -> Say | None:
        """A handler starts."""
        say = self.says.get(uid)
        if say is None:
            self.world.fault(f"{receiver.name} handles {uid}, which nobody said")
            return None
        before = self._starts.setdefault(uid, [])
        if say.kind == "event":
            if receiver in before:
                self.world.fault(f"{say} came twice to {receiver.name}")
        else:
            self._once(say, before, receiver)
        before.append(receiver)
        self.world.note(f"{receiver.name} starts {say}")
        self._in_order(say, receiver)
        return say

    def _once(self, say: Say, before: list[LoopProcess], receiver: LoopProcess) -> None:
        if receiver in before:
            self.world.fault(f"{say} is handled twice by {receiver.name}")
        for other in before:
            if other.alive and say.target not in self._moved:
                self.world.fault(f"{say} is handled by {other.name} and by {receiver.name}")
            elif other.alive:
                self.counts["handled by both owners of a guild"] += 1

    def _in_order(self, say: Say, receiver: LoopProcess) -> None:
        line = (id(say.sender), say.kind == "event", say.target, say.lane, id(receiver))
        newest = self._newest.get(line, 0)
        if say.index > newest:
            self._newest[line] = say.index
        elif not self._excused(say, receiver):
            self.world.fault(f"{say} starts on {receiver.name} behind a later one")
        else:
            self.counts["reordered by a break"] += 1

    def _excused(self, say: Say, receiver: LoopProcess) -> bool:
        names = (say.sender.called, receiver.called, EVERYBODY)
        last = max(self._disturbed[name] for name in names)
        return max(last, self._moved.get(say.target, -math.inf)) >= say.said_at

    def finished(self, uid: int, how: str) -> None:
        """A handler has ended: ``ok``, ``raised`` or ``died``."""
        self._ends.setdefault(uid, set()).add(how)

    # --- what breaks

    def disturbed(self, name: str) -> None:
        """A connection broke, a peer registers, a process died (for EVERYBODY: the broker)."""
        self._disturbed[name] = self._last_disturbed = self.world.clock()

    def moved(self, target: Any) -> None:
        """A guild has another owner."""
        self._moved[target] = self.world.clock()


def answer_of(uid: int) -> list[int]:
    """What the service answers."""
    return [uid, uid % 7]
