"""Shards that come to this process or leave it while it runs: `shard_node.handing` carried out.

The broker says what is to be done, and is told each phase. Who may connect a shard the
kernel's lock of its journal decides, so a broker, a message or the other process may be missing
at any time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shard_node.bridge.giving import Giving
from shard_node.bridge.onway import Moving
from shard_node.bridge.taking import Taking
from shard_node.effects import StopAsked
from shard_node.handing import Arm, Disarm, Do, Event, Failed, Handing, Happened, Release, Settle
from shard_node.settings import SUCCESSOR
from shard_node.wire.handover import (
    Phase,
    ShardArm,
    ShardDisarm,
    ShardMoved,
    ShardRelease,
    ShardSettle,
)
from shard_node.wire.topics import SHARD_ARM, SHARD_DISARM, SHARD_MOVED, SHARD_RELEASE, SHARD_SETTLE

if TYPE_CHECKING:
    from shard_node.bridge.gateway import NodeShard
    from shard_node.bridge.hold import Hold

_log = logging.getLogger(__name__)

_GAVE: Final = frozenset({Phase.RELEASING, Phase.RELEASED})


class Moves:
    """Of one bot. What others hang in, each to be replaced:

    ``releasing(shard, target)`` before the shard's journal gets its last word;
    ``taken(shard)`` once this process writes the shard's journal;
    ``settled()`` when all shards are the successor's for good (stops the process);
    ``busy(shard)`` whether something here still needs what a shard's caches hold.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._node = hold.node
        self._moving: dict[int, Moving] = {}
        self._closed = False
        self._taking = Taking(hold, self)
        self._giving = Giving(hold, self)
        self.releasing: Callable[[int, str], None] = _nothing
        self.taken: Callable[[int], None] = _nothing
        self.settled: Callable[[], None] = self._stop
        self.busy: Callable[[int], bool] = self._is_busy
        self._acts: dict[Do, Callable[[Moving], None]] = {
            Do.WARM: self._taking.warm,
            Do.CONNECT: self._taking.connect,
            Do.TRY_LOCK: self._taking.try_lock,
            Do.LET_GO: self._taking.let_go,
            Do.TAKE: self._taking.take,
            Do.RETAKE: self._taking.retake,
            Do.DISCONNECT: self._taking.disconnect,
            Do.GIVE: self._giving.give,
            Do.DROP: self._giving.drop,
            Do.LEAVE: self._giving.leave,
            Do.SAY: self._say,
        }

    def serve(self) -> None:
        """Hear what the broker says."""
        hears = self._node.hears
        hears[SHARD_ARM] = self._arm
        hears[SHARD_RELEASE] = self._release
        hears[SHARD_DISARM] = self._disarm
        hears[SHARD_SETTLE] = self._settle

    # --- what the hold says

    def launch(self) -> None:
        """The bot has logged in. A successor warms its shards, and takes none by itself."""
        self._taking.launched.set()
        if self._is_successor:
            for shard in self._node.shards:
                one = self._one(shard)
                if one.handing.phase is Phase.NONE:
                    self._act(one, one.handing.follow())

    def has_left(self, shard: int) -> bool:
        """Whether a shard was given up, or is being."""
        return self._phase(shard) in _GAVE

    def has(self, shard: int) -> str:
        """The operation that hands this shard over now, or nothing."""
        one = self._moving.get(shard)
        settled = (Phase.NONE, Phase.HELD, Phase.RETAKEN, Phase.FAILED)
        return "" if one is None or one.handing.phase in settled else one.handing.op

    def lost(self, shard: NodeShard) -> None:
        """A connection ended that is not its shard's: perhaps one made ahead."""
        one = self._moving.get(shard.id)
        if one is not None and one.ahead is shard:
            one.disconnect()
            self.tell(one, Happened.LOST)

    def joined(self, shard: int, *, resumed: bool) -> None:
        """RESUMED or READY came."""
        one, keeping = self._moving.get(shard), self._hold.keeping
        if one is None or keeping is None or one.handing.phase is not Phase.TAKING:
            return
        one.gap_ms, one.identified = keeping.gap_ms(shard), not resumed
        self.tell(one, Happened.JOINED)

    def begin_stop(self) -> None:
        """The process stops: nothing is taken any more, nor taken back."""
        self._closed = True
        for one in self._moving.values():
            one.close()

    def leave(self) -> None:
        """The process ends."""
        self.begin_stop()
        self._giving.close()
        self._taking.close()

    # --- what the broker says

    def _arm(self, told: ShardArm) -> None:
        for shard in told.shards:
            if problem := self._problem(told.num_shards):
                self._refuse(told.op, shard, problem)
            else:
                self.tell(self._one(shard), Arm(told.op, told.deadline_s))

    def _release(self, told: ShardRelease) -> None:
        for shard in told.shards:
            if problem := self._problem(self._node.num_shards):
                self._refuse(told.op, shard, problem)
            else:
                event = Release(told.op, told.target, told.retake_s, told.reason)
                self.tell(self._one(shard), event)

    def _disarm(self, told: ShardDisarm) -> None:
        for shard in told.shards:
            self.tell(self._one(shard), Disarm(told.op))

    def _settle(self, told: ShardSettle) -> None:
        for shard in told.shards:
            self.tell(self._one(shard), Settle(told.op))

    def _problem(self, num_shards: int) -> str:
        node, hold = self._node, self._hold
        if num_shards != node.num_shards:
            return f"{node.name}#{node.epoch} has shards of {node.num_shards}, not of {num_shards}"
        if hold.keeping is None:
            return f"{node.name}#{node.epoch} has no journal: it cannot hand shards over"
        return f"node {node.name} stops" if hold.stopping or hold.client.is_closed() else ""

    def _refuse(self, op: str, shard: int, error: str) -> None:
        moved = ShardMoved(op, shard, self._node.num_shards, Phase.FAILED, error=error)
        self._node.send_event(SHARD_MOVED, moved)

    # --- one shard

    @property
    def _is_successor(self) -> bool:
        return self._node.settings.role == SUCCESSOR

    def _phase(self, shard: int) -> Phase:
        one = self._moving.get(shard)
        return Phase.NONE if one is None else one.handing.phase

    def _one(self, shard: int) -> Moving:
        one = self._moving.get(shard)
        if one is None:
            here = shard in self._node.shards
            follows = here and self._is_successor
            handing = Handing(owns=here and not follows, follows=follows)
            one = self._moving[shard] = Moving(shard, handing)
        return one

    def tell(self, one: Moving, event: Event) -> None:
        """Something happened to a shard; what follows from it is done in its turn."""
        if self._closed:
            return
        one.events.append(event)
        if one.acting:
            return
        one.acting = True
        try:
            while one.events:
                now = asyncio.get_running_loop().time()
                self._act(one, one.handing.on(one.events.popleft(), now))
        finally:
            one.acting = False
        self._set_timer(one)

    def _act(self, one: Moving, effects: list[Do]) -> None:
        for effect in effects:
            try:
                self._acts[effect](one)
            except Exception as error:
                _log.exception("shard %d: %s failed", one.shard, effect.value)
                one.events.append(Failed(f"{effect.value}: {error!r}"))

    def _set_timer(self, one: Moving) -> None:
        if one.timer is not None:
            one.timer.cancel()
        due = one.handing.next_deadline()
        one.timer = None
        if due is not None:
            loop = asyncio.get_running_loop()
            one.timer = loop.call_at(due, self.tell, one, Happened.TICK)

    # --- telling

    def _say(self, one: Moving) -> None:
        node, handing = self._node, one.handing
        node.table.phased(one.shard, handing.phase, handing.op)
        node.refresh()
        if not handing.op:
            return
        here = handing.phase in (Phase.HELD, Phase.RETAKEN)
        moved = ShardMoved(
            handing.op,
            one.shard,
            node.num_shards,
            handing.phase,
            seq=self._seq(one),
            gap_ms=one.gap_ms if here else -1.0,
            identified=one.identified and here,
            guilds=self._hold.reports.guilds(one.shard),
            error=handing.error,
        )
        node.send_event(SHARD_MOVED, moved)

    def _seq(self, one: Moving) -> int:
        keeping = self._hold.keeping
        if one.tail is not None:
            return one.tail.story.handled_seq
        return 0 if keeping is None else keeping.handled_seq(one.shard)

    def _stop(self) -> None:
        self._node.ask_stop(StopAsked("another process has its shards", None, False))

    def _is_busy(self, shard: int) -> bool:
        keeping = self._hold.keeping
        return keeping is not None and keeping.busy(shard)


def _nothing(*_: object) -> None:
    """Nobody hangs in."""
